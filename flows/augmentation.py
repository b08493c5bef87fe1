"""Real labelled rows: what is trained on of them, what the teacher makes of them, and how written texts follow them."""

from collections import Counter
from collections.abc import Mapping

from factory.check import Task
from factory.curation.gather import GATHER, GatherParams
from factory.curation.meaning import MEANING, MeaningParams
from factory.curation.weigh import WEIGH, WeighParams
from factory.encoders import load_encoder
from factory.labelling.verify import VERIFY
from factory.records import Rows
from factory.spec import Plugin
from factory.store import Artifact, Resource
from factory.synthesis.augment import AugmentParams
from factory.synthesis.augmenters import AUGMENTERS
from factory.teacher import Teacher
from flows.reviewed import drop_decided, without_leaks
from flows.steps import CEILING, REAL_ROWS, Runner, named, verify_params

PER_LABEL = 40
"""Texts asked for from the rows of each label, unless the spec says otherwise."""
EXPECTED_KEPT_RATIO = 0.6
"""Share of varied rows that is expected to pass all filters, for the plan."""
VARIED_KEYS = ("train", "seeds")
"""With either of them, real rows are varied too."""
REAL_KEYS = (*VARIED_KEYS, "reviewed")
"""Files of rows that people labelled for training."""


def gather_real(task: Task, files: Mapping[str, Artifact[Rows]], run: Runner) -> Artifact[Rows] | None:
    """Gather the rows that people labelled for training, without those too near to the holdout; None without any."""
    given = {key: files[key] for key in REAL_KEYS if key in files}
    if not given:
        return None
    for key in VARIED_KEYS:
        if key in given:
            given[key] = drop_decided(files, given[key], key, run)
    rows = run(named(GATHER, "real"), GatherParams(), inputs=given)
    return without_leaks(task, rows, files, "real", run)


def augment(
    task: Task, real: Artifact[Rows] | None, teacher: Teacher, run: Runner
) -> dict[str, tuple[Artifact[Rows], ...]]:
    """Let the teacher vary real rows, then see whether they kept their meaning and their label.

    Args:
        task: The task; `augmentation` says how, and how much.
        real: From `gather_real`.
        teacher: Whom to ask.
        run: Runs the stages.

    Returns:
        For each strategy the steps it took: what was written, what kept its meaning, and last what kept its label;
        nothing where people only reviewed rows of the pool.
    """
    if real is None or not any(key in task.files for key in VARIED_KEYS):
        return {}
    return {plugin.name: _vary(task, plugin, real, teacher, run) for plugin in task.spec.augmentation.strategies}


def _vary(
    task: Task, plugin: Plugin, real: Artifact[Rows], teacher: Teacher, run: Runner
) -> tuple[Artifact[Rows], ...]:
    spec, augmenter = task.spec, AUGMENTERS[plugin.name]
    encoder = load_encoder(task.spec.encoder)
    per_label, per_row = _amount(task)
    params = AugmentParams(
        description=spec.description,
        labels=spec.labels,
        per_label=per_label,
        per_row=per_row,
        seed=spec.seed,
        options=augmenter.options(**plugin.params),
    )
    resources: dict[str, Resource] = {"teacher": teacher}
    if augmenter.needs_encoder:
        resources["encoder"] = encoder
    written = run(augmenter.stage, params, inputs={"rows": real}, resources=resources)
    near = run(
        named(MEANING, plugin.name),
        MeaningParams(least=augmenter.least_similarity),
        inputs={"rows": written, "parents": real},
        resources={"encoder": encoder},
    )
    if not spec.labelling.verify:
        return written, near
    again = named(VERIFY, plugin.name)
    verified = run(again, verify_params(task), inputs={"rows": near}, resources={"teacher": teacher})
    return written, near, verified


def _amount(task: Task) -> tuple[int | None, int | None]:
    """Return texts a label and texts a row for one strategy; one of them is None."""
    asked = task.spec.augmentation
    n = len(asked.strategies)
    return (None, -(-asked.per_row // n)) if asked.per_row else (-(-(asked.per_label or PER_LABEL) // n), None)


def count_real(task: Task, real: Artifact[Rows] | None, run: Runner) -> Counter[str]:
    """Count real rows by label; a plan that does not know them takes train rows to be enough, and seeds to be none."""
    known = run.peek(real) if real is not None else None
    if known is not None:
        return Counter(known.kept["label"])
    n = task.spec.wanted_per_label if "train" in task.files else 0
    return Counter(dict.fromkeys(task.spec.label_names, n))


def expected_varied(task: Task) -> Counter[str]:
    """Guess how many rows a label gains by augmentation, for a plan."""
    has_real = any(key in task.files for key in VARIED_KEYS) and task.spec.augmentation.strategies
    per_label = task.spec.augmentation.per_label or PER_LABEL
    n = int(EXPECTED_KEPT_RATIO * per_label) if has_real and not task.spec.augmentation.per_row else 0
    return Counter(dict.fromkeys(task.spec.label_names, n))


def real_texts(
    files: Mapping[str, Artifact[Rows]], real: Artifact[Rows] | None, pool: Artifact[Rows] | None, run: Runner
) -> Artifact[Rows] | None:
    """Gather the real texts that written ones shall be like: never the holdout's.

    Args:
        files: The data files; of these only the pool is looked at.
        real: From `gather_real`.
        pool: Rows of the pool that the teacher labelled, if it did; without them the pool's texts tell how real ones
            look.
        run: Runs the stages.

    Returns:
        All that there are, or None.
    """
    found = {"real": real, "pool": pool or files.get("pool")}
    given = {name: rows for name, rows in found.items() if rows is not None}
    if len(given) < 2:
        return next(iter(given.values()), None)
    return run(named(GATHER, "like"), GatherParams(), inputs=given)


def with_real(
    task: Task,
    made: Artifact[Rows] | None,
    real: Artifact[Rows] | None,
    run: Runner,
    *,
    accepted: Artifact[Rows] | None = None,
) -> Artifact[Rows]:
    """Add real rows to made ones; written rows weigh less beside them, and labels as much as among train rows.

    Args:
        task: The task.
        made: Rows of the pool, varied and written ones, after all filters; None where nothing was made.
        real: From `gather_real`; not filtered with the others, so that no made row ever replaces one.
        run: Runs the stages.
        accepted: Written rows that people approved of, not filtered either.

    Returns:
        The training rows.
    """
    given = (("rows", made), ("real", real), ("accepted", accepted))
    parts = {name: rows for name, rows in given if rows is not None}
    rows = (
        run(named(GATHER, "training"), GatherParams(), inputs=parts) if len(parts) > 1 else next(iter(parts.values()))
    )
    if real is None or not (made or "train" in task.files):
        return rows
    weighed = task.spec.label_names if "train" in task.files else ()
    return run(WEIGH, WeighParams(labels=weighed), inputs={"rows": rows})


def compared_rows(
    files: Mapping[str, Artifact[Rows]], real: Artifact[Rows] | None, run: Runner
) -> dict[str, Artifact[Rows]]:
    """Return the rows on which alone the chosen student is fitted too, to compare it with, by contender."""
    given = {REAL_ROWS: real, CEILING: files.get("ceiling")}
    known = {name: run.peek(rows) if rows is not None else None for name, rows in given.items()}
    return {
        name: rows
        for name, rows in given.items()
        if rows is not None and ((found := known[name]) is None or len(set(found.kept["label"])) > 1)
    }
