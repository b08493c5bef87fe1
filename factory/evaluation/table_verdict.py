"""The verdict on a student of a table: figures of order and distance beside those that texts have, and its words."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from factory.errors import FactoryError
from factory.evaluation.comparison import EvaluateParams, evaluate
from factory.evaluation.fairness import GroupScore, measure_groups
from factory.evaluation.metrics import Estimate
from factory.evaluation.result import JsonResult, Part
from factory.evaluation.row_metrics import N_RESAMPLES, OF_LABELS, OF_NUMBERS, measure_rows
from factory.evaluation.verdict import STUDENT, TEACHER, WHO, Evaluation, Regime, Score
from factory.records import Predictions, Rows, all_kept, column_of
from factory.records_table import rows_at
from factory.spec import Model
from factory.spec_table import Table
from factory.store import Stage

if TYPE_CHECKING:
    from datasets import Dataset

MEAN, LINEAR = "mean", "linear"
TABLE_WHO = {
    MEAN: "no learning: the mean of the training rows",
    "without-priors": "the same student without what the teacher believes of columns",
    **WHO,
}


class EvaluateTableParams(Model):
    """What the evaluation depends on besides rows and predictions."""

    table: Table
    champion: str
    """Name of the student that was released."""
    regime: Regime = Regime.AUG
    seed: Annotated[int, Field(ge=0)] = 0


class TableEvaluation(Evaluation):
    """The verdict in numbers on a student that answers rows of a table with a label."""

    groups: tuple[GroupScore, ...] = ()
    """The released student on the groups of the protected columns."""


class NumberContender(Part):
    """One of those compared where the answer is a number."""

    name: str
    what: str
    n: int
    n_abstained: int = 0


class NumberEvaluation(JsonResult):
    """The verdict in numbers on a student that answers with a number."""

    file: ClassVar[str] = "evaluation.json"

    gold: bool
    """False when there was no holdout: then all figures are out-of-fold estimates on the training rows."""
    regime: Regime
    champion: str
    unit: str
    n_rows: int
    n_resamples: int
    left_open: dict[str, int] = Field(default_factory=dict)
    contenders: tuple[NumberContender, ...]
    """The released student first."""
    scores: tuple[Score, ...]
    """R2, mean absolute and root mean square error of each contender."""
    groups: tuple[GroupScore, ...] = ()
    """The released student on the groups of the protected columns."""

    @property
    def labels(self) -> tuple[str, ...]:
        """None: the answer is a number."""
        return ()

    @property
    def student(self) -> NumberContender:
        """The released student."""
        return self.contenders[0]

    @property
    def summary(self) -> str:
        """One line for a person."""
        r2 = score_of(self, STUDENT, "r2")
        said = f"R2 {r2.estimate.value:.3f} ({r2.estimate.low:.3f} to {r2.estimate.high:.3f})" if r2 else "R2 unknown"
        return f"{self.champion}: {said} on {self.n_rows:,} {'gold' if self.gold else 'training'} rows"


def evaluate_table(
    params: EvaluateTableParams,
    *,
    holdout: Rows | None = None,
    rows: Rows | None = None,
    teacher: Rows | None = None,
    **predictions: Predictions,
) -> TableEvaluation:
    """Compare the released student of a classification with everyone else; see `comparison.evaluate`.

    Args:
        params: Columns, labels, regime and seed.
        holdout: Gold rows; the only place where their labels are read.
        rows: Without a holdout: the training rows that the predictions were made for, out of fold.
        teacher: Rows that the teacher labelled when asked directly, if it was.
        **predictions: By contender, `student` is the released artifact.

    Returns:
        All figures with 95% bootstrap intervals; those of the teacher, and of the student minus it, on the rows that it
        was asked about.
    """
    labelled = _labelled(holdout or rows, predictions)
    plain = EvaluateParams(
        labels=params.table.label_names, champion=params.champion, regime=params.regime, seed=params.seed
    )
    if holdout is None:
        rows = all_kept(labelled)
    given: dict[str, Any] = {"holdout": holdout, "rows": rows, "teacher": teacher, **predictions}
    found = evaluate(plain, **{name: one for name, one in given.items() if one is not None})
    gold = _gold(params.table, labelled)
    groups = measure_groups(params.table, labelled, predictions[STUDENT].probs, gold, seed=params.seed)
    scores = _scores(OF_LABELS, predictions, gold, params.seed)
    if teacher is not None and TEACHER in {one.name for one in found.contenders}:
        scores += _scores_of_teacher(params, teacher, predictions[STUDENT], labelled)
    return TableEvaluation(**{**dict(found), "scores": scores, "groups": groups})


def evaluate_numbers(
    params: EvaluateTableParams, *, holdout: Rows | None = None, rows: Rows | None = None, **predictions: Predictions
) -> NumberEvaluation:
    """Compare the released student of a regression with everyone else; see `evaluate_table`."""
    labelled = _labelled(holdout or rows, predictions)
    gold = _gold(params.table, labelled)
    names = _ordered(predictions)
    return NumberEvaluation(
        gold=holdout is not None,
        regime=params.regime,
        champion=params.champion,
        unit=params.table.target.unit,
        n_rows=len(gold),
        n_resamples=N_RESAMPLES,
        contenders=tuple(
            NumberContender(
                name=name,
                what=TABLE_WHO.get(name, "another student") + (f", {params.champion}" if name == STUDENT else ""),
                n=len(gold),
            )
            for name in names
        ),
        scores=_scores(OF_NUMBERS, predictions, gold, params.seed),
        groups=measure_groups(params.table, labelled, predictions[STUDENT].probs, gold, seed=params.seed),
    )


def _labelled(rows: Rows | None, predictions: Mapping[str, Predictions]) -> "Dataset":
    """Return the rows that the student answered: of a large table without a holdout, those of one part of it."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if rows is None or not len(rows.kept):
        raise FactoryError("evaluate: there are no labelled rows", hint="hand in a holdout, or out-of-fold rows")
    if STUDENT not in predictions:
        raise FactoryError(f"evaluate: expected predictions of `{STUDENT}`, got {', '.join(predictions) or 'none'}")
    ids = predictions[STUDENT].ids
    if len(ids) == len(rows.kept):
        return rows.kept
    places = pc.index_in(pa.array(ids), value_set=column_of(rows.kept, "id"))
    if places.null_count:
        raise FactoryError(f"evaluate: {places.null_count} of {len(ids)} answered rows are not among the rows")
    return rows_at(rows.kept, places.to_numpy())


