"""Ways to ask a teacher for the label of a text: what the prompt says, what the schema forces, how a reply is read.

To add a way: write its prompts and a function that reads a reply, add a line to `WAYS`, run
`pytest tests/test_asking.py`.

Every prompt asks for exactly what the schema then forces: one that ended in `Label:` made the embedded model want a
bare name where the schema put a quotation mark, and it was right on 0.42 of 100 AG News rows; asked for the label in
double quotes, on 0.70 (docs/log.md).
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from factory.labelling.distribution import QUOTE, label_distribution, written
from factory.prompts import render
from factory.spec import Label, Model
from factory.teacher import Abstain, Message, Reply, Request
from factory.teacher.forecast import n_shared

PROMPTS = Path(__file__).parent / "prompts"
SYSTEM = PROMPTS / "label_system.v2.jinja"
USER = PROMPTS / "label_user.v2.jinja"
YES_NO = ("yes", "no")
YES_NO_SCHEMA = {"type": "string", "enum": list(YES_NO)}
"""Of questions about an answer that was given."""
TOP_LOGPROBS = 20
"""The most that OpenAI's own API reports."""
CHARS_PER_TOKEN = 4
"""Of label names, about; where they have more tokens than that, the teacher is asked twice."""
MOST_CANDIDATES = 4
"""Labels in a candidate set: one that holds more says little, and a list without end would fill the reply."""
REASON_TOKENS = 40
"""What a reason of fifteen words takes, with the object around it."""
MOST_REASON_TOKENS = 120
"""No schema bounds its length: `maxLength` makes llama.cpp's grammar 40 times slower."""


class Annotation(Model):
    """The teacher's label for one text."""

    label: str
    probs: tuple[float, ...] | None
    """A distribution over labels, where the server gave log-probabilities or the teacher named several labels."""
    reason: str = ""
    """Where one was asked for."""


@dataclass(frozen=True)
class Way:
    """One way to ask; the functions take the names of the labels."""

    system: Path
    user: Path
    schema: Callable[[Sequence[str]], dict[str, Any]]
    read: Callable[[Reply, Sequence[str]], Annotation | Abstain]
    first_tokens: Callable[[Sequence[str]], int]
    """Room for a reply; one that is cut off is asked for again with the most room."""
    most_tokens: Callable[[Sequence[str]], int]
    typical_tokens: Callable[[Sequence[str]], int]
    """What is usually written, for forecasts."""
    top_logprobs: int = 0
    in_reverse: bool = False
    """Whether the prompt names the labels from the last to the first."""


def requests_of(way: Way, description: str, labels: Sequence[Label], texts: Sequence[str]) -> list[Request]:
    """Write the prompt of each text; all share the system message, so a server computes it once.

    Args:
        way: How to ask.
        description: What the texts are.
        labels: The labels in spec order.
        texts: What to label.

    Returns:
        One request a text, in order.
    """
    shown = labels[::-1] if way.in_reverse else labels
    named = [{"quoted": written(label.name), "phrase": label.phrase} for label in shown]
    system = Message("system", render(way.system, description=description, labels=named))
    names = [label.name for label in labels]
    return [
        Request(
            messages=(system, Message("user", render(way.user, text=text))),
            max_tokens=way.first_tokens(names),
            schema=way.schema(names),
            top_logprobs=way.top_logprobs,
        )
        for text in texts
    ]


def telling_tokens(names: Sequence[str]) -> int:
    """Guess how many tokens of a reply tell each label from all others, the quotation mark included."""
    # A teacher that writes no more labels 1.4 times as many texts a minute.
    spelled = sorted(written(name) for name in names)
    # In sorted order the longest prefix that two labels share is one of two neighbours.
    shared = max(n_shared(one, other) for one, other in pairwise(spelled))
    return 1 + math.ceil((shared + 1 - len(QUOTE)) / CHARS_PER_TOKEN)


def parse_label(reply: Reply, labels: Sequence[str]) -> Annotation | Abstain:
    """Read a label from a reply, whole or cut off where only one label begins so; anything else is an abstention."""
    if reply.finish_reason == "length":
        meant = [label for label in labels if written(label).startswith(reply.text)]
        if len(meant) != 1:
            return Abstain("truncated", reply.text)
        return Annotation(label=meant[0], probs=label_distribution(reply.logprobs, labels))
    answer = _parse_json(reply)
    if isinstance(answer, Abstain):
        return answer
    if answer not in labels:
        return Abstain("unknown-label", reply.text)
    return Annotation(label=answer, probs=label_distribution(reply.logprobs, labels))


