"""What the report of a build shows besides its evaluation, gathered from the stored stages."""

import importlib.metadata
import time
from collections.abc import Mapping, Sequence
from typing import Any

from factory.check import Task
from factory.encoders import load_encoder
from factory.evaluation.coverage import LabelCoverage, coverage_of
from factory.evaluation.data_map import DATA_MAP, REAL_FILE, DataMap, DataMapParams
from factory.evaluation.report import BuildInfo, Headline, RejectedExample, Snippet, StageInfo, TeacherUsage
from factory.evaluation.table_map import TABLE_MAP, TableMapParams
from factory.evaluation.telling import AnyEvaluation
from factory.evaluation.verdict import Evaluation, in_percent, in_points
from factory.labelling.aggregate import AGGREGATE
from factory.records import Origin, Rows, column_of, texts_of
from factory.release.measure import Speed
from factory.spec import Prices
from factory.store import Artifact
from flows.audit import REAL
from flows.products import Products
from flows.steps import Runner

EXAMPLES_PER_REASON = 6
"""Rejected rows shown in the report for each stage and reason."""
GOLD = ("-holdout", "-ceiling", "-calibration")
"""End the names of stages whose rows are judged on, or compared with: no map shows them."""
GENERATED = (Origin.SYNTHETIC, Origin.AUGMENTED)


def draw_map(task: Task, products: Products, artifacts: Sequence[Artifact[Any]], run: Runner) -> Artifact[DataMap]:
    """Place what was trained on, the real rows, and what stages rejected."""
    inputs = {"rows": products.taught}
    inputs |= {f"{REAL_FILE}{key}": products.files[key] for key in (*REAL, "reviewed") if key in products.files}
    inputs |= {artifact.folder.parent.name: artifact for artifact in artifacts if _rejects(artifact)}
    inputs = {name: artifact for name, artifact in inputs.items() if not name.endswith(GOLD)}
    spec = task.spec
    if spec.table is not None:
        return run(TABLE_MAP, TableMapParams(seed=spec.seed, table=spec.table), inputs=inputs)
    resources = {"encoder": load_encoder(spec.encoder)}
    return run(DATA_MAP, DataMapParams(seed=spec.seed), inputs=inputs, resources=resources)


def build_info(task: Task, artifacts: Sequence[Artifact[Any]], *, teacher: str, prices: Prices | None) -> BuildInfo:
    """Gather what the stages themselves say.

    Args:
        task: What was built.
        artifacts: Every stage of the build, in order.
        teacher: Identity of the teacher; empty when none was asked.
        prices: Of the teacher.

    Returns:
        Stages, rejections, costs, attributes and versions; what was measured is added by the caller.
    """
    spec = task.spec
    stages, examples = [], []
    for artifact in artifacts:
        kept, by_reason, rejected = _rows_of(artifact)
        varying = artifact.manifest["varying"]
        stages.append(
            StageInfo(
                name=artifact.folder.parent.name,
                fingerprint=artifact.fingerprint,
                was_cached=artifact.was_cached,
                seconds=varying["seconds"],
                summary=artifact.manifest["summary"],
                kept=kept,
                rejected_by_reason=by_reason,
            )
        )
        examples += rejected
    return BuildInfo(
        task=spec.name,
        description=spec.description,
        labels={label.name: label.phrase for label in spec.labels},
        stages=tuple(stages),
        seconds=sum(stage.seconds for stage in stages),
        teacher=_usage(artifacts, teacher, prices) if teacher else None,
        rejected_examples=tuple(examples),
        versions={name: importlib.metadata.version(name) for name in ("onnxruntime", "scikit-learn", "torch")},
        built_at=time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        use=_use(task),
    )


def headlines(evaluation: AnyEvaluation, speed: Speed, info: BuildInfo, n_rows: int) -> tuple[Headline, ...]:
    """Choose the figures that are shown large."""
    found = []
    if isinstance(evaluation, Evaluation):
        right = evaluation.student.accuracy
        name = "right on gold rows" if evaluation.gold else "right, out of fold (an estimate)"
        found.append(Headline(name, f"{100 * right.value:.1f} %", f"{in_percent(right).partition(' ')[2][1:-1]} %"))
        versus = evaluation.versus_teacher
        if versus:
            points = in_points(versus.accuracy)
            found.append(Headline("against the teacher", points.split()[0], f"points {points.partition(' ')[2]}"))
    else:
        known = {(one.contender, one.figure): one.estimate for one in evaluation.scores}
        r2 = known.get(("student", "r2"))
        if r2:
            found.append(Headline("R2", f"{r2.value:.3f}", f"{r2.low:.3f} to {r2.high:.3f}"))
    found.append(Headline("an answer takes", f"{speed.p50_ms:.2g} ms", f"95 % within {speed.p95_ms:.2g} ms"))
    found.append(Headline("size", f"{speed.size_mb:.1f} MB", "the folder, without this report"))
    found.append(Headline("trained on", f"{n_rows:,} rows"))
    return (*found, _cost(info))


