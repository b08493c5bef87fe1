"""What rows that the teacher writes are worth beside 100 real ones, on four public tables.

    python -m benchmarks.rows --data ../shared/data --outputs OUTPUTS

The embedded teacher writes rows like those of each draw of real ones; replies are kept in the store of OUTPUTS, so a
second run asks nothing. Each student learns from the real rows, and from both; AUC on the test rows, or without
`--test` on training rows that were not drawn.
"""

import argparse
from collections import Counter
from pathlib import Path

import numpy as np

from benchmarks.prior_sets import SETS, PriorSet, read_set
from benchmarks.priors import MOST_JUDGED, auc, draws, gold_of
from factory.records import Rows, all_kept
from factory.spec import TeacherSpec
from factory.students import make_table_student
from factory.students.tables.curate import CurateRowsParams, curate_rows
from factory.synthesis.rows import RowsOptions, WriteRowsParams, write_rows
from factory.teacher import open_teacher

N_REAL = 100
STUDENTS = {"linear": {}, "lightgbm": {"trials": 0}, "scorecard": {}}


def written(one: PriorSet, real: Rows, outputs: Path, options: RowsOptions) -> tuple[Rows, Rows]:
    """Return rows as the teacher writes them, and what curation leaves of them."""
    teacher = open_teacher(TeacherSpec(name="embedded"), folder=outputs, outputs=outputs)
    params = WriteRowsParams(description=one.description, table=one.table, seed=0, options=options)
    try:
        raw = write_rows(params, real=real, teacher=teacher)
    finally:
        teacher.close()
    return raw, curate_rows(CurateRowsParams(table=one.table), rows=raw, real=real)


def results(one: PriorSet, outputs: Path, n_draws: int, options: RowsOptions, *, with_test: bool) -> list[str]:
    """Return a line for each student: AUC without and with written rows, and with those that were not curated."""
    from datasets import concatenate_datasets

    train = one.train.kept
    stands_in = np.random.default_rng(7).permutation(len(train))[:MOST_JUDGED]
    judged = one.test.kept if with_test else train.select(stands_in)
    known, gold = gold_of(one, train), gold_of(one, judged)
    found: dict[str, list[list[float]]] = {name: [] for name in STUDENTS}
    fates: Counter[str] = Counter()
    for _, drawn in zip(range(n_draws), draws(known, N_REAL), strict=False):
        real = all_kept(train.select(drawn))
        raw, curated = written(one, real, outputs, options)
        fates.update({"kept": len(curated.kept)})
        fates.update(reason.partition(":")[0] for rows in (raw, curated) for reason in rows.rejected["reason"])
        kept = np.arange(len(gold)) if with_test else np.flatnonzero(~np.isin(stands_in, drawn))
        sets = [real.kept, *(concatenate_datasets([real.kept, rows.kept]) for rows in (curated, raw))]
        for name, params in STUDENTS.items():
            fitted = [make_table_student(name, params).fit(rows, one.table, seed=0) for rows in sets]
            found[name].append([auc(student.predict_proba(judged)[kept, 1], gold[kept]) for student in fitted])
    lines = []
    for name, values in found.items():
        alone, both, uncurated = np.array(values).T
        error = 1.96 * (both - alone).std(ddof=1) / len(both) ** 0.5 if len(both) > 1 else float("nan")
        cells = [
            one.name,
            name,
            f"{alone.mean():.3f}",
            f"{both.mean():.3f}",
            f"{(both - alone).mean():+.3f} ± {error:.3f}",
        ]
        fate = ", ".join(f"{reason} {n}" for reason, n in fates.most_common())
        lines.append("| " + " | ".join([*cells, f"{uncurated.mean():.3f}", fate]) + " |")
    return lines


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--outputs", type=Path, default=Path("outputs"), help="folder of the reply store")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--draws", type=int, default=1, help="times 100 real rows are drawn")
    parser.add_argument("--per-label", type=int, default=50, help="rows to ask for of each label")
    parser.add_argument("--per-prompt", type=int, default=2, help="rows that one prompt asks for")
    parser.add_argument("--examples", type=int, default=3, help="real rows that a prompt shows")
    parser.add_argument("--test", action="store_true", help="judge on the test rows: for the final table only")
    options = parser.parse_args()
    print(
        "| set | student | real rows | and written ones | difference | all written ones | of those written |\n"
        + "|---" * 7
        + "|"
    )
    asked = RowsOptions(per_label=options.per_label, per_prompt=options.per_prompt, examples=options.examples)
    for name in options.sets:
        one = read_set(options.data / name)
        for line in results(one, options.outputs, options.draws, asked, with_test=options.test):
            print(line, flush=True)


if __name__ == "__main__":
    main()
