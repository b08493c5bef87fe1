"""What the teacher's priors are worth on four public tables with no, 16 and 100 labelled rows.

    python -m benchmarks.priors --data ../shared/data --outputs OUTPUTS

Priors are asked with the embedded teacher and kept in the reply store of OUTPUTS: a second run asks nothing. Anchor
points come from the training rows without their labels. Beside the scorecard stands logistic regression on the same
rows; both are judged on the test rows. Without `--test` training rows stand in for them, to develop on.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.prior_sets import SETS, PriorSet, read_set
from factory.labelling.priors import PriorsParams, judge_columns
from factory.spec import TeacherSpec
from factory.students.tables.scorecard import Scorecard
from factory.tables.priors import Priors
from factory.teacher import open_teacher

N_DRAWS = 10
SIZES = (16, 100)
LEAST_OF_A_LABEL = 2
"""Rows of each label in every draw."""
MOST_JUDGED = 1_500
"""Training rows that stand in for test rows."""
N_BOOTSTRAP = 1_000
UNTAUGHT = Scorecard(strength=1.0)
"""Without priors the student is logistic regression; 1 is scikit-learn's default strength."""


def priors_of(one: PriorSet, outputs: Path, n_wordings: int) -> Priors:
    """Ask, or read from the reply store."""
    teacher = open_teacher(TeacherSpec(name="embedded"), folder=outputs, outputs=outputs)
    params = PriorsParams(description=one.description, table=one.table, n_wordings=n_wordings)
    try:
        return judge_columns(params, teacher=teacher, rows=one.train)
    finally:
        teacher.close()


def draws(is_last: NDArray[np.bool_], n_rows: int) -> Iterator[NDArray[np.intp]]:
    """Yield the positions of labelled rows, the same in every run."""
    for number in range(N_DRAWS):
        rng = np.random.default_rng(number)
        while True:
            drawn = rng.choice(len(is_last), n_rows, replace=False)
            if LEAST_OF_A_LABEL <= is_last[drawn].sum() <= n_rows - LEAST_OF_A_LABEL:
                break
        yield drawn


def auc(scores: NDArray[np.float64], is_last: NDArray[np.bool_]) -> float:
    """Return the area under the ROC curve."""
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(is_last, scores))


def interval(scores: NDArray[np.float64], is_last: NDArray[np.bool_]) -> tuple[float, float]:
    """Return a bootstrap 95% interval of the AUC."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(N_BOOTSTRAP):
        drawn = rng.integers(0, len(is_last), len(is_last))
        if 0 < is_last[drawn].sum() < len(drawn):
            found.append(auc(scores[drawn], is_last[drawn]))
    low, high = np.quantile(found, [0.025, 0.975])
    return float(low), float(high)


def results(one: PriorSet, priors: Priors, *, with_test: bool) -> Iterator[str]:
    """Yield the cells of one set: no rows, then each size as scorecard, logistic regression and their difference."""
    last = one.table.label_names[-1]
    train = one.train.kept
    judged = one.test.kept if with_test else train.select(range(min(MOST_JUDGED, len(train))))
    known, gold = (np.array([label == last for label in rows["label"]]) for rows in (train, judged))
    told = priors.as_json()
    alone = Scorecard(priors=told).fit(train.select([]), one.table, seed=0).predict_proba(judged)[:, 1]
    low, high = interval(alone, gold)
    yield f"{auc(alone, gold):.3f} ({low:.3f} to {high:.3f})"
    for n_rows in SIZES:
        pairs = []
        for drawn in draws(known, n_rows):
            # Of training rows, those that were learned from are not judged.
            kept = np.arange(len(gold)) if with_test else np.setdiff1d(np.arange(len(gold)), drawn)
            students: list[Any] = [Scorecard(priors=told), UNTAUGHT]
            fitted = [student.fit(train.select(drawn), one.table, seed=0) for student in students]
            pairs.append([auc(student.predict_proba(judged)[kept, 1], gold[kept]) for student in fitted])
        ours, plain = np.array(pairs).T
        error = 1.96 * (ours - plain).std(ddof=1) / len(ours) ** 0.5
        yield f"{ours.mean():.3f}"
        yield f"{plain.mean():.3f}"
        yield f"{(ours - plain).mean():+.3f} ± {error:.3f}"


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--outputs", type=Path, default=Path("outputs"), help="folder of the reply store")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--wordings", type=int, default=2, help="orders of the labels each question is asked in")
    parser.add_argument("--test", action="store_true", help="judge on the test rows: for the final table only")
    options = parser.parse_args()
    sizes = "".join(f" {n} rows | LR, same rows | difference |" for n in SIZES)
    print(f"| set | no rows (95 %) |{sizes} columns judged |\n|{'---|' * (3 + 3 * len(SIZES))}")
    for name in options.sets:
        one = read_set(options.data / name)
        priors = priors_of(one, options.outputs, options.wordings)
        cells = results(one, priors, with_test=options.test)
        print("| " + " | ".join([name, *cells, priors.summary]) + " |", flush=True)


if __name__ == "__main__":
    main()
