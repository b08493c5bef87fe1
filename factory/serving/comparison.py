"""Two versions of a model on the same gold rows."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from factory.data import read_rows
from factory.errors import ArtifactMissing, FactoryError
from factory.evaluation.metrics import Columns, Estimate, estimate, mcnemar, paired_difference
from factory.evaluation.result import Part
from factory.events import StageStarted, emit
from factory.records import Origin
from factory.release.lineage import holdout_of
from factory.release.registry import Registry
from factory.release.versions import Version
from factory.serving.predictor import load


class Scored(Part):
    """One version on the rows."""

    version: int
    accuracy: Estimate
    macro_f1: Estimate
    n_only: int
    """Rows that it alone has right."""


class Comparison(Part):
    """What two versions say to the same rows; differences are the second minus the first."""

    name: str
    rows: str
    """Where they are from."""
    n: int
    n_left_out: int
    """Gold rows of one version that the other was not judged on, or by another label."""
    first: Scored
    second: Scored
    accuracy: Estimate
    macro_f1: Estimate
    mcnemar_p: float
    """Of the exact test; small when the two are not equally often right."""

    @property
    def sentence(self) -> str:
        """The outcome in words."""
        a, b, accuracy = self.first.version, self.second.version, self.accuracy
        points = f"{_points(accuracy.value)} points ({_points(accuracy.low)} to {_points(accuracy.high)})"
        if accuracy.low > 0:
            return f"version {b} is more accurate than version {a} by {points}"
        if accuracy.high < 0:
            return f"version {b} is less accurate than version {a}: {points}"
        return f"no difference in accuracy is shown by {self.n:,} rows: version {b} minus version {a} is {points}"


def compare(
    outputs: Path, name: str, first: str, second: str, *, rows: Path | None = None, seed: int = 0
) -> Comparison:
    """Ask two versions the same gold rows.

    Args:
        outputs: Folder of all tasks' outputs.
        name: Of the task.
        first: Number or alias of a version.
        second: Of the version compared with it.
        rows: JSONL with `text` and `label`; default: the holdout both versions were judged on. Of two different
            holdouts the rows that are in both: only these were kept out of both trainings.
        seed: Of the bootstrap.

    Returns:
        Figures of both, and their differences with 95% intervals and an exact test.

    Raises:
        ArtifactMissing: No such version, or no gold rows that both can be asked.
        FactoryError: The rows have labels that no version has, or MLflow cannot be reached.
    """
    registry = Registry(outputs)
    versions = registry.find(name, first), registry.find(name, second)
    predictors = [load(outputs, name, str(version.version)) for version in versions]
    labels = tuple(dict.fromkeys([*predictors[0].labels, *predictors[1].labels]))
    if rows is None:
        texts, right, n_left_out = _shared_holdout(registry, name, versions)
    else:
        read = read_rows(rows, labels=labels, origin=Origin.GOLD)
        texts, right, n_left_out = list(read["text"]), list(read["label"]), 0
    _check_labels(right, labels)
    gold = _columns(right, labels)
    emit(StageStarted("compare", because=f"{len(texts):,} rows for two versions"))
    answers = [
        _columns([asked.labels[best] for best in asked.predict_proba(texts).argmax(axis=1)], labels)
        for asked in predictors
    ]
    return Comparison(
        name=name,
        rows="the holdout" if rows is None else str(rows),
        n=len(texts),
        n_left_out=n_left_out,
        first=_score(versions[0], gold, *answers, seed=seed),
        second=_score(versions[1], gold, *answers[::-1], seed=seed),
        accuracy=paired_difference("accuracy", gold, answers[1], answers[0], seed=seed),
        macro_f1=paired_difference("macro_f1", gold, answers[1], answers[0], seed=seed),
        mcnemar_p=mcnemar(gold, answers[1], answers[0]),
    )


def _score(version: Version, gold: Columns, ours: Columns, theirs: Columns, *, seed: int) -> Scored:
    return Scored(
        version=version.version,
        accuracy=estimate("accuracy", gold, ours, seed=seed),
        macro_f1=estimate("macro_f1", gold, ours, seed=seed),
        n_only=int(((ours == gold) & (theirs != gold)).sum()),
    )


def comparison_lines(compared: Comparison) -> list[str]:
    """Return a table and the outcome for people."""
    left_out = f"; {compared.n_left_out:,} rows that only one was judged on are left out" if compared.n_left_out else ""
    lines = [f"{compared.n:,} gold rows of {compared.rows}{left_out}"]
    for one in (compared.first, compared.second):
        figures = f"accuracy {_percent(one.accuracy)}, macro-F1 {_percent(one.macro_f1)}"
        lines.append(f"version {one.version}: {figures}, alone right on {one.n_only:,}")
    test = f"McNemar's exact test: p = {compared.mcnemar_p:.3g}"
    return [*lines, f"{compared.sentence[0].upper()}{compared.sentence[1:]}. {test}."]


def _percent(figure: Estimate) -> str:
    return f"{100 * figure.value:.1f} ({100 * figure.low:.1f} to {100 * figure.high:.1f})"


def _shared_holdout(registry: Registry, name: str, versions: Sequence[Version]) -> tuple[list[str], list[str], int]:
    """Return texts and labels of the rows that are in the holdouts of both, and how many are not."""
    holdouts = [holdout_of(registry.resolve(name, str(one.version)), registry.outputs / name) for one in versions]
    hint = "give labelled rows that neither was trained on: --rows FILE.jsonl"
    for version, holdout in zip(versions, holdouts, strict=True):
        if holdout is None:
            raise ArtifactMissing(f"{name}: version {version.version} was judged on no gold rows", hint=hint)
    first, second = (
        dict(zip(zip(holdout.kept["id"], holdout.kept["label"], strict=True), holdout.kept["text"], strict=True))
        for holdout in holdouts
        if holdout is not None
    )
    shared = [row for row in first if row in second]
    if not shared:
        raise ArtifactMissing(f"{name}: the two versions were judged on different gold rows", hint=hint)
    return [first[row] for row in shared], [label for _, label in shared], len(first.keys() ^ second.keys())


def _check_labels(gold: Sequence[str], labels: Sequence[str]) -> None:
    unknown = sorted(set(gold) - set(labels))
    if unknown:
        raise FactoryError(f"compare: the rows have labels that neither version knows: {', '.join(unknown)}")


def _columns(answers: Sequence[str], labels: Sequence[str]) -> Columns:
    column = {label: index for index, label in enumerate(labels)}
    return np.array([column[answer] for answer in answers], dtype=np.int64)


def _points(ratio: float) -> str:
    return f"{100 * ratio:+.1f}"
