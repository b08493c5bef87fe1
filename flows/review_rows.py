"""Which rows of a build a person may review.

What it trained on, what was dropped because labellers disagreed, and rows of the pool that nobody was asked about. Rows
that people labelled are left out, and so is whatever is measured on: no text of the holdout or of the calibration rows
is ever shown, not even where a teacher wrote it again.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from factory.data import read_rows
from factory.errors import ArtifactMissing, FactoryError
from factory.labelling.aggregate import NO_AGREEMENT
from factory.labelling.review_rows import TRAINED_ON, ReviewRow
from factory.labelling.self_training import STRATEGY
from factory.records import Origin, Predictions
from factory.spec import Spec
from factory.spec_file import SPEC_FILE, load_spec
from factory.students.training import CROSS_PREDICT, PREDICT, CrossPredictParams
from factory.texts import fold
from flows.builds import Build
from flows.evidence import Line, Step
from flows.shelf import Shelf, roots_of

DISPUTED = frozenset({NO_AGREEMENT, "disagrees", "unsure", "label-noise", "conflicting-labels"})
"""Reasons of a rejection that a person may overrule."""
DISSENT = {"disagrees": "teacher, asked again", "conflicting-labels": "the same text, written again"}
"""Who spoke against the label of a dropped row, by the reason."""
MEASURED_ON = ("read-holdout", "read-calibration", "sample-cascade")
"""Stages whose rows are never shown."""
WRITTEN = (Origin.SYNTHETIC, Origin.AUGMENTED)
TEACHER = "teacher"
ON_POOL = f"{PREDICT.name}-{STRATEGY}"
NOISE = f"{CROSS_PREDICT.name}-label-noise"


def reviewable_rows(name: str, outputs: Path) -> list[ReviewRow]:
    """Find the rows of the newest build that a person may review.

    Args:
        name: Name or folder of a task.
        outputs: Where builds are.

    Returns:
        The rows in the order they were made, those that were dropped last.

    Raises:
        ArtifactMissing: No such task, or no build of it has such rows.
    """
    shelf = Shelf(roots_of(outputs, name)[0])
    found = (_rows_of(build, shelf) for build in shelf.builds)
    first: list[ReviewRow] = []
    for rows in found:
        if any(row.state == TRAINED_ON for row in rows):
            return rows
        first = first or rows  # of builds that were stopped before they trained
    if first:
        return first
    hint = "build the task first; rows that people labelled, and those of a table, are not reviewed"
    raise ArtifactMissing(f"{shelf.root.name}: no build has rows to review", hint=hint)


def without_measured(rows: Sequence[ReviewRow], measured: frozenset[str]) -> list[ReviewRow]:
    """Leave out the texts of the files that are measured on today, whatever the build was made from."""
    return [row for row in rows if fold(row.text) not in measured]


def measured_texts(folder: Path, spec: Spec) -> frozenset[str]:
    """Return the texts, folded, that nothing may be trained on."""
    names = [name for name in (spec.data.holdout, spec.data.calibration) if name is not None]
    files = [folder / name for name in names if (folder / name).is_file()]
    return frozenset(fold(text) for file in files for text in read_rows(file, labels=None, origin=Origin.GOLD)["text"])


def load_text_spec(folder: Path) -> Spec:
    """Read the spec of a task whose rows are texts.

    Args:
        folder: Of the task.

    Returns:
        The spec.

    Raises:
        FactoryError: Its rows are those of a table.
    """
    spec = load_spec(folder)
    if spec.kind.is_table:
        hint = "correct data.reviewed, data.train or the table itself; `factory check` names wrong rows"
        raise FactoryError(f"{folder / SPEC_FILE}: a review shows texts, and this is a task of a table", hint=hint)
    return spec


Opinion = tuple[str, Mapping[str, int], Predictions]
"""What a student said of rows it did not see: its name, places of the rows by id, probabilities."""


def _rows_of(build: Build, shelf: Shelf) -> list[ReviewRow]:
    steps = shelf.steps(build)
    opinions = [*_opinions(steps)]
    found: dict[str, ReviewRow] = {}
    labelled: set[str] = set()
    for step in steps:
        taught = shelf.learned_from(step) if step.fit and step.name == f"fit-{step.fit.student}" else None
        for line in taught.kept.lines() if taught is not None else ():
            if line["origin"] == Origin.GOLD:
                labelled.add(line["id"])
            elif line["id"] not in found:
                found[line["id"]] = _described(line, opinions, step)
    for step in steps:
        for line in step.rejected.lines() if step.has_rows else ():
            if line["reason"] in DISPUTED and line["id"] not in found:
                found[line["id"]] = _described(line, opinions, step, dropped=line["reason"])
    for row in _asked_nobody(steps, shelf):
        found.setdefault(row.id, row)
    hidden = {fold(text) for step in steps if step.name in MEASURED_ON for text in step.kept.texts}
    return [row for row in found.values() if row.id not in labelled and fold(row.text) not in hidden]


def _asked_nobody(steps: Sequence[Step], shelf: Shelf) -> Iterator[ReviewRow]:
    """Yield the rows of the pool of which only a student has an opinion, with that opinion."""
    for step in steps:
        pool = shelf.having(step.inputs["rows"]) if step.name == ON_POOL and step.predictions is not None else None
        if pool is None or step.predictions is None:
            continue
        predictions, places = step.predictions, {row: at for at, row in enumerate(step.predictions.ids)}
        for line in pool.kept.lines():
            probs = predictions.probs[places[line["id"]]].tolist()
            label = max(zip(probs, predictions.labels, strict=True))[1]
            given = dict(zip(predictions.labels, probs, strict=True))
            yield ReviewRow(line["id"], line["text"], {"student": label}, given, label, state="not labelled")


def _opinions(steps: Sequence[Step]) -> Iterator[Opinion]:
    seen: set[str] = set()
    for step in steps:
        if not step.name.startswith(CROSS_PREDICT.name) or step.predictions is None:
            continue
        student = CrossPredictParams.model_validate(step.manifest["key"]["params"]).student
        names = {f"{CROSS_PREDICT.name}-{student}": student, NOISE: f"{student} of the noise filter"}
        name = names.get(step.name)
        if name is not None and name not in seen:
            seen.add(name)
            yield name, {row: at for at, row in enumerate(step.predictions.ids)}, step.predictions


def _described(line: Line, opinions: Sequence[Opinion], step: Step, *, dropped: str = "") -> ReviewRow:
    """Collect what labellers said of a row; `step` is a stage that saw or dropped it, and knows the labels."""
    votes: dict[str, str] = {"label" if line["strategy"] else TEACHER: line["label"]} if line["label"] else {}
    distributions: dict[str, list[float]] = {}
    for name, places, predictions in opinions:
        if line["id"] in places:
            probs = predictions.probs[places[line["id"]]].tolist()
            votes[name] = max(zip(probs, predictions.labels, strict=True))[1]
            for label, probability in zip(predictions.labels, probs, strict=True):
                distributions.setdefault(label, []).append(probability)
    probabilities = {label: sum(given) / len(given) for label, given in distributions.items()}
    names = [label["name"] for label in step.manifest["key"]["params"].get("labels", ())]
    if line["label_probs"] and len(names) == len(line["label_probs"]):
        probabilities = probabilities or dict(zip(names, line["label_probs"], strict=True))
        if dropped in DISSENT:
            votes[DISSENT[dropped]] = max(zip(line["label_probs"], names, strict=True))[1]
    elif dropped in DISSENT:
        votes[DISSENT[dropped]] = "another label"
    if dropped == NO_AGREEMENT:
        votes = {**step.report["votes"][line["id"]]}
    return ReviewRow(
        id=line["id"],
        text=line["text"],
        votes=votes,
        probabilities=probabilities,
        label=line["label"],
        strategy=line["strategy"] if line["origin"] in WRITTEN else "",
        state=dropped or TRAINED_ON,
    )
