"""Rows for Argilla and Label Studio, and back.

Argilla: the list of `Record.to_dict` that `dataset.records.to_json` writes and `from_json` reads (SDK 2.x). Questions:
`label` (LabelQuestion), and if people may do more `reject` (LabelQuestion with the one label `reject`) and `edit`
(TextQuestion). Label Studio: its JSON tasks with predictions; annotations come back in its JSON export, not JSON-MIN.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

from factory.data import WrongRow
from factory.errors import Problem
from factory.labelling.review_opinions import Opinion
from factory.labelling.review_rows import ReviewRow
from factory.spec_errors import shown

AGENT = "factory"
LABEL, REJECT, EDIT = "label", "reject", "edit"
"""Names of the questions."""


def argilla_records(rows: Sequence[ReviewRow]) -> str:
    """Write rows as Argilla's records."""
    return _dump([_record(row) for row in rows])


def label_studio_tasks(rows: Sequence[ReviewRow]) -> str:
    """Write rows as Label Studio's tasks, the label a row has as prediction."""
    return _dump([_task(row) for row in rows])


def label_studio_config(labels: Sequence[str]) -> str:
    """Write the labelling interface that such tasks need."""
    choices = "\n".join(f"    <Choice value={quoteattr(label)}/>" for label in labels)
    return f"""<View>
  <Text name="text" value="$text"/>
  <Choices name="{LABEL}" toName="text" choice="single" showInLine="true">
{choices}
  </Choices>
  <Choices name="{REJECT}" toName="text" choice="single">
    <Choice value="{REJECT}"/>
  </Choices>
  <TextArea name="{EDIT}" toName="text" maxSubmissions="1" placeholder="new text"/>
</View>
"""


def read_json(path: Path, problems: list[Problem]) -> Iterator[Opinion]:
    """Read what people said in Argilla or Label Studio; which of them it was is seen by the keys.

    Args:
        path: The file.
        problems: Gets what is wrong with it.

    Yields:
        What each person said of each row; a row about which nobody said anything once.
    """
    try:
        entries = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        problems.append(Problem(path, None, "", f"not JSON that can be read: {error}"[:300]))
        return
    if not isinstance(entries, list):
        problems.append(Problem(path, None, "", f"expected a list of records or tasks, got {shown(entries)}"))
        return
    for number, entry in enumerate(entries, start=1):
        where = f"row {number}"
        try:
            yield from _opinions(entry, where)
        except WrongRow as error:
            problems.append(Problem(path, None, where, str(error)))


def _opinions(entry: Any, where: str) -> list[Opinion]:
    if isinstance(entry, dict) and isinstance(entry.get("fields"), dict):
        return _of_record(entry, where)
    if isinstance(entry, dict) and isinstance(entry.get("data"), dict):
        return _of_task(entry, where)
    hint = "export as JSON, not as JSON-MIN" if isinstance(entry, dict) and "annotator" in entry else "see docs"
    raise WrongRow(f"expected an Argilla record (`fields`) or a Label Studio task (`data`): {hint}")


def _record(row: ReviewRow) -> dict[str, Any]:
    suggested = {"value": row.label, "score": _score(row), "agent": AGENT}
    return {
        "id": row.id,
        "fields": {"text": row.text},
        "metadata": {"state": row.state, "strategy": row.strategy or "real"},
        "suggestions": {} if row.label is None else {LABEL: suggested},
        "responses": {},
        "vectors": {},
        "status": "pending",
        "_server_id": None,
    }


def _of_record(entry: Mapping[str, Any], where: str) -> list[Opinion]:
    id_, text = _identity(entry.get("id"), entry["fields"].get("text"), "`id`")
    responses = entry.get("responses") or {}
    if not isinstance(responses, dict):
        raise WrongRow("expected `responses` by question")
    by_user: dict[str, dict[str, Any]] = {}
    for question in (LABEL, REJECT, EDIT):
        for response in _listed(responses.get(question), f"responses to the question {question}"):
            if not isinstance(response, dict) or "value" not in response:
                raise WrongRow(f"expected responses with a `value` to the question {question}")
            if response.get("status", "submitted") == "submitted":
                by_user.setdefault(str(response.get("user_id", "")), {})[question] = response["value"]
    said = [_opinion(id_, text, answers, f"argilla {user}" if user else "", where) for user, answers in by_user.items()]
    return said or [Opinion(None, id_, text, where=where)]


def _task(row: ReviewRow) -> dict[str, Any]:
    choice = {"from_name": LABEL, "to_name": "text", "type": "choices", "value": {"choices": [row.label]}}
    prediction = {"model_version": AGENT, "score": _score(row), "result": [choice]}
    data = {"text": row.text, "row": row.id, "state": row.state, "strategy": row.strategy or "real"}
    return {"data": data, "predictions": [] if row.label is None else [prediction], "annotations": []}


def _of_task(entry: Mapping[str, Any], where: str) -> list[Opinion]:
    id_, text = _identity(entry["data"].get("row"), entry["data"].get("text"), "`row` in the `data`")
    said = []
    for annotation in _listed(entry.get("annotations"), "`annotations`"):
        if not isinstance(annotation, dict) or not isinstance(annotation.get("result"), list):
            raise WrongRow("expected annotations with a `result`")
        if annotation.get("was_cancelled"):
            continue  # skipped: nothing was said
        answers = dict(map(_answer, annotation["result"]))
        said.append(_opinion(id_, text, answers, _annotator(annotation.get("completed_by")), where))
    return said or [Opinion(None, id_, text, where=where)]


def _answer(part: Any) -> tuple[str, Any]:
    value = part.get("value") if isinstance(part, dict) else None
    if not isinstance(value, dict):
        raise WrongRow("expected a `value` in each part of a `result`")
    given = value.get("choices") or value.get("text") or [None]
    given = [given] if isinstance(given, str) else given
    if not isinstance(given, list) or len(given) != 1:
        raise WrongRow(f"expected one choice, got {shown(given)}")
    return str(part.get("from_name")), given[0]


def _annotator(given: Any) -> str:
    if isinstance(given, dict):
        given = given.get("email") or given.get("id")
    return "" if given is None else f"label-studio {given}"


def _opinion(id_: str, text: str | None, answers: Mapping[str, Any], by: str, where: str) -> Opinion:
    for question, value in answers.items():
        if value is not None and not isinstance(value, str):
            raise WrongRow(f"expected text as answer to {question}, got {shown(value)}")
    edit = answers.get(EDIT) or None
    return Opinion(None, id_, text, answers.get(LABEL) or None, answers.get(REJECT) == REJECT, edit, by, where)


def _listed(given: Any, name: str) -> list[Any]:
    if given is not None and not isinstance(given, list):
        raise WrongRow(f"expected {name} as a list, got {shown(given)}")
    return given or []


def _identity(id_: Any, text: Any, name: str) -> tuple[str, str | None]:
    if not isinstance(id_, str) or not id_.strip():
        raise WrongRow(f"{name} must be the id of an exported row, got {shown(id_)}")
    return id_.strip(), text if isinstance(text, str) else None


def _score(row: ReviewRow) -> float | None:
    probability = row.probabilities.get(row.label or "")
    return None if probability is None else round(probability, 6)


def _dump(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, indent=1) + "\n"
