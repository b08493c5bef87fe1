"""The search for a student's hyperparameters, by cross-validation on training rows alone.

Tree-structured Parzen estimators (Bergstra et al., "Algorithms for Hyper-Parameter Optimization", NeurIPS 2011) as in
Optuna (Akiba et al., KDD 2019). The defaults are tried first, so what is found is never worse where it was tried. The
number of trials ends a search and the same rows give the same result; seconds only cap it, and a capped search says so.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from factory.events import Progressed, Warned, emit
from factory.records_table import cells_of, rows_at
from factory.spec_table import Table
from factory.students.linear import softmax
from factory.students.tables.base import Range, TableStudent
from factory.students.tables.encoding import Encoding
from factory.students.tables.folds import fold_numbers
from factory.students.tables.targets import Answers, answers_of
from factory.students.targets import read_json, write_json

if TYPE_CHECKING:
    from datasets import Dataset

MOST_ROWS = 10_000
"""Rows that a search looks at; more choose hardly otherwise, and each trial fits several times."""
FEW_ROWS = 3_000
"""Up to so many rows five folds are used, above three."""
MOST_SECONDS = 300.0
"""After this no further trial begins."""
SMALLEST_PROB = 1e-12


@dataclass(frozen=True)
class Tuned:
    """What a search found."""

    params: Mapping[str, float | int] = field(default_factory=dict)
    """Those of the student's hyperparameters that were null."""
    n_trials: int = 0
    was_capped: bool = False
    """The time ran out before the last trial; on another machine the result may differ."""
    default_loss: float = 0.0
    """Log-loss in nats, or mean squared error, of the defaults, out of fold."""
    loss: float = 0.0
    """Of what was chosen."""
    is_complete: ClassVar[bool] = True

    @property
    def summary(self) -> str:
        """One line for a person."""
        if not self.n_trials:
            return "nothing to search for"
        capped = ", stopped by its time" if self.was_capped else ""
        return f"{self.n_trials} trials{capped}: loss {self.default_loss:.4f} to {self.loss:.4f}"

    def save(self, folder: Path) -> None:
        """Write `tuned.json`."""
        write_json(folder / "tuned.json", {**vars(self), "params": dict(self.params)})

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        return cls(**read_json(folder / "tuned.json"))


@dataclass(frozen=True)
class _Parts:
    """The rows of a search, read once and parted."""

    matrix: NDArray[np.float32]
    encoding: Encoding
    answers: Answers
    folds: NDArray[np.int64]
    n_labels: int
    seed: int

    def loss(self, student: TableStudent) -> float:
        """Return the mean loss of a student on rows it did not see."""
        total = weight = 0.0
        for fold in np.unique(self.folds):
            seen, held = (self._some(self.folds != fold), self._some(self.folds == fold))
            fitted = student.learn(seen[0], self.encoding.inputs, seen[1], self.n_labels, seed=self.seed)
            scores = fitted.scores(held[0])[held[1].rows]
            total += float((_losses(scores, held[1].values, self.n_labels) * held[1].weights).sum())
            weight += float(held[1].weights.sum())
        return total / weight

    def _some(self, mask: NDArray[np.bool_]) -> tuple[NDArray[np.float32], Answers]:
        position = np.cumsum(mask) - 1
        chosen = mask[self.answers.rows]
        rows = position[self.answers.rows[chosen]]
        return self.matrix[mask], Answers(rows, self.answers.values[chosen], self.answers.weights[chosen])


def _losses(scores: NDArray[np.float64], values: NDArray[np.float64], n_labels: int) -> NDArray[np.float64]:
    if not n_labels:
        return np.asarray((scores[:, 0] - values) ** 2)
    probs = softmax(scores)[np.arange(len(values)), values.astype(np.int64)]
    return np.asarray(-np.log(np.maximum(probs, SMALLEST_PROB)))


def search(
    make: Callable[..., TableStudent], params: Mapping[str, Any], rows: "Dataset", table: Table, *, seed: int
) -> Tuned:
    """Search for the hyperparameters that are null.

    Args:
        make: Makes a student of hyperparameters.
        params: Those that the spec gives.
        rows: Training rows.
        table: What they hold.
        seed: The only source of randomness.

    Returns:
        The best setting tried, by mean out-of-fold loss.
    """
    student = make(**params)
    space = {name: bounds for name, bounds in student.space.items() if getattr(student, name) is None}
    n_trials = getattr(student, "trials", 0) if space else 0
    if not n_trials:
        return Tuned()
    parts = _parts(rows, table, student, seed)
    study = _study(seed)
    study.enqueue_trial({name: student.defaults[name] for name in space})
    started = time.monotonic()
    losses: list[float] = []
    for number in range(n_trials):
        emit(Progressed("tune", number, n_trials, "trials"))
        if losses and time.monotonic() - started > MOST_SECONDS:
            emit(Warned("tune", f"stopped after {number} of {n_trials} trials: {MOST_SECONDS:.0f} s were used up"))
            break
        trial = study.ask()
        losses.append(parts.loss(make(**{**params, **_suggest(trial, space)})))
        study.tell(trial, losses[-1])
    best = study.best_params
    found = {name: int(best[name]) if bounds.whole else float(best[name]) for name, bounds in space.items()}
    return Tuned(found, len(losses), len(losses) < n_trials, round(losses[0], 6), round(min(losses), 6))


def _parts(rows: "Dataset", table: Table, student: TableStudent, seed: int) -> _Parts:
    if len(rows) > MOST_ROWS:
        rows = rows_at(rows, np.sort(np.random.default_rng(seed).choice(len(rows), MOST_ROWS, replace=False)))
    cells = cells_of(rows)
    encoding = Encoding.fit(cells, table.columns)
    answers = answers_of(rows, table, balanced=student.balanced)
    folds = fold_numbers(rows, 5 if len(rows) <= FEW_ROWS else 3, seed=seed)
    return _Parts(encoding.matrix(cells), encoding, answers, folds, len(table.labels), seed)


def _study(seed: int) -> Any:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed, n_startup_trials=8))


def _suggest(trial: Any, space: Mapping[str, Range]) -> dict[str, float]:
    return {
        name: trial.suggest_int(name, int(one.low), int(one.high), log=one.log)
        if one.whole
        else trial.suggest_float(name, one.low, one.high, log=one.log)
        for name, one in space.items()
    }
