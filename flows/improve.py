"""`factory improve`: the texts that a model in use lacks become rows of its task, for the next build to label.

Like labels of people they are data of the task, so they are kept beside its spec, in `ordered.jsonl`: they can be read,
thinned out and committed like any data file, and deleting outputs loses none.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from factory.check import check_task
from factory.data import DataFile, WrongRow, read_rows, text_of
from factory.errors import ArtifactMissing, FactoryError
from factory.evaluation.order import Order, read_order
from factory.events import Warned, emit
from factory.records import Origin, row_id
from factory.serving.comparison import Comparison, compare
from factory.serving.predictor import load
from factory.serving.watch import Logged, read_log
from factory.spec_data import ORDERED_FILE
from factory.texts import fold
from flows.review_rows import measured_texts

ORDERS = "orders"
NOT_FOUND = "is named by the order and not in the log"


@dataclass(frozen=True)
class Filled:
    """What an order brought."""

    file: Path
    order: Order
    n_samples: int
    """Texts of production that the order names."""
    n_by_label: Mapping[str, int]
    """Other texts of production that the model takes for a label that lacks rows."""
    n_new: int
    """Of all these, those the file did not have."""
    n_rows: int
    """Texts the file has now."""
    left_out: Mapping[str, int]
    """Texts that were ordered and not taken, by the reason."""


def newest_order(outputs: Path, name: str) -> Path:
    """Find the newest order of a task.

    Args:
        outputs: Where builds are.
        name: Of the task.

    Returns:
        Its file.

    Raises:
        ArtifactMissing: There is none.
    """
    found = sorted((outputs / name / ORDERS).glob("[!.]*.json"))
    if not found:
        hint = f"`factory watch {name} --log FILE` writes one where production has drifted"
        raise ArtifactMissing(f"{outputs / name / ORDERS}: no order", hint=hint)
    return found[-1]


def fill_order(folder: Path, outputs: Path, *, order: Path | None = None, log: Path | None = None) -> Filled:
    """Put the texts that an order asks for beside the spec, each once; no gold row, and none that can be no row.

    Args:
        folder: The task folder.
        outputs: Where builds are.
        order: As `factory watch` writes it; default: the task's newest.
        log: The texts of production it was made from. Needed where the order names texts by their ids alone; for labels
            that lack rows, as many of its other texts are taken as the model gives that label, drawn at random.

    Returns:
        What was found.

    Raises:
        ArtifactMissing: No order, or it is for a version that is not here.
        ArtifactCorrupt: It is no order.
        FactoryError: It is for another task, or none of its texts is in it or in the log.
        SpecError: The task folder is not in order.
    """
    task = check_task(folder)
    spec = task.spec
    path = order or newest_order(outputs, spec.name)
    wanted = read_order(path)
    if wanted.task != spec.name:
        raise FactoryError(f"{path}: is for the task {wanted.task}, and {folder} holds {spec.name}")
    target = folder / (spec.data.ordered or ORDERED_FILE)
    if not target.resolve().is_relative_to(folder.resolve()):
        raise FactoryError(f"{folder}: data.ordered leads out of the task folder")
    logged = read_log(log) if log is not None else []
    samples, n_lost = _samples(path, wanted, logged)
    by_label = _texts_by_label(wanted, logged, set(samples), outputs, seed=spec.seed) if logged else {}
    texts = {} if "ordered" not in task.files else _texts_of(task.files["ordered"])
    measured = measured_texts(folder, spec)
    n_before, left_out = len(texts), Counter({NOT_FOUND: n_lost} if n_lost else {})
    for text in (*samples, *(text for some in by_label.values() for text in some)):
        if why := _why_unfit(text, measured):
            left_out[why] += 1
        else:
            texts.setdefault(row_id(text), text)
    if len(texts) > n_before:
        lines = (json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts.values())
        scratch = target.with_name(f".{target.name}")
        scratch.write_text("".join(lines), encoding="utf-8")
        scratch.replace(target)
    n_by_label = {label: len(some) for label, some in by_label.items()}
    return Filled(target, wanted, len(samples), n_by_label, len(texts) - n_before, len(texts), left_out)


def _samples(path: Path, order: Order, logged: Sequence[Logged]) -> tuple[list[str], int]:
    """Return the texts that the order names, from itself or from the log, and how many neither has."""
    known = {one.id: one.text for one in logged}
    texts = [one.text if one.text is not None else known.get(one.id) for one in order.samples]
    found = [text for text in texts if text is not None]
    n_lost = len(texts) - len(found)
    if n_lost and (not found or not logged):
        where = "in the log" if logged else "in it"
        hint = "give the log it was made from: --log FILE; or order again with `factory watch --with-texts`"
        raise FactoryError(f"{path}: {n_lost} of the {len(texts)} texts it names are not {where}", hint=hint)
    return found, n_lost


def _texts_of(file: DataFile) -> dict[str, str]:
    return {row_id(text): text for text in read_rows(file.path, labels=None, origin=Origin.SILVER)["text"]}


def _why_unfit(text: str, measured: frozenset[str]) -> str:
    """Say why a text of production can be no row of the task; empty when it can."""
    try:
        text_of({"text": text})
    except WrongRow as error:
        return str(error)
    return "is a gold row, which is only measured on" if fold(text) in measured else ""


def _texts_by_label(
    order: Order, logged: Sequence[Logged], taken: set[str], outputs: Path, *, seed: int
) -> dict[str, list[str]]:
    """Draw texts that the watched version takes for a label that lacks rows, as many as it lacks at most."""
    texts = [text for text in dict.fromkeys(one.text for one in logged) if text not in taken]
    if not order.labels or not texts:
        return {}
    predictor = load(outputs, order.task, str(order.version))
    answers = predictor.predict_proba(texts).argmax(axis=1)
    n_sampled = Counter(sample.label for sample in order.samples)
    rng = np.random.default_rng(seed)
    drawn = {}
    for one in order.labels:
        if one.label not in predictor.labels:
            continue  # a label of a newer spec: the version cannot say which texts are of it
        at = rng.permutation(np.flatnonzero(answers == predictor.labels.index(one.label)))[
            : max(0, one.n_rows - n_sampled[one.label])
        ]
        drawn[one.label] = [texts[position] for position in sorted(at.tolist())]
    return drawn


def filled_lines(filled: Filled) -> list[str]:
    """Say what an order brought, for people."""
    lines = [f"{filled.n_samples:,} texts that the order names"]
    lines += [f"{n:,} other texts that the model takes for {label}" for label, n in filled.n_by_label.items()]
    n_sampled = Counter(sample.label for sample in filled.order.samples)
    for one in filled.order.labels:
        n_lacking = one.n_rows - n_sampled[one.label] - filled.n_by_label.get(one.label, 0)
        if n_lacking > 0:
            lines.append(f"not found: {n_lacking:,} of {one.n_rows:,} rows of {one.label}")
    lines += [f"left out, {n:,}: {why}" for why, n in filled.left_out.items()]
    return [*lines, f"{filled.file}: {filled.n_new:,} new texts; {filled.n_rows:,} in all, which the teacher labels"]


def compared_with_watched(outputs: Path, order: Order, version: int) -> Comparison | None:
    """Compare the new version with the one that was watched, on the gold rows of both.

    Args:
        outputs: Where builds are.
        order: Names the watched version.
        version: The new one.

    Returns:
        The comparison; None where nothing new was built, or there are no gold rows that both were judged on.
    """
    if version == order.version:
        return None
    try:
        return compare(outputs, order.task, str(order.version), str(version))
    except ArtifactMissing as missing:
        emit(Warned("compare", str(missing)))
        return None
