"""What the teacher's priors are worth on public tables with no and few labelled rows.

    python -m benchmarks.priors --data ../shared/data --outputs OUTPUTS            four classifications: AUC
    python -m benchmarks.priors --data ../shared/data --outputs OUTPUTS --numbers  two regressions: R2

Priors are asked with the embedded teacher and kept in the reply store of OUTPUTS: a second run asks nothing. Anchor
points come from the training rows without their labels. Beside the scorecard stand, on the same rows, logistic
regression with scikit-learn's default penalty (ridge regression with a cross-validated one) and the scorecard without
priors. All are judged on the test rows; without `--test` on training rows that were not drawn, to develop on.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.prior_sets import NUMBER_SETS, SETS, PriorSet, read_set
from factory.labelling.priors import PriorsParams, judge_columns
from factory.records import column_of
from factory.spec import TeacherSpec
from factory.students.tables.linear import TableLinear
from factory.students.tables.scorecard import Scorecard
from factory.tables.priors import Priors
from factory.teacher import open_teacher

N_DRAWS = 10
SIZES = (16, 100)
NUMBER_SIZES = (16, 50)
LEAST_OF_A_LABEL = 2
"""Rows of each label in every draw."""
MOST_JUDGED = 1_500
"""Training rows that stand in for test rows; drawn at random, for some sets are in the order of time."""
N_BOOTSTRAP = 1_000


def priors_of(one: PriorSet, outputs: Path, n_wordings: int) -> Priors:
    """Ask, or read from the reply store."""
    teacher = open_teacher(TeacherSpec(name="embedded"), folder=outputs, outputs=outputs)
    params = PriorsParams(description=one.description, table=one.table, n_wordings=n_wordings)
    try:
        return judge_columns(params, teacher=teacher, rows=one.train)
    finally:
        teacher.close()


def draws(gold: NDArray[np.float64], n_rows: int) -> Iterator[NDArray[np.intp]]:
    """Yield the positions of labelled rows, the same in every run; two of each label at least."""
    is_label = set(np.unique(gold)) <= {0.0, 1.0}
    for number in range(N_DRAWS):
        rng = np.random.default_rng(number)
        while True:
            drawn = rng.choice(len(gold), n_rows, replace=False)
            if not is_label or LEAST_OF_A_LABEL <= gold[drawn].sum() <= n_rows - LEAST_OF_A_LABEL:
                break
        yield drawn


def auc(scores: NDArray[np.float64], gold: NDArray[np.float64]) -> float:
    """Return the area under the ROC curve."""
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(gold, scores))


def r2(numbers: NDArray[np.float64], gold: NDArray[np.float64]) -> float:
    """Return the share of the variance that is explained."""
    return float(1 - ((numbers - gold) ** 2).mean() / gold.var())


def interval(scores: NDArray[np.float64], gold: NDArray[np.float64]) -> tuple[float, float]:
    """Return a bootstrap 95% interval of the AUC."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(N_BOOTSTRAP):
        drawn = rng.integers(0, len(gold), len(gold))
        if 0 < gold[drawn].sum() < len(drawn):
            found.append(auc(scores[drawn], gold[drawn]))
    low, high = np.quantile(found, [0.025, 0.975])
    return float(low), float(high)


def results(one: PriorSet, priors: Priors, *, with_test: bool) -> Iterator[str]:
    """Yield the cells of one set: no rows, then for each size the scorecard, and it minus others on the same rows."""
    train = one.train.kept
    stands_in = np.random.default_rng(7).permutation(len(train))[:MOST_JUDGED]
    judged = one.test.kept if with_test else train.select(stands_in)
    known, gold = gold_of(one, train), gold_of(one, judged)
    told, is_label = priors.as_json(), bool(one.table.labels)
    figure = auc if is_label else r2
    if is_label:
        alone = Scorecard(priors=told).fit(train.select([]), one.table, seed=0).predict_proba(judged)[:, -1]
        low, high = interval(alone, gold)
        yield f"{auc(alone, gold):.3f} ({low:.3f} to {high:.3f})"
    for n_rows in SIZES if is_label else NUMBER_SIZES:
        found = []
        for drawn in draws(known, n_rows):
            # Of training rows, those that were learned from are not judged.
            kept = np.arange(len(gold)) if with_test else np.flatnonzero(~np.isin(stands_in, drawn))
            plain = TableLinear(strength=1.0, one_scale=False) if is_label else TableLinear(one_scale=False)
            students: list[Any] = [Scorecard(priors=told), plain, Scorecard()]
            fitted = [student.fit(train.select(drawn), one.table, seed=0) for student in students]
            found.append([figure(student.predict_proba(judged)[kept, -1], gold[kept]) for student in fitted])
        ours, *others = np.array(found).T
        yield f"{ours.mean():.3f}"
        for other in others:
            error = 1.96 * (ours - other).std(ddof=1) / len(ours) ** 0.5
            yield f"{other.mean():.3f}: {(ours - other).mean():+.3f} ± {error:.3f}"


def gold_of(one: PriorSet, rows: Any) -> NDArray[np.float64]:
    """Return whether each row has the last label, or its number."""
    label = column_of(rows, "label").to_numpy(zero_copy_only=False)
    return np.asarray(label == one.table.label_names[-1] if one.table.labels else label, dtype=np.float64)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--outputs", type=Path, default=Path("outputs"), help="folder of the reply store")
    parser.add_argument("--sets", nargs="+", choices=SETS + NUMBER_SETS, default=[])
    parser.add_argument("--numbers", action="store_true", help="the two regressions")
    parser.add_argument("--wordings", type=int, default=1, help="orders of the labels each question is asked in")
    parser.add_argument("--test", action="store_true", help="judge on the test rows: for the final table only")
    options = parser.parse_args()
    plain = "ridge" if options.numbers else "logistic"
    sizes = "".join(
        f" {n} rows | {plain} regression: ours minus it | no priors: ours minus it |"
        for n in (NUMBER_SIZES if options.numbers else SIZES)
    )
    none = "" if options.numbers else " no rows (95 %) |"
    print(f"| set |{none}{sizes} columns judged |\n|{'---|' * (2 + bool(none) + 6)}")
    for name in options.sets or (NUMBER_SETS if options.numbers else SETS):
        one = read_set(options.data / name)
        priors = priors_of(one, options.outputs, options.wordings)
        cells = results(one, priors, with_test=options.test)
        print("| " + " | ".join([name, *cells, priors.summary]) + " |", flush=True)


if __name__ == "__main__":
    main()
