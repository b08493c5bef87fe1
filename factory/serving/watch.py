"""Watching a model in use: texts of production against those it was judged on, and an order for what it lacks."""

import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from factory.data import WrongRow, numbered_lines, parse_line
from factory.encoders import DEFAULT_ENCODER, load_encoder
from factory.errors import ArtifactMissing, FactoryError
from factory.evaluation.drift import Drift, DriftParams, Side, find_drift
from factory.evaluation.order import Order, Sample, choose_samples, wanted_labels
from factory.events import Progressed, StageStarted, emit
from factory.records import Rows, row_id
from factory.release.lineage import holdout_of, training_rows_of
from factory.release.predict import Predictor
from factory.release.registry import Registry
from factory.serving.predictor import load

N_SAMPLES = 50
MOST_TEXTS = 5000
"""Of the log, the newest: what is compared is drawn from them."""


@dataclass(frozen=True)
class Logged:
    """A text of production."""

    id: str
    text: str


@dataclass(frozen=True)
class Watched:
    """What was found."""

    drift: Drift
    order: Order
    reference: str
    """Which rows production was compared with."""


def watch(
    outputs: Path,
    name: str,
    log: Path,
    *,
    version: str | None = None,
    against: str | None = None,
    with_texts: bool = False,
    params: DriftParams | None = None,
) -> Watched:
    """Compare the texts of a log with those a version was judged on.

    Args:
        outputs: Folder of all tasks' outputs.
        name: Of the task.
        log: JSONL with a `text` a line, as `factory serve --log-texts` writes it.
        version: Number or alias; default: the champion, else the candidate.
        against: `training` or `holdout`; default: the holdout if there is one, because to rows that it was trained on a
            model is surer than to any others, and texts that a teacher wrote are never like those of people.
        with_texts: Put texts into the order.
        params: How to test.

    Returns:
        Tests, shares of labels, and an order.

    Raises:
        ArtifactMissing: No such version, or its rows are not stored here.
        FactoryError: The log has a wrong line or too few texts.
    """
    registry = Registry(outputs)
    chosen = registry.find(name, version)
    predictor = load(outputs, name, str(chosen.version))
    if predictor.is_table:
        raise FactoryError(f"{name}: answers rows of a table, and only texts can be watched")
    release = registry.resolve(name, str(chosen.version))
    training = training_rows_of(release, outputs / name)
    rows, reference = _reference(release, outputs / name, training, against)
    logged = read_log(log)
    emit(StageStarted("watch", because=f"{len(logged):,} texts of {log.name} against {reference}"))
    ours = _side("reference", predictor, list(rows.kept["text"])[:MOST_TEXTS], list(rows.kept["label"])[:MOST_TEXTS])
    theirs = _side("production", predictor, [one.text for one in logged])
    drift = find_drift(params or DriftParams(), labels=predictor.labels, reference=ours, production=theirs)
    order = Order(
        task=name,
        version=chosen.version,
        created_at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        why=drift.sentence,
        labels=wanted_labels(drift, Counter(training.kept["label"])),
        samples=_samples(predictor, logged, theirs, with_texts=with_texts),
    )
    return Watched(drift, order, reference)


def read_log(path: Path) -> list[Logged]:
    """Read the texts of a log, the newest `MOST_TEXTS` of them.

    Args:
        path: JSONL with a `text` a line; an `id` is kept, other keys are not read.

    Returns:
        The texts in the order of the file.

    Raises:
        FactoryError: The file cannot be read, or a line has no text.
    """
    found: deque[Logged] = deque(maxlen=MOST_TEXTS)
    try:
        with path.open("rb") as file:
            for number, line in numbered_lines(file):
                try:
                    row = parse_line(line)
                except WrongRow as error:
                    raise FactoryError(f"{path}:{number}: {error}") from error
                text = row.get("text")
                if not isinstance(text, str):
                    hint = "a server writes texts only with `factory serve --log-texts FILE`"
                    raise FactoryError(f"{path}:{number}: expected a string under 'text'", hint=hint)
                found.append(Logged(str(row.get("id") or row_id(text)), text))
    except OSError as error:
        raise FactoryError(f"{path}: cannot be read: {error.strerror}") from error
    return list(found)


def _reference(release: Path, root: Path, training: Rows, against: str | None) -> tuple[Rows, str]:
    holdout = None if against == "training" else holdout_of(release, root)
    if holdout is not None:
        return holdout, "the holdout"
    if against == "holdout":
        raise ArtifactMissing(f"{release}: was judged on no gold rows", hint="--against training")
    return training, "the training rows, to which a model is surer than to others"


def _side(what: str, predictor: Predictor, texts: Sequence[str], labels: Sequence[str] | None = None) -> Side:
    emit(Progressed("watch", 0, len(texts), "texts", what))
    vectors = load_encoder(DEFAULT_ENCODER).encode(texts)
    proba = predictor.predict_proba(texts)
    column = {label: at for at, label in enumerate(predictor.labels)}
    known = labels is not None and all(label in column for label in labels)
    gold = np.array([column[label] for label in labels or ()]) if known else None
    return Side(proba=proba, vectors=vectors, gold=gold)


def _samples(predictor: Predictor, logged: Sequence[Logged], side: Side, *, with_texts: bool) -> tuple[Sample, ...]:
    return tuple(
        Sample(
            id=logged[at].id,
            label=predictor.labels[int(side.proba[at].argmax())],
            probability=float(side.proba[at].max()),
            density=density,
            text=logged[at].text if with_texts else None,
        )
        for at, density in choose_samples(side.proba, side.vectors, N_SAMPLES)
    )
