"""What can be started from Prefect besides a build: label a pool, vary rows, answer a file, ask for the verdict."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

from factory.check import Task
from factory.curation.gather import GATHER, GatherParams
from factory.errors import FactoryError
from factory.records import Rows
from factory.release.files import Files
from factory.release.registry import Registry
from factory.serving.bulk import answer_here, predict_file
from factory.serving.predictor import open_release
from factory.spec import VerdictSpec
from factory.spec_file import SPEC_FILE, load_spec
from factory.store import Artifact
from flows.augmentation import VARIED_KEYS, augment, gather_real
from flows.build import Steps, running
from flows.cascading import set_calibration_aside
from flows.choices import report_line
from flows.following import escaped, publish_markdown, publish_table
from flows.pool import label_real, settle
from flows.recipe import read_files
from flows.reviewed import REVIEWED, drop_decided
from flows.steps import named
from flows.verdict import figures, read_verdict


def label_rows(task: Task, outputs: Path, n_rows: int | None) -> str:
    """Let the teachers label real texts, as a build would, and write those that nobody has reviewed into a file.

    Args:
        task: A checked task folder with a pool, or with texts that were ordered.
        outputs: Where results go.
        n_rows: How many rows of the pool; None: as the spec says. All that were ordered are labelled as well.

    Returns:
        A line for a person.

    Raises:
        FactoryError: The task has no such texts, or is of a table.
    """
    _require_texts(task)
    spec = task.spec
    nothing = FactoryError(
        f"{spec.name}: there is nothing to label",
        hint="name real texts in the spec under data.pool, and how many of them under labelling.label_pool",
    )
    if n_rows and "pool" not in task.files:
        raise nothing
    labelling = spec.labelling.model_copy(update={"label_pool": n_rows or spec.labelling.label_pool})
    task = replace(task, spec=spec.model_copy(update={"labelling": labelling}))
    # How many texts were ordered is known once they are read: then no total is shown.
    wanted = 0 if "ordered" in task.files else labelling.label_pool
    with running(task, outputs, wanted=wanted) as (run, teachers):
        files = set_calibration_aside(task, read_files(task, run), run)
        labelled = label_real(task, files, teachers, run)
        if labelled is None:
            raise nothing
        rows = settle(task, labelled, run, pool=files.get("pool"), reviewed=files.get(REVIEWED))
        return _written(task, drop_decided(files, rows, "labelled", run), "labelled", outputs, run)


def augment_rows(task: Task, outputs: Path, per_label: int | None) -> str:
    """Let the teacher vary labelled rows, as a build would, and write what kept meaning and label into a file.

    What a person has seen and decided on in a review is not among it.

    Args:
        task: A checked task folder with seeds or train rows.
        outputs: Where results go.
        per_label: Texts asked for from the rows of each label; None: as the spec says.

    Returns:
        A line for a person.

    Raises:
        FactoryError: The task has no labelled rows, or is of a table.
    """
    _require_texts(task)
    spec = task.spec
    if not any(key in task.files for key in VARIED_KEYS) or not spec.augmentation.strategies:
        raise FactoryError(
            f"{spec.name}: there is nothing to vary", hint="name labelled rows in the spec under data.seeds or train"
        )
    if per_label is not None:
        asked = spec.augmentation.model_copy(update={"per_label": per_label, "per_row": None})
        task = replace(task, spec=spec.model_copy(update={"augmentation": asked}))
    wanted = None if task.spec.augmentation.per_label is None else task.spec.augmentation.per_label * len(spec.labels)
    with running(task, outputs, wanted=wanted) as (run, _):
        files = set_calibration_aside(task, read_files(task, run), run)
        made = augment(task, gather_real(task, files, run), run.teacher, run)
        last = {name: steps[-1] for name, steps in made.items()}
        rows = run(named(GATHER, "augmented"), GatherParams(), inputs=last)
        return _written(task, drop_decided(files, rows, "augmented", run), "augmented", outputs, run)


def _require_texts(task: Task) -> None:
    if task.spec.kind.is_table:
        raise FactoryError(f"{task.spec.name}: is of a table, and only texts can be labelled or varied by a teacher")


def _written(task: Task, rows: Artifact[Rows], kind: str, outputs: Path, run: Steps) -> str:
    """Write rows into a file named after what they follow from, and show how many there are."""
    kept = rows.load().kept
    path = outputs / task.spec.name / kind / f"{rows.content_hash[:12]}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_suffix(".tmp")
    lines = ({"text": row["text"], "label": row["label"], "weight": row["weight"]} for row in kept)
    scratch.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")
    scratch.rename(path)
    run.note.finished()
    counts = Counter(kept["label"]).most_common()
    # No texts: Prefect's server may be one that others read.
    publish_table(
        [{"label": label, "rows": n} for label, n in counts],
        f"{task.spec.name}-{kind}",
        f"{len(kept):,} rows in {path}",
    )
    by_label = ", ".join(f"{label} {n:,}" for label, n in counts)
    again = (
        ""
        if rows.manifest["is_complete"]
        else "; not finished (budget, or the teacher did not answer): run it again to go on"
    )
    return f"{len(kept):,} rows in {path}: {by_label or 'none'}{again}"


def predict_into(outputs: Path, model: str, version: str | None, source: Path, target: Path, *, column: str) -> str:
    """Label a file with a built model; see `factory.serving.bulk`.

    Args:
        outputs: Where builds are.
        model: Name of the task.
        version: Number or alias; None: the champion, else the candidate.
        source: To read.
        target: To write.
        column: Where the texts are.

    Returns:
        A line for a person.

    Raises:
        FactoryError: There is no such model or source, or the target exists.
    """
    if target.exists():
        raise FactoryError(f"{target}: is there already", hint="name another file, or move it away")
    release = Registry(outputs).resolve(model, version)
    answering = Artifact(release, Files, was_cached=True).content_hash
    done = predict_file(source, target, answer_here(open_release(release)), model=answering, column=column)
    resumed = f", {done.n_resumed:,} of {done.n_parts:,} parts from an earlier run" if done.n_resumed else ""
    return f"{target}: {done.n_rows:,} rows in {done.seconds:.1f} s{resumed}"


def judge_model(outputs: Path, model: str, version: str | None, folder: Path) -> str:
    """Show in Prefect whether a built model may replace the LLM.

    Args:
        outputs: Where builds are.
        model: Name of the task.
        version: Number or alias; None: the champion, else the candidate.
        folder: Of the task, for prices; it need not be there.

    Returns:
        The verdict in one sentence.
    """
    # A release may be judged where its task folder is not; then no prices are known.
    spec = load_spec(folder) if (folder / SPEC_FILE).is_file() else None
    settings, prices = (spec.verdict, spec.teacher.known_prices) if spec else (VerdictSpec(), None)
    found = read_verdict(outputs, model, version, settings, prices)
    release = Registry(outputs).resolve(model, version)
    lines = [f"- {escaped(name)}: {escaped(value)}" for name, value in figures(found)]
    text = "\n".join([f"# {escaped(found.decision.sentence)}", "", report_line(release), "", *lines, ""])
    publish_markdown(text, f"{model}-verdict", "The verdict")
    return found.decision.sentence
