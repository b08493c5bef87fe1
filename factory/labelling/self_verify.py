"""The teacher says of its own answers whether they are right, as the last tier of a cascade does.

Madaan, Aggarwal et al., "AutoMix: Automatically Mixing Language Models", NeurIPS 2024, arXiv:2310.12963. One short call
a text, whose log-probabilities of "yes" and "no" are the verification; where the server has none, a few more at
temperature 1, and the share of "yes" among them. What such a number is worth: `factory.evaluation.verification`.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from factory.events import Progressed, emit
from factory.labelling.annotate import AskParams, as_rows
from factory.labelling.asking import (
    CHARS_PER_TOKEN,
    MOST_LABEL_TOKENS,
    TOP_LOGPROBS,
    YES_NO,
    YES_NO_SCHEMA,
    Annotation,
    parse_label,
)
from factory.labelling.distribution import written
from factory.prompts import render
from factory.records import Rows
from factory.store import Stage
from factory.teacher import Abstain, Message, Reply, Request, Teacher
from factory.teacher.repair import REPAIR, Answered, ask_and_read

PROMPTS = Path(__file__).parent / "prompts"
SYSTEM = PROMPTS / "self_verify_system.v1.jinja"
USER = PROMPTS / "self_verify_user.v1.jinja"
N_SAMPLES = 5
"""Asked where there are no log-probabilities."""
FIRST_TOKENS = 2 + len(written(YES_NO[0])) // CHARS_PER_TOKEN


def verify_answers(
    params: AskParams, texts: Sequence[str], labels: Sequence[str], teacher: Teacher, *, stage: str
) -> list[Answered[Annotation]]:
    """Ask the teacher whether labels are right.

    Args:
        params: Task description and labels.
        texts: Texts that have been answered.
        labels: The answer to each.
        teacher: Whom to ask; one call a text, six where its server has no log-probabilities.
        stage: Name under which progress is reported.

    Returns:
        For each text `yes` or `no` with the probabilities of both; or why there is no usable answer.
    """
    asked: set[int] = set()

    def count(position: int, _answer: Reply | Abstain) -> None:
        asked.add(position)
        emit(Progressed(stage, len(asked), len(texts), "answers"))

    requests = _requests(params, texts, labels)
    first = ask_and_read(teacher, requests, _read, most_tokens=MOST_LABEL_TOKENS, on_reply=count)
    blank = [at for at, one in enumerate(first) if isinstance(one.answer, Annotation) and one.answer.probs is None]
    again = [
        replace(requests[at], sampling_temperature=1.0, top_logprobs=0, sample=number)
        for at in blank
        for number in range(1, N_SAMPLES + 1)
    ]
    samples = ask_and_read(teacher, again, _read, most_tokens=MOST_LABEL_TOKENS) if again else []
    for number, at in enumerate(blank):
        first[at] = _counted(first[at], samples[N_SAMPLES * number : N_SAMPLES * (number + 1)])
    return first


def self_verify(params: AskParams, *, rows: Rows, teacher: Teacher) -> Rows:
    """Verify what the teacher answered to rows.

    Args:
        params: Task description and labels.
        rows: Rows with the teacher's answer as label.
        teacher: The same teacher.

    Returns:
        The kept ones of these rows with the label `yes` or `no` and the probabilities of both, in this order, as
        `label_probs`; rejected where there is no usable answer, `abstain-*`. `is_complete` is false when the budget
        ended first or the teacher was out of reach.
    """
    judged = verify_answers(params, rows.kept["text"], rows.kept["label"], teacher, stage=SELF_VERIFY.name)
    return as_rows(rows, judged, teacher, by=SELF_VERIFY.name)


def _requests(params: AskParams, texts: Sequence[str], labels: Sequence[str]) -> list[Request]:
    named = [{"quoted": written(label.name), "phrase": label.phrase} for label in params.labels]
    system = Message("system", render(SYSTEM, description=params.description, labels=named))
    return [
        Request(
            messages=(system, Message("user", render(USER, text=text, quoted=written(label)))),
            max_tokens=FIRST_TOKENS,
            schema=YES_NO_SCHEMA,
            top_logprobs=TOP_LOGPROBS,
        )
        for text, label in zip(texts, labels, strict=True)
    ]


def _read(reply: Reply) -> Annotation | Abstain:
    return parse_label(reply, YES_NO)


def _counted(first: Answered[Annotation], samples: Sequence[Answered[Annotation]]) -> Answered[Annotation]:
    """Make a probability of how often yes was said, the first reply included, and one more of either."""
    replies = tuple(key for one in (first, *samples) for key in one.replies)
    missing = next((one.answer for one in samples if isinstance(one.answer, Abstain) and one.answer.may_pass), None)
    if missing is not None:  # fewer samples would be another measure than that of the rows it is compared with
        return Answered(missing, replies)
    counts = Counter(one.answer.label for one in (first, *samples) if isinstance(one.answer, Annotation))
    yes = (counts["yes"] + 1) / (counts.total() + 2)
    return Answered(Annotation(label="yes" if yes >= 0.5 else "no", probs=(yes, 1 - yes)), replies)


SELF_VERIFY: Stage[Rows] = Stage("self-verify", 1, AskParams, self_verify, Rows, files=(SYSTEM, USER, REPAIR))