def _gold(table: Table, rows: "Dataset") -> NDArray[np.float64]:
    import pyarrow as pa
    import pyarrow.compute as pc

    label = column_of(rows, "label")
    codes = pc.index_in(label, value_set=pa.array(table.label_names)) if table.labels else label
    return np.asarray(codes.cast(pa.float64()).to_numpy(zero_copy_only=False))


def _ordered(predictions: Mapping[str, Any]) -> list[str]:
    """Put the released student first, then students by name, then whom they are compared with."""
    last = [name for name in TABLE_WHO if name != STUDENT]
    return sorted(predictions, key=lambda name: (name != STUDENT, last.index(name) if name in last else -1, name))


def _scores(
    figures: Mapping[str, Any], predictions: Mapping[str, Predictions], gold: NDArray[np.float64], seed: int
) -> tuple[Score, ...]:
    answers = {name: predictions[name].probs for name in _ordered(predictions)}
    short = next((name for name, given in answers.items() if len(given) != len(gold)), None)
    if short is not None:
        raise FactoryError(f"evaluate: `{short}` answered {len(answers[short])} of {len(gold)} rows")
    measured = measure_rows(figures, answers, gold, seed=seed)
    return tuple(
        Score(contender=who, figure=what, estimate=estimate, minus=minus)
        for (who, what), (estimate, minus) in measured.items()
        if estimate is not None
    )


def _scores_of_teacher(
    params: EvaluateTableParams, teacher: Rows, student: Predictions, labelled: "Dataset"
) -> tuple[Score, ...]:
    """Measure the teacher beside the student on the same rows; nothing where it gave no probabilities."""
    probs = teacher.kept["label_probs"][:]
    if not all(probs):
        return ()
    first = {one: position for position, one in reversed([*enumerate(labelled["id"])])}
    asked = teacher.kept["id"][:]
    gold = _gold(params.table, labelled.select([first[one] for one in asked]))
    names = params.table.label_names
    own = Predictions(names, tuple(asked), np.array(probs, dtype=np.float64))
    same = Predictions(names, tuple(asked), student.of(asked, names))
    found = _scores(OF_LABELS, {STUDENT: same, TEACHER: own}, gold, params.seed)
    return tuple(one for one in found if one.contender == TEACHER)


def score_of(evaluation: "Evaluation | NumberEvaluation", contender: str, figure: str) -> Score | None:
    """Find a figure of a contender; None where the rows could not tell."""
    wanted = (contender, figure)
    return next((one for one in evaluation.scores if (one.contender, one.figure) == wanted), None)


def in_short(estimate: Estimate, digits: int = 3) -> str:
    """Write an estimate with its interval."""
    return f"{estimate.value:.{digits}f} ({estimate.low:.{digits}f} to {estimate.high:.{digits}f})"


EVALUATE_TABLE = Stage("evaluate", 3, EvaluateTableParams, evaluate_table, TableEvaluation)
EVALUATE_NUMBERS = Stage("evaluate", 2, EvaluateTableParams, evaluate_numbers, NumberEvaluation)