def attribute_coverage(artifacts: Sequence[Artifact[Any]], rows: Rows) -> tuple[LabelCoverage, ...]:
    """Compare the things that the teacher named for each label with the texts that are trained on."""
    things: dict[str, list[str]] = {}
    for artifact in artifacts:
        if (artifact.folder / "kept.parquet").is_file():
            for label, named in artifact.load().report.get("things", {}).items():
                things.setdefault(label, []).extend(named)
    if not things:
        return ()
    columns = zip(rows.kept["text"][:], rows.kept["label"][:], rows.kept["origin"][:], strict=True)
    written = [(text, label) for text, label, origin in columns if origin in GENERATED]
    return coverage_of(things, [text for text, _ in written], [label for _, label in written])


def voter_facts(artifacts: Sequence[Artifact[Any]]) -> dict[str, str]:
    """Say how far each voter on pool rows can be relied on; nothing where nobody voted."""
    voted = next((artifact for artifact in artifacts if artifact.folder.parent.name == AGGREGATE.name), None)
    if voted is None:
        return {}
    said = []
    for voter in voted.load().report["voters"]:
        right = "" if voter["accuracy"] is None else f", right on {voter['accuracy']:.0%} as far as the others know"
        said.append(f"{voter['voter']}: {voter['n_votes']:,} votes{right}, weight {voter['weight']:.2f}")
    return {"voters on pool rows": "; ".join(said)}


def table_origin(rows: Rows) -> str:
    """Say what a student of a table was trained on: rows of people, rows a teacher wrote, or none."""
    n_rows = len(rows.kept)
    if not n_rows:
        return "Trained on no row, but on what the teacher believes of the columns."
    n_written = sum(origin in GENERATED for origin in column_of(rows.kept, "origin").to_pylist())
    written = f", {n_written:,} of them written by the teacher" if n_written else ""
    return f"Trained on {n_rows:,} labelled rows{written}."


def _rejects(artifact: Artifact[Any]) -> bool:
    return _n_rejected(artifact) > 0


def _n_rejected(artifact: Artifact[Any]) -> int:
    import pyarrow.parquet as pq

    path = artifact.folder / "rejected.parquet"
    return int(pq.read_metadata(path).num_rows) if path.is_file() else 0


def _rows_of(artifact: Artifact[Any]) -> tuple[int | None, Mapping[str, int], list[RejectedExample]]:
    """Return how many rows a stage kept, counts by reason and the first rejected rows; nothing for other stages."""
    if not (artifact.folder / "rejected.parquet").is_file():
        return None, {}, []
    rows = artifact.load()
    by_reason: dict[str, int] = rows.report.get("rejected_by_reason", {})
    taken: dict[str, list[int]] = {}
    for position, reason in enumerate(rows.rejected["reason"][:]):
        if len(of_reason := taken.setdefault(reason, [])) < EXAMPLES_PER_REASON:
            of_reason.append(position)
    first = rows.rejected.select([position for some in taken.values() for position in some])
    examples = [
        RejectedExample(artifact.folder.parent.name, row["reason"], text, str(row["label"] or ""), row["score"])
        for row, text in zip(first, texts_of(first), strict=True)
    ]
    return len(rows.kept), by_reason, examples


def _usage(artifacts: Sequence[Artifact[Any]], teacher: str, prices: Prices | None) -> TeacherUsage:
    """Add up what the stages asked when they ran."""
    varying = [artifact.manifest["varying"] for artifact in artifacts]
    calls, read, written = (
        sum(one.get(name, 0) for one in varying) for name in ("teacher_calls", "prompt_tokens", "completion_tokens")
    )
    usd = None
    if prices is not None and ", " not in teacher:  # those of other teachers are not known
        usd = (read * prices.input_usd_per_million + written * prices.output_usd_per_million) / 1e6
    elif teacher.startswith("embedded:") and ", " not in teacher:
        usd = 0.0
    return TeacherUsage(teacher, calls, read, written, usd)


def _cost(info: BuildInfo) -> Headline:
    minutes = f"{info.seconds / 60:.1f} min" if info.seconds >= 60 else f"{info.seconds:.0f} s"
    if info.teacher is None:
        return Headline("to build", minutes, "no LLM was asked")
    money = "" if info.teacher.usd is None else f", ${info.teacher.usd:,.2f}"
    return Headline("to build", minutes, f"{info.teacher.calls:,} calls of the teacher{money}")


def _use(task: Task) -> tuple[Snippet, ...]:
    """Say how the model is used, from the command line and without the factory."""
    name = task.spec.name
    if task.spec.kind.is_table:
        here = f"factory predict {name} --in rows.csv --out answers.csv"
        alone = "pip install -r requirements.txt\npython predict.py --in rows.jsonl"
        code = ""
    else:
        here = f'factory predict {name} "a text"\nfactory predict {name} --in texts.jsonl --out labelled.jsonl'
        alone = 'pip install -r requirements.txt\npython predict.py "a text"'
        code = 'from predict import Predictor\n\nprint(Predictor(".").predict_proba(["a text"]))'
    found = (
        Snippet("Here", f"{here}\nfactory serve {name}"),
        Snippet("Anywhere: copy the folder this report lies in, no factory and no PyTorch needed", alone),
        Snippet("In Python, inside that folder", code),
    )
    return tuple(one for one in found if one.code)
