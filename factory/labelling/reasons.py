"""Is a teacher's reason worth anything? Checks on labels that were given with one (`ask: rationale`).

To add a check: write a function that makes its requests and one that reads a reply, add a line to `CHECKS`, run
`pytest tests/test_reasons.py`.

A reason may be made up after the fact: Turpin et al., "Language Models Don't Always Say What They Think", NeurIPS 2023,
arXiv:2305.04388. `consistency` asks whether it leads to the label at all (simulatability: Hase et al., Findings of
EMNLP 2020, arXiv:2010.04119), `entailment` whether it follows from the text. A label whose reason fails is none, but
an abstention that says which check it failed; such a row is treated like any other the teacher abstained on.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from factory.labelling.asking import (
    LABEL,
    MOST_LABEL_TOKENS,
    TOP_LOGPROBS,
    YES_NO,
    YES_NO_SCHEMA,
    Annotation,
    parse_label,
    requests_of,
    telling_tokens,
)
from factory.prompts import render
from factory.spec import Label
from factory.teacher import Abstain, Message, Reply, Request, Teacher
from factory.teacher.repair import Answered, ask_and_read

PROMPTS = Path(__file__).parent / "prompts"
SYSTEM = PROMPTS / "follows_system.v1.jinja"
USER = PROMPTS / "follows_user.v1.jinja"
UNCHECKED = "unchecked-reason"
"""Why a row has no label whose reason the teacher said nothing usable about."""

ReasonCheck = Literal["consistency", "entailment"]
"""Names of the checks."""
CHECK_FILES = (SYSTEM, USER)


@dataclass(frozen=True)
class Check:
    """One check; a call for each row whose label stands so far."""

    requests: Callable[[str, Sequence[Label], Sequence[str], Sequence[Annotation]], list[Request]]
    """Of the task's description, labels, texts and what was said of them."""
    answers: Callable[[Sequence[Label]], tuple[str, ...]]
    """What a reply may be."""
    passes: Callable[[Annotation, Annotation], bool]
    """Of the label with its reason, and what came of the check."""
    failure: str
    """Why the row then has no label."""


def check_reasons(
    checks: Sequence[ReasonCheck],
    description: str,
    labels: Sequence[Label],
    texts: Sequence[str],
    judged: Sequence[Answered[Annotation]],
    teacher: Teacher,
) -> list[Answered[Annotation]]:
    """Take back the labels whose reasons fail a check.

    Args:
        checks: Which, in this order; what failed one is not asked about again.
        description: What the texts are.
        labels: The labels in spec order.
        texts: What was labelled.
        judged: What the teacher said of each; what has no label or no reason stays as it is.
        teacher: Whom to ask.

    Returns:
        A judgement a text. Abstentions: `inconsistent-reason`, `unfounded-reason`, `unchecked-reason` where the reply
        to a check is of no use, each with the reason as raw text; or why no reply came.
    """
    result = list(judged)
    for name in checks:
        check = CHECKS[name]
        told = {
            at: one.answer for at, one in enumerate(result) if isinstance(one.answer, Annotation) and one.answer.reason
        }
        if not told:
            break
        answers = check.answers(labels)

        def read(reply: Reply, answers: tuple[str, ...] = answers) -> Annotation | Abstain:
            return parse_label(reply, answers)

        requests = check.requests(description, labels, [texts[at] for at in told], list(told.values()))
        found = ask_and_read(teacher, requests, read, most_tokens=MOST_LABEL_TOKENS)
        for (at, given), one in zip(told.items(), found, strict=True):
            answer: Annotation | Abstain = given
            if isinstance(one.answer, Abstain):
                answer = one.answer if one.answer.may_pass else Abstain(UNCHECKED, given.reason, one.answer.key)
            elif not check.passes(given, one.answer):
                answer = Abstain(check.failure, given.reason)
            result[at] = Answered(answer, (*result[at].replies, *one.replies))
    return result


def _from_reason_alone(
    description: str, labels: Sequence[Label], texts: Sequence[str], given: Sequence[Annotation]
) -> list[Request]:
    """Show the reason in place of the text, as any text is shown."""
    return requests_of(LABEL, description, labels, [one.reason for one in given])


def _does_it_follow(
    description: str, labels: Sequence[Label], texts: Sequence[str], given: Sequence[Annotation]
) -> list[Request]:
    system = Message("system", render(SYSTEM, description=description))
    return [
        Request(
            messages=(system, Message("user", render(USER, text=text, reason=one.reason))),
            max_tokens=telling_tokens(YES_NO),
            schema=YES_NO_SCHEMA,
            top_logprobs=TOP_LOGPROBS,
        )
        for text, one in zip(texts, given, strict=True)
    ]


CHECKS: Mapping[ReasonCheck, Check] = {
    "consistency": Check(
        _from_reason_alone,
        lambda labels: tuple(label.name for label in labels),
        lambda given, said: said.label == given.label,
        "inconsistent-reason",
    ),
    "entailment": Check(
        _does_it_follow,
        lambda labels: YES_NO,
        lambda given, said: said.label == YES_NO[0],
        "unfounded-reason",
    ),
}
"""By the name a spec uses."""
