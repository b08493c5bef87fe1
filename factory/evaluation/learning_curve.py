"""How many more rows? The learning curve of a cheap student on texts that nobody had trained on yet.

The newest round's texts are answered by students trained on growing parts of the rows from before it. Out-of-fold
figures cannot be used for this: texts of one reply are so alike that n-grams are right on 0.99 of them whatever is
missing. Texts on which the teacher's second label is not what it was asked for count too, with that second label, or
only the easy ones would be left. What is measured is agreement with the teacher, not truth.

The error is taken to fall as a power of the number of rows (Hestness et al., "Deep Learning Scaling is Predictable,
Empirically", arXiv:1712.00409; for a few points and the question asked here Figueroa et al., "Predicting sample size
required for classification performance", BMC Medical Informatics and Decision Making 12:8, 2012). A third parameter,
the error that stays, cannot be told from five points on a hundred texts: so only the next round is predicted, and
nothing beyond ten times the rows.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from factory.encoders import Encoder
from factory.evaluation.metrics import Estimate
from factory.evaluation.result import JsonResult, Number, Part
from factory.events import Progressed, emit
from factory.records import Rows
from factory.spec import Label, Model
from factory.store import Stage
from factory.students import make_student

if TYPE_CHECKING:
    from datasets import Dataset

SIZES = (0.25, 0.35, 0.5, 0.7, 1.0)
"""Parts of the rows that students are trained on: equal steps on a logarithmic scale."""
MOST_TIMES = 10
"""Further than to so many times the rows nothing is predicted."""
ONE_POINT = 0.01
TOLD_APART = ("disagrees", "unsure")
"""Reasons for which the teacher's own label of a rejected text is known and is another, or is no certain one."""


class CurveParams(Model):
    """What the curve depends on besides the rows."""

    labels: tuple[Label, ...]
    student: str
    """A name in `STUDENTS`."""
    params: dict[str, Any] = Field(default_factory=dict)
    """Its hyperparameters."""
    n_added: Annotated[int, Field(ge=0)]
    """Rows that a round adds: those of the newest are counted in, and the next is taken to add as many."""
    n_repeats: Annotated[int, Field(ge=1)] = 3
    """Draws of each part of the rows."""
    n_resamples: Annotated[int, Field(ge=1)] = 1000
    seed: Annotated[int, Field(ge=0)] = 0


class CurvePoint(Part):
    """A student's agreement with the teacher after so many rows."""

    n_rows: int
    agreement: Number


class LearningCurve(JsonResult):
    """The curve, and what follows from it."""

    file: ClassVar[str] = "learning-curve.json"

    n_rows: int
    """Before the newest round."""
    n_added: int
    """By the newest round."""
    n_fresh: int
    """Texts of it that were compared."""
    points: tuple[CurvePoint, ...]
    """By number of rows; empty where there was nothing to compare."""
    gain: Estimate | None
    """Agreement, 0 to 1, that another round as large is expected to bring. The interval is over resampled texts: it
    does not know whether the curve is a power law."""
    rows_for_one_point: int | None
    """Rows that one percentage point more of agreement takes; null: more than ten times as many as there are."""
    rows_at_least: int | None
    rows_at_most: int | None
    """Ends of its 95% interval, null likewise."""

    @property
    def agreement(self) -> float | None:
        """Of the student trained on all rows before the round."""
        return self.points[-1].agreement if self.points else None

    @property
    def summary(self) -> str:
        """One line for a person."""
        if self.agreement is None:
            return "nothing to compare"
        return f"agrees with the teacher on {100 * self.agreement:.1f}% of {self.n_fresh:,} fresh texts; {self.answer}"

    @property
    def answer(self) -> str:
        """How many more rows, in words."""
        if self.gain is None:
            return "no fresh texts were left to tell how many more rows would help"
        value, low, high = (round(100 * one, 1) + 0.0 for one in (self.gain.value, self.gain.low, self.gain.high))
        said = f"{self.n_added:,} more rows are expected to bring {value:+.1f} points ({low:+.1f} to {high:+.1f})"
        if self.rows_for_one_point is None:
            return f"{said}; more rows of this kind will not help: ten times as many would not bring one point"
        ends = [f"{n:,}" if n else "more than can be told" for n in (self.rows_at_least, self.rows_at_most)]
        return f"{said}; one point takes about {self.rows_for_one_point:,} more rows ({ends[0]} to {ends[1]})"


