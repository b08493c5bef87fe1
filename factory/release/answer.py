"""What the exported folder itself says to some rows, so that figures are those of what ships, int8 and all."""

from typing import TYPE_CHECKING, Any

from factory.events import Progressed, emit
from factory.records import Predictions, Rows
from factory.release.export import Exported
from factory.release.export_table import as_json_rows
from factory.release.predict import Predictor
from factory.spec import Model
from factory.store import Stage

if TYPE_CHECKING:
    from datasets import Dataset


class AnswerParams(Model):
    """Answering has no parameters."""


def answer(params: AnswerParams, *, exported: Exported, rows: Rows) -> Predictions:
    """Predict the kept rows with the exported folder; probabilities are calibrated."""
    emit(Progressed(ANSWER.name, 0, len(rows.kept), "rows"))
    with exported.on_disk() as folder:
        predictor = Predictor(folder)
        probs = predictor.predict_proba(asked_of(rows.kept))
    return Predictions(predictor.labels, tuple(rows.kept["id"]), probs)


def asked_of(rows: "Dataset") -> list[Any]:
    """Return what a released student is asked: the texts, or the rows of a table as JSON has them."""
    return as_json_rows(rows) if is_table(rows) else list(rows["text"])


def is_table(rows: "Dataset") -> bool:
    """Tell whether rows have cells, not a text."""
    return "features" in rows.column_names


ANSWER = Stage("answer", 1, AnswerParams, answer, Predictions)