def parse_candidates(reply: Reply, labels: Sequence[str]) -> Annotation | Abstain:
    """Read a candidate set: all its labels are as probable, and the one named first stands for it."""
    answer = _parse_json(reply)
    if isinstance(answer, Abstain):
        return answer
    if not isinstance(answer, list) or not answer:
        return Abstain("unparseable", reply.text)
    if any(one not in labels for one in answer):
        return Abstain("unknown-label", reply.text)
    found = list(dict.fromkeys(answer))
    return Annotation(label=found[0], probs=tuple((label in found) / len(found) for label in labels))


def parse_rationale(reply: Reply, labels: Sequence[str]) -> Annotation | Abstain:
    """Read the label after a reason; it has no distribution, for once a reason is written the label follows from it."""
    answer = _parse_json(reply)
    if isinstance(answer, Abstain):
        return answer
    if not isinstance(answer, dict) or not isinstance(answer.get("reason"), str) or not answer["reason"].strip():
        return Abstain("unparseable", reply.text)
    if answer.get("label") not in labels:
        return Abstain("unknown-label", reply.text)
    return Annotation(label=answer["label"], probs=None, reason=answer["reason"])


def _parse_json(reply: Reply) -> Any:
    if reply.finish_reason == "length":
        return Abstain("truncated", reply.text)
    try:
        return json.loads(reply.text)
    except (ValueError, RecursionError):  # ten thousand opening brackets are valid enough to nest
        return Abstain("unparseable", reply.text)


def _one_of(names: Sequence[str]) -> dict[str, Any]:
    return {"type": "string", "enum": list(names)}


def _some_of(names: Sequence[str]) -> dict[str, Any]:
    return {"type": "array", "items": _one_of(names), "minItems": 1, "maxItems": min(len(names), MOST_CANDIDATES)}


def _reason_then_label(names: Sequence[str]) -> dict[str, Any]:
    """The order of the keys is the order of writing."""
    properties = {"reason": {"type": "string"}, "label": _one_of(names)}
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def _list_tokens(names: Sequence[str], n_labels: int) -> int:
    longest = sorted((len(written(name)) for name in names), reverse=True)[:n_labels]
    return 2 + sum(2 + math.ceil(2 * n_chars / CHARS_PER_TOKEN) for n_chars in longest)


MOST_LABEL_TOKENS = 64
"""For a whole label, where its first tokens do not tell it from the others."""


def _one_label(system: Path = SYSTEM, *, in_reverse: bool = False) -> Way:
    return Way(
        system,
        USER,
        _one_of,
        parse_label,
        first_tokens=telling_tokens,
        most_tokens=lambda names: MOST_LABEL_TOKENS,
        typical_tokens=telling_tokens,
        top_logprobs=TOP_LOGPROBS,
        in_reverse=in_reverse,
    )


Ask = Literal["label", "names-only", "reversed", "candidates", "rationale"]
"""Names of the ways."""
LABEL = _one_label()
WAYS: Mapping[Ask, Way] = {
    "label": LABEL,
    "names-only": _one_label(PROMPTS / "names_system.v1.jinja"),
    # What stands first in a prompt is liked more, or less, whatever the text: Zheng et al., "Large Language Models Are
    # Not Robust Multiple Choice Selectors", ICLR 2024, arXiv:2309.03882. Two orders lean in two directions.
    "reversed": _one_label(in_reverse=True),
    # Xia et al., "Prompt Candidates, then Distill: A Teacher-Student Framework for LLM-driven Data Annotation",
    # ACL 2025, arXiv:2506.03857.
    "candidates": Way(
        PROMPTS / "candidates_system.v1.jinja",
        PROMPTS / "candidates_user.v1.jinja",
        _some_of,
        parse_candidates,
        first_tokens=lambda names: _list_tokens(names, 2),
        most_tokens=lambda names: _list_tokens(names, MOST_CANDIDATES) + MOST_LABEL_TOKENS,
        typical_tokens=lambda names: _list_tokens(names, 2) // 2,
    ),
    "rationale": Way(
        PROMPTS / "rationale_system.v1.jinja",
        PROMPTS / "rationale_user.v1.jinja",
        _reason_then_label,
        parse_rationale,
        first_tokens=lambda names: REASON_TOKENS + _list_tokens(names, 1) + REASON_TOKENS,
        most_tokens=lambda names: MOST_REASON_TOKENS + MOST_LABEL_TOKENS,
        typical_tokens=lambda names: REASON_TOKENS + telling_tokens(names),
    ),
}
"""By the name a spec uses."""
FILES = tuple(sorted({path for way in WAYS.values() for path in (way.system, way.user)}))
"""All prompts."""