class Learning(Part):
    """All rounds with a student in the loop, and why there were no more."""

    rounds: tuple[LearningCurve, ...]
    most_rounds: int
    stop_gain: Number

    @property
    def answer(self) -> str:
        """How many more rows, and why no more were written, in words."""
        last = self.rounds[-1]
        if last.gain is not None and last.gain.value < self.stop_gain:
            ended = f"the next is expected to gain less than {100 * self.stop_gain:g} points"
        elif len(self.rounds) == self.most_rounds:
            ended = "the spec allows no more"
        else:
            ended = "the budget ended, or nothing could be compared"
        n = len(self.rounds)
        return f"{last.summary}. After {n} round{'s' if n > 1 else ''} of at most {self.most_rounds}: {ended}."


def measure_curve(params: CurveParams, *, rows: Rows, encoder: Encoder | None = None, **fresh: Rows) -> LearningCurve:
    """Answer fresh texts by students trained on growing parts of the rows before them.

    Args:
        params: Which student, on which labels.
        rows: All training rows before the newest round.
        encoder: From `resources_for`, so that it enters the fingerprint; the student opens the same one by name.
        **fresh: The newest round's texts, written as in any round and verified; by whoever wrote them. Those that are
            in the rows too, word for word, are left out.

    Returns:
        The curve; same input, same bytes.
    """
    names = [label.name for label in params.labels]
    texts = list(_fresh_texts(fresh.values(), set(rows.kept["text"]), names))
    parts = _parts(rows.kept, params)
    if not texts or not parts:
        return _curve(params, len(rows.kept), (), np.zeros((0, len(texts))))
    wanted = np.array([names.index(label) for _, label in texts])
    asked = _as_rows(rows.kept, [text for text, _ in texts])
    hits: dict[int, list[NDArray[np.float64]]] = {}
    for done, part in enumerate(parts):
        emit(Progressed(LEARNING_CURVE.name, done, len(parts), "students", f"{len(part):,} rows"))
        student = make_student(params.student, params.params)
        student.fit(rows.kept.select(part), params.labels, seed=params.seed)
        right = student.predict_proba(asked).argmax(axis=1) == wanted
        hits.setdefault(len(part), []).append(right.astype(np.float64))
    emit(Progressed(LEARNING_CURVE.name, len(parts), len(parts), "students"))
    sizes = sorted(hits)
    return _curve(params, len(rows.kept), sizes, np.array([np.mean(hits[size], axis=0) for size in sizes]))


