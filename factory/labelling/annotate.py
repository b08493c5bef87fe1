"""The teacher labels texts, in one of the ways of `factory.labelling.asking`."""

from collections.abc import Sequence

from factory.events import Progressed, emit
from factory.labelling.asking import (
    CHARS_PER_TOKEN,
    FILES,
    LABEL,
    REASON_TOKENS,
    WAYS,
    Annotation,
    Ask,
    Way,
    requests_of,
    telling_tokens,
)
from factory.labelling.reasons import CHECK_FILES, CHECKS, ReasonCheck, check_reasons
from factory.records import Origin, Rejection, Rows, TextRow, split, text_dataset
from factory.spec import Label, Model
from factory.store import Stage
from factory.teacher import Abstain, Reply, Teacher
from factory.teacher.forecast import Forecast, forecast
from factory.teacher.missing import note_missing
from factory.teacher.repair import REPAIR, Answered, ask_and_read

TYPICAL_TEXT_CHARS = 45
TYPICAL_REASON_CHARS = CHARS_PER_TOKEN * REASON_TOKENS


class AskParams(Model):
    """What every labelling prompt depends on."""

    description: str
    labels: tuple[Label, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Label names in spec order."""
        return tuple(label.name for label in self.labels)


class AnnotateParams(AskParams):
    """What labelling depends on."""

    ask: Ask = "label"
    checks: tuple[ReasonCheck, ...] = ()
    """Of the reasons, where they are asked for."""


Judgement = Answered[Annotation]
"""What the teacher says of one text, and the replies it was read from."""


def annotate_texts(
    params: AskParams, texts: Sequence[str], teacher: Teacher, *, stage: str, way: Way = LABEL
) -> list[Judgement]:
    """Ask the teacher for the label of each text; once more where the reply names none.

    Args:
        params: Task description and labels.
        texts: What to label.
        teacher: Whom to ask; one call a text, as a rule.
        stage: Name under which progress is reported.
        way: How to ask.

    Returns:
        One judgement a text, in order.
    """
    answered: set[int] = set()

    def count(position: int, _answer: Reply | Abstain) -> None:
        answered.add(position)
        emit(Progressed(stage, len(answered), len(texts), "labels"))

    requests = requests_of(way, params.description, params.labels, texts)

    def read(reply: Reply) -> Annotation | Abstain:
        return way.read(reply, params.names)

    return ask_and_read(teacher, requests, read, most_tokens=way.most_tokens(params.names), on_reply=count)


def forecast_labels(params: AskParams, n_texts: int, *, way: Way = LABEL) -> Forecast:
    """Estimate what labelling so many texts of usual length would cost."""
    texts = [f"{number:x<{TYPICAL_TEXT_CHARS}}" for number in range(n_texts)]
    requests = requests_of(way, params.description, params.labels, texts)
    cost = forecast(requests, completion_tokens=way.typical_tokens(params.names))
    if isinstance(params, AnnotateParams) and params.checks:
        said = Annotation(label=params.names[0], probs=None, reason="x" * TYPICAL_REASON_CHARS)
        for name in params.checks:
            asked = CHECKS[name].requests(params.description, params.labels, texts, [said] * n_texts)
            cost += forecast(asked, completion_tokens=telling_tokens(CHECKS[name].answers(params.labels)))
    return cost


def annotate(params: AnnotateParams, *, rows: Rows, teacher: Teacher) -> Rows:
    """Give each row the teacher's label; rows on which it abstains are rejected with the reason.

    Args:
        params: Task description and labels, how to ask, and how to check reasons.
        rows: Any rows; labels they have are neither shown nor kept.
        teacher: Whom to ask; one call a row, and one for each check of its reason.

    Returns:
        Kept rows are silver, with the teacher's distribution or candidate set as `label_probs`, null where it gave
        none. `is_complete` is false when the budget ended first or the teacher was out of reach.
    """
    texts = rows.kept["text"][:]
    judgements = annotate_texts(params, texts, teacher, stage=ANNOTATE.name, way=WAYS[params.ask])
    judgements = check_reasons(params.checks, params.description, params.labels, texts, judgements, teacher)
    return as_rows(rows, judgements, teacher, by=ANNOTATE.name)


def as_rows(rows: Rows, judgements: Sequence[Answered[Annotation]], teacher: Teacher, *, by: str) -> Rows:
    """Give rows what a teacher says of them; where that is of no use they are rejected, `abstain-*`.

    Args:
        rows: What it was asked about.
        judgements: What it said of each of the kept ones.
        teacher: Who said it.
        by: Name of the stage.

    Returns:
        Silver rows. `is_complete` is false where answers are missing that may still come.
    """
    labelled, rejections = [], {}
    for position, (row, judgement) in enumerate(zip(rows.kept, judgements, strict=True)):
        answer = judgement.answer
        if isinstance(answer, Abstain):
            rejections[position] = Rejection(f"abstain-{answer.reason}")
        label, probs = (None, None) if isinstance(answer, Abstain) else (answer.label, answer.probs)
        labelled.append(
            TextRow(
                text=row["text"],
                label=label,
                origin=Origin.SILVER,
                teacher=teacher.identity,
                label_probs=probs,
                replies=(*row["replies"], *judgement.replies),
            )
        )
    result = split(text_dataset(labelled), rejections, by=by)
    return note_missing(result, [judgement.answer for judgement in judgements])


ANNOTATE: Stage[Rows] = Stage("annotate", 5, AnnotateParams, annotate, Rows, files=(*FILES, *CHECK_FILES, REPAIR))
