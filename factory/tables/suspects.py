"""Columns that a student should not see: identifiers, constants, empty ones, and near-copies of the target."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from factory.events import Progressed, emit
from factory.spec_errors import shown
from factory.spec_table import ColumnKind
from factory.tables.guessing import Guess

LEAST_ROWS = 20
"""Below this, all values being different means little."""
LEAST_ROWS_FOR_LEAKS = 50
LEAK = 0.99
"""AUC or R2 that no single honest column reaches often."""
SAMPLE = 5_000
FOLDS = 3
MOST_ID_CHARS = 64
_ID_NAME = re.compile(r"(.*[\W_])?(id|ids|key|nr|no|number|uuid|guid|index|row)", re.IGNORECASE)


def reasons_to_leave_out(guesses: Sequence[Guess], target: Guess, *, is_classification: bool) -> dict[str, str]:
    """Look for columns that tell nothing or too much.

    A leak is looked for with a decision tree on that column alone, judged by cross-validation on a sample of rows: a
    column that predicts the target nearly perfectly is likelier to follow from it than to foretell it.

    Args:
        guesses: The columns, the target not among them.
        target: What is asked for.
        is_classification: Whether that is a label; else it is a number.

    Returns:
        Why to leave out which columns, by name; the others are not in it.
    """
    rows = np.flatnonzero([cell is not None and cell not in target.missing_codes for cell in target.cells])
    if len(rows) > SAMPLE:
        rows = np.sort(np.random.default_rng(0).choice(rows, SAMPLE, replace=False))
    wanted = _codes([target.cells[row] for row in rows]) if is_classification else None
    if wanted is None:
        wanted = np.array([target.cells[row] for row in rows], dtype=float)
        wanted /= max(1.0, np.abs(wanted).max())  # squares of large numbers are no numbers
    found = {}
    for position, guess in enumerate(guesses):
        reason = _idle(guess) or _leak(guess, rows, wanted, is_classification=is_classification)
        if reason:
            found[guess.name] = reason
        emit(Progressed("suspects", done=position + 1, total=len(guesses), unit="columns"))
    return found


def _idle(guess: Guess) -> str:
    """Say why nothing can be learned from a column; empty where something may be."""
    known = guess.known
    different = set(known)
    if not known:
        return "no row has a value"
    if guess.has_time:
        return "dates with times of day: put day and time into columns of their own"
    if len(different) == 1 and not guess.n_missing:
        return f"always {shown(known[0])}"
    if len(different) < len(known) or len(known) < LEAST_ROWS:
        return ""
    if guess.kind is ColumnKind.TEXT and all(len(text) <= MOST_ID_CHARS and " " not in text for text in known):
        return "an identifier: every row has another value"
    if guess.kind is ColumnKind.INTEGER and not guess.n_missing:
        if max(known) - min(known) == len(known) - 1:
            return f"a running number, {min(known)} to {max(known)}"
        if _ID_NAME.fullmatch(guess.name):
            return "an identifier by its name, and every row has another value"
    return ""


def _leak(guess: Guess, rows: NDArray[np.intp], wanted: NDArray[np.float64], *, is_classification: bool) -> str:
    from sklearn.metrics import r2_score, roc_auc_score
    from sklearn.model_selection import KFold, StratifiedKFold, cross_val_predict
    from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

    if len(rows) < LEAST_ROWS_FOR_LEAKS:
        return ""
    cells = [guess.cells[row] for row in rows]
    known = [None if cell in guess.missing_codes else cell for cell in cells]
    column = (_numbers if guess.kind.is_number else _codes)(known).reshape(-1, 1)
    if not is_classification:
        if not np.ptp(wanted):
            return ""
        tree = DecisionTreeRegressor(min_samples_leaf=2, random_state=0)
        folds = KFold(FOLDS, shuffle=True, random_state=0)
        score, what = float(r2_score(wanted, cross_val_predict(tree, column, wanted, cv=folds))), "R2"
    else:
        labels, counts = np.unique(wanted, return_counts=True)
        frequent = labels[counts >= 2 * FOLDS]
        if len(frequent) < 2:
            return ""
        is_frequent = np.isin(wanted, frequent)
        column, answers = column[is_frequent], wanted[is_frequent]
        classifier = DecisionTreeClassifier(min_samples_leaf=2, random_state=0)
        split = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
        probs = cross_val_predict(classifier, column, answers, cv=split, method="predict_proba")
        scores = [float(roc_auc_score(answers == label, probs[:, at])) for at, label in enumerate(frequent)]
        score, what = min(scores), "AUC"
    is_leak = score >= LEAK
    return f"alone it tells the target ({what} {score:.3f}): a leak, unless it is known beforehand" if is_leak else ""


def _numbers(cells: Sequence[Any]) -> NDArray[np.float64]:
    """Rank the numbers: all that a tree sees of them, and no number is too large."""
    ranks = _codes(cells)
    return np.where(ranks < 0, np.nan, ranks)


def _codes(cells: Sequence[Any]) -> NDArray[np.float64]:
    """Number the values in order of size, so that dates keep theirs; missing ones are -1."""
    order = {value: float(at) for at, value in enumerate(sorted(set(_known(cells))))}
    return np.array([-1.0 if cell is None else order[cell] for cell in cells])


def _known(cells: Sequence[Any]) -> Iterator[Any]:
    return (cell for cell in cells if cell is not None)