def _fresh_texts(fresh: Iterator[Rows] | Any, known: set[str], names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield each fresh text with the teacher's label of it: where it gave a distribution, the most probable."""
    for part in fresh:
        told_apart = [row for row in part.rejected if row["reason"] in TOLD_APART and row["label_probs"]]
        for row in (*part.kept, *told_apart):
            if row["text"] in known:
                continue
            known.add(row["text"])
            probs = row["label_probs"]
            yield row["text"], row["label"] if probs is None else names[int(np.argmax(probs))]


def _parts(rows: "Dataset", params: CurveParams) -> list[list[int]]:
    """Draw nested parts of the rows, each label with its share, each with two labels at least."""
    labels = np.array(rows["label"], dtype=object)
    parts: list[list[int]] = []
    for repeat in range(params.n_repeats):
        rng = np.random.default_rng([params.seed, repeat])
        place = np.zeros(len(labels))
        for name in np.unique(labels.astype(str)):
            found = np.flatnonzero(labels == name)
            place[rng.permutation(found)] = (np.arange(len(found)) + rng.random()) / len(found)
        order = np.argsort(place, kind="stable")
        # All rows are all rows in every repeat.
        for size in SIZES if repeat == 0 else SIZES[:-1]:
            part = sorted(int(at) for at in order[: round(size * len(labels))])
            if len(set(labels[part])) > 1:
                parts.append(part)
    return parts


def _as_rows(rows: "Dataset", texts: Sequence[str]) -> "Dataset":
    from datasets import Dataset

    return Dataset.from_dict({"text": list(texts)})


def _curve(params: CurveParams, n_rows: int, sizes: Sequence[int], hits: NDArray[np.float64]) -> LearningCurve:
    """Fit a power law to the errors, and to those of resampled texts; `hits` has shape (n_sizes, n_texts)."""
    n_fresh = hits.shape[1]
    points = tuple(CurvePoint(n_rows=size, agreement=float(row.mean())) for size, row in zip(sizes, hits, strict=True))
    if len(sizes) < 2:
        return LearningCurve(
            n_rows=n_rows, n_added=params.n_added, n_fresh=n_fresh, points=points, gain=None,
            rows_for_one_point=None, rows_at_least=None, rows_at_most=None,
        )  # fmt: skip
    rng = np.random.default_rng(params.seed)
    drawn = rng.multinomial(n_fresh, np.full(n_fresh, 1 / n_fresh), size=params.n_resamples)
    wrong = np.vstack([n_fresh - hits.sum(axis=1), n_fresh - drawn @ hits.T])
    log_sizes = np.log(np.asarray(sizes, dtype=np.float64))
    # Half a mistake more, so that no error is 0.
    log_errors = np.log((wrong + 0.5) / (n_fresh + 1))
    centred = log_sizes - log_sizes.mean()
    slopes = log_errors @ centred / (centred @ centred)
    heights = log_errors.mean(axis=1) - slopes * log_sizes.mean()
    now, then = (np.exp(heights + slopes * np.log(n)) for n in (n_rows + params.n_added, n_rows + 2 * params.n_added))
    gains = now - then
    needed = _rows_for_one_point(now, slopes, n_rows + params.n_added)
    low, high = np.quantile(gains[1:], (0.025, 0.975))
    fewest, most = np.quantile(needed[1:], (0.025, 0.975), method="nearest")
    return LearningCurve(
        n_rows=n_rows,
        n_added=params.n_added,
        n_fresh=n_fresh,
        points=points,
        gain=Estimate(value=float(gains[0]), low=float(low), high=float(high)),
        rows_for_one_point=_whole(needed[0]),
        rows_at_least=_whole(fewest),
        rows_at_most=_whole(most),
    )


def _rows_for_one_point(errors: NDArray[np.float64], slopes: NDArray[np.float64], n_rows: int) -> NDArray[np.float64]:
    """Return how many more rows lower an error by a point; infinity where that is out of reach."""
    falls = (slopes < 0) & (errors > ONE_POINT)
    ratio = np.where(falls, errors, 1.0) / np.where(falls, errors - ONE_POINT, 1.0)
    # In logarithms, for a slope near 0 asks for more rows than there are numbers.
    log_times = np.where(falls, np.log(ratio) / np.where(falls, -slopes, 1.0), np.inf)
    is_near = log_times <= np.log(MOST_TIMES)
    return np.where(is_near, n_rows * np.expm1(np.where(is_near, log_times, 0.0)), np.inf)


def _whole(n: float) -> int | None:
    return int(np.ceil(n)) if np.isfinite(n) else None


LEARNING_CURVE: Stage[LearningCurve] = Stage("learning-curve", 2, CurveParams, measure_curve, LearningCurve)
