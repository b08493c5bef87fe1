"""What the exported folder itself says to some rows, so that figures are those of what ships, int8 and all."""

from factory.events import Progressed, emit
from factory.records import Predictions, Rows
from factory.release.export import Exported
from factory.release.predict import Predictor
from factory.spec import Model
from factory.store import Stage


class AnswerParams(Model):
    """Answering has no parameters."""


def answer(params: AnswerParams, *, exported: Exported, rows: Rows) -> Predictions:
    """Predict the kept rows with the exported folder; probabilities are calibrated."""
    emit(Progressed(ANSWER.name, 0, len(rows.kept), "rows"))
    with exported.on_disk() as folder:
        predictor = Predictor(folder)
        probs = predictor.predict_proba(list(rows.kept["text"]))
    return Predictions(predictor.labels, tuple(rows.kept["id"]), probs)


ANSWER = Stage("answer", 1, AnswerParams, answer, Predictions)
