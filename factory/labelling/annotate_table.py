"""The teacher answers rows of a table one by one, as it would without a student: whom the student is compared with."""

from dataclasses import replace
from typing import Any

from factory.labelling.annotate import AskParams, annotate_texts
from factory.labelling.asking import FILES, LABEL, requests_of
from factory.records import Origin, Rejection, Rows, column_of, split
from factory.spec import Label, Model
from factory.spec_table import Table
from factory.store import Stage
from factory.teacher import Abstain, Teacher
from factory.teacher.forecast import CHARS_PER_TOKEN, Forecast, forecast
from factory.teacher.missing import note_missing
from factory.teacher.repair import REPAIR

TYPICAL_CELL = "a value"


class AnnotateTableParams(Model):
    """What every question depends on."""

    description: str
    table: Table
    """Of a classification."""

    @property
    def labels(self) -> tuple[Label, ...]:
        """Spec order."""
        return self.table.labels


def annotate_table(params: AnnotateTableParams, *, rows: Rows, teacher: Teacher) -> Rows:
    """Give each row the teacher's label; rows on which it abstains are rejected with the reason.

    Args:
        params: Description, columns and labels.
        rows: Any rows; labels they have are neither shown nor kept.
        teacher: Whom to ask; one call a row.

    Returns:
        Kept rows are silver, with the teacher's distribution as `label_probs`, null where it gave none. `is_complete`
        is false when the budget ended first or the teacher was out of reach.
    """
    asked = AskParams(description=params.description, labels=params.labels)
    judgements = annotate_texts(asked, row_texts(params.table, rows), teacher, stage=ANNOTATE_TABLE.name)
    rejections = {
        position: Rejection(f"abstain-{one.answer.reason}")
        for position, one in enumerate(judgements)
        if isinstance(one.answer, Abstain)
    }
    answers = [None if isinstance(one.answer, Abstain) else one.answer for one in judgements]
    told: dict[str, list[Any]] = {
        "label": [answer and answer.label for answer in answers],
        "label_probs": [list(answer.probs) if answer and answer.probs else None for answer in answers],
        "origin": [Origin.SILVER.value] * len(answers),
        "teacher": [teacher.identity] * len(answers),
        "replies": [list(one.replies) for one in judgements],
    }
    labelled = rows.kept
    for name, values in told.items():
        feature = labelled.features[name]
        labelled = labelled.remove_columns(name).add_column(name, values, feature=feature)
    result = split(labelled.select_columns(rows.kept.column_names), rejections, by=ANNOTATE_TABLE.name)
    return note_missing(result, [one.answer for one in judgements])


def forecast_rows(params: AnnotateTableParams, n_rows: int) -> Forecast:
    """Estimate what so many rows with cells of usual length would cost."""
    text = "\n".join(f"{column.phrase}: {TYPICAL_CELL}" for column in params.table.columns)
    asked = AskParams(description=params.description, labels=params.labels)
    requests = requests_of(LABEL, params.description, params.labels, [text] * n_rows)
    # Between two rows the cells differ, so nothing behind the system message is read once for all of them.
    own = round(len(text) / CHARS_PER_TOKEN) * n_rows
    found = forecast(requests, completion_tokens=LABEL.typical_tokens(asked.names))
    return replace(found, new_prompt_tokens=found.new_prompt_tokens + own)


def row_texts(table: Table, rows: Rows) -> list[str]:
    """Return what the teacher is shown of each row: a line for each cell that is known, in the words of the spec."""
    phrases = {column.name: column.phrase for column in table.columns}
    return [
        "\n".join(f"{phrases[name]}: {cell}" for name, cell in row.items() if cell is not None)
        for row in column_of(rows.kept, "features").to_pylist()
    ]


ANNOTATE_TABLE: Stage[Rows] = Stage(
    "annotate-holdout", 1, AnnotateTableParams, annotate_table, Rows, files=(*FILES, REPAIR)
)
