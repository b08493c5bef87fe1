"""`factory why`: one row from the prompt that wrote it to its place in the training set, or to what dropped it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from factory.spec import Prices
from factory.students.training import taught_rows
from factory.teacher import REPLIES_FILE, Reply
from factory.teacher.budget import Spending
from factory.teacher.replies import Replies
from factory.teacher.wire import decode, usage_of
from flows.builds import Build
from flows.evidence import Line, Step
from flows.shelf import Shelf, find_row
from flows.steps import SHOWN_ONLY

SHOWS_REAL_ROWS = "only to show what real rows would give"


@dataclass(frozen=True)
class Verdict:
    """What one stage did with the row."""

    stage: str
    fingerprint: str
    outcome: str
    """`kept`, `rejected`, `left-out` (neither kept nor rejected: it was not drawn), `predicted`, or `learned`."""
    label: str | None = None
    label_probs: dict[str, float] | None = None
    """Soft label, by label where the stage names them."""
    weight: float | None = None
    reason: str | None = None
    score: float | None = None
    """The number a rejection was decided on; of a prediction the probability."""
    position: int | None = None
    """Place among the rows, from 1."""
    n_rows: int | None = None
    note: str = ""


@dataclass(frozen=True)
class ReplyInfo:
    """One reply of the teacher that stands behind the row."""

    key: str
    asked_by: str
    """The stage after which the row names it."""
    problem: str = ""
    """Why the rest is not known; empty when it is."""
    endpoint: str = ""
    model: str = ""
    messages: tuple[dict[str, str], ...] = ()
    reply: str = ""
    finish_reason: str = ""
    sample: int | None = None
    """Sampling seed."""
    sampling_temperature: float | None = None
    max_tokens: int | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    seconds: float | None = None
    usd: float | None = None
    """None when the price is not known."""
    written_at: str = ""


@dataclass(frozen=True)
class History:
    """What became of the row in one build."""

    build: str
    started_at: str
    is_newest: bool
    summary: str
    origin: str
    strategy: str
    teacher: str
    parents: tuple[str, ...]
    replies: tuple[ReplyInfo, ...]
    draws_on: tuple[str, ...]
    """Keys of replies from which the strategy drew what the prompt mentions."""
    verdicts: tuple[Verdict, ...]


@dataclass(frozen=True)
class Why:
    """The whole story of a row; the newest build that has it comes first."""

    id: str
    text: str
    task: str
    histories: tuple[History, ...]

    def as_json(self) -> dict[str, Any]:
        """Return it for programs."""
        return asdict(self)


def why(query: str, outputs: Path, *, task: str | None = None) -> Why:
    """Trace a row.

    Args:
        query: Id of the row, the beginning of one, or the exact text.
        outputs: Where builds are.
        task: Name or folder of the task; default: whichever has the row.

    Returns:
        Its text, replies and verdicts, build by build.

    Raises:
        ArtifactMissing: No such row or task, or nothing is stored.
        FactoryError: Several rows are meant, or several tasks have the row.
    """
    shelf, wanted = find_row(query, outputs, task=task)
    with Replied(outputs / REPLIES_FILE) as replied:
        histories = [_history(build, shelf, wanted, replied) for build in shelf.builds]
    told = tuple(history for history in histories if history.verdicts)
    return Why(wanted, shelf.text_of(wanted), shelf.root.name, told)


class Replied:
    """The reply store and its ledger, where there are any; nothing is made."""

    def __init__(self, path: Path) -> None:
        self._replies = Replies(path)
        self._exists = path.is_file()
        self._failures = {failure.key: failure for failure in self._replies.ledger.failures()}

    def __enter__(self) -> "Replied":
        return self

    def __exit__(self, *_: object) -> None:
        self._replies.close()

    def info(self, key: str, asked_by: str, build: Build) -> ReplyInfo:
        """Describe a reply, or say why it is not there."""
        found = self._replies.find(key) if self._exists else None
        if found is None:
            failure = self._failures.get(key)
            if failure is None:
                return ReplyInfo(key, asked_by, problem="no longer in the reply store")
            tries = f"{failure.attempts} attempt{'s' if failure.attempts != 1 else ''}"
            problem = f"{failure.reason} after {tries}: {failure.detail}"
            return ReplyInfo(key, asked_by, problem, failure.endpoint, seconds=failure.seconds)
        usage = usage_of(found.reply)
        answer = decode(found.reply, found.payload)
        payload = found.payload
        prices = build.other_prices.get(found.endpoint, build.prices)
        return ReplyInfo(
            key,
            asked_by,
            endpoint=found.endpoint,
            model=str(payload.get("model", "")),
            messages=tuple({"role": one["role"], "content": one["content"]} for one in payload.get("messages", ())),
            reply=answer.text if isinstance(answer, Reply) else answer.raw,
            finish_reason=answer.finish_reason if isinstance(answer, Reply) else f"{answer.reason}: no answer",
            sample=found.sample,
            sampling_temperature=payload.get("temperature"),
            max_tokens=payload.get("max_tokens", payload.get("max_completion_tokens")),
            prompt_tokens=usage.prompt_tokens if usage else None,
            completion_tokens=usage.completion_tokens if usage else None,
            seconds=found.seconds,
            usd=_cost(usage.prompt_tokens, usage.completion_tokens, prices) if usage else None,
            written_at=found.written_at,
        )


def _cost(prompt_tokens: int, completion_tokens: int, prices: Prices | None) -> float | None:
    return None if prices is None else Spending(prices=prices).cost_usd(prompt_tokens, completion_tokens)


def _history(build: Build, shelf: Shelf, wanted: str, replied: Replied) -> History:
    """Follow a row through one build."""
    verdicts: list[Verdict] = []
    lines: list[tuple[Step, Line]] = []
    for step in shelf.steps(build):
        if step.has_rows:
            found = _lines_of(step, wanted)
            lines += [(step, line) for line in found]
            verdicts += [_verdict(step, line) for line in found] or _left_out(step, shelf, wanted)
        elif step.predictions is not None:
            verdicts += _predicted(step, wanted)
        elif step.fit is not None:
            verdicts += _learned(step, shelf, wanted)
    asked_by: dict[str, str] = {}
    for step, line in lines:
        for key in line["replies"]:
            asked_by.setdefault(key, step.name)
    first = lines[0][1] if lines else {}
    return History(
        build=build.name,
        started_at=build.started_at,
        is_newest=build is shelf.builds[0],
        summary=_summary(verdicts, build, shelf),
        origin=first.get("origin", ""),
        strategy=first.get("strategy", ""),
        teacher=next((line["teacher"] for _, line in lines if line["teacher"]), ""),
        parents=tuple(first.get("parents", ())),
        replies=tuple(replied.info(key, stage, build) for key, stage in asked_by.items()),
        draws_on=tuple(dict.fromkeys(key for step, line in lines for key in _asked_before(step, line))),
        verdicts=tuple(verdicts),
    )


def _asked_before(step: Step, line: Line) -> list[str]:
    asked: dict[str, list[str]] = step.report.get("replies", {})
    return asked.get(line["label"], [])


def _lines_of(step: Step, wanted: str) -> list[Line]:
    """Return a row as a stage left it, with its place; once for each time the text came."""
    return [
        {**table.line(position), "position": position + 1, "n_rows": len(table)}
        for table in (step.kept, step.rejected)
        for position in table.positions(wanted)
    ]


def _verdict(step: Step, line: Line) -> Verdict:
    is_kept = "reason" not in line
    return Verdict(
        step.name,
        step.folder.name,
        "kept" if is_kept else "rejected",
        label=line["label"],
        label_probs=_by_label(step, line["label_probs"]),
        weight=line["weight"],
        reason=line.get("reason"),
        score=line.get("score"),
        position=line["position"] if is_kept else None,
        n_rows=line["n_rows"] if is_kept else None,
        note=_note(step, line),
    )


def _by_label(step: Step, probs: Sequence[float] | None) -> dict[str, float] | None:
    if probs is None:
        return None
    labels = step.manifest["key"]["params"].get("labels", [])
    names = [label["name"] if isinstance(label, dict) else label for label in labels]
    named = names if len(names) == len(probs) else [str(column) for column in range(len(probs))]
    return dict(zip(named, probs, strict=True))


def _note(step: Step, line: Line) -> str:
    """Say what the report adds about a row."""
    for match in step.report.get("matches", ()):
        if match["id"] == line["id"] and "reason" in line:
            where = f" of the {match['in']}" if "in" in match else ""
            return f"too near to row {match['of']}{where}"
    for change in step.report.get("relabelled", ()):
        if change["id"] == line["id"]:
            return f"relabelled from {change['from']} to {change['to']}"
    return ""


def _left_out(step: Step, shelf: Shelf, wanted: str) -> list[Verdict]:
    """Say that a stage was given the row and returned it nowhere, as a sample does."""
    given = shelf.having(step.inputs["rows"]) if "rows" in step.inputs else None
    if given is None or not given.has_rows or wanted not in given.kept:
        return []
    return [Verdict(step.name, step.folder.name, "left-out", note=f"not among the {len(step.kept):,} rows it drew")]


def _predicted(step: Step, wanted: str) -> list[Verdict]:
    made = step.predictions
    if made is None or wanted not in made.ids:
        return []
    probs = dict(zip(made.labels, made.probs[made.ids.index(wanted)].tolist(), strict=True))
    label = max(probs, key=lambda name: probs[name])
    return [Verdict(step.name, step.folder.name, "predicted", label=label, label_probs=probs, score=probs[label])]


def _learned(step: Step, shelf: Shelf, wanted: str) -> list[Verdict]:
    """Say what a student was taught of the row."""
    params, rows = step.fit, shelf.having(step.inputs["rows"])
    if params is None or rows is None or wanted not in rows.kept:
        return []
    taught = taught_rows(params, rows.load_rows())
    names = [label.name for label in params.labels]
    verdicts = []
    for position in rows.kept.positions(wanted):
        line = taught[position]
        probs = line["label_probs"]
        verdicts.append(
            Verdict(
                step.name,
                step.folder.name,
                "learned",
                label=line["label"],
                label_probs=None if probs is None else dict(zip(names, probs, strict=True)),
                weight=line["weight"],
                position=position + 1,
                n_rows=len(rows.kept),
                note=SHOWS_REAL_ROWS if step.name in SHOWN_ONLY else "",
            )
        )
    return verdicts


def _summary(verdicts: Sequence[Verdict], build: Build, shelf: Shelf) -> str:
    """Say in a line what became of the row."""
    learned = [one for one in verdicts if one.outcome == "learned" and not one.note]
    if learned:
        one = learned[0]
        return f"in the training set: row {one.position:,} of {one.n_rows:,}, as {one.label}, weight {one.weight:.3g}"
    rejected = [one for one in verdicts if one.outcome == "rejected"]
    if rejected:
        one = rejected[-1]
        score = "" if one.score is None else f" ({one.score:.3g})"
        return f"dropped by {one.stage}: {one.reason}{score}" + (f", {one.note}" if one.note else "")
    if any(step.fit for step in shelf.steps(build)):
        return "no training row"
    return "kept so far; no student has been trained in this build"
