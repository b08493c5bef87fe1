"""Cards: what a stranger must know of a model or of its training rows, with the metadata the Hugging Face hub reads.

What people and teachers wrote goes through `inline`, which leaves no markup; numbers come with their intervals.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from factory.evaluation.audit import Audit
from factory.evaluation.cascade import CascadeChoice
from factory.evaluation.findings import findings, worst_line
from factory.evaluation.metrics import Estimate
from factory.evaluation.telling import AnyEvaluation, groups_of, groups_sentence, sentence_of, table_of
from factory.evaluation.verdict import STUDENT, Evaluation
from factory.release.export import Exported
from factory.release.gate import GateResult
from factory.release.measure import Speed

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

    from factory.release.package import PackageParams

TEMPLATES = Path(__file__).parent / "templates"
TEXT_CARD, TABLE_CARD, DATASET_CARD = (
    TEMPLATES / f"{name}.md.jinja" for name in ("card", "card_table", "card_dataset")
)
TEMPLATE_FILES = (TEXT_CARD, TABLE_CARD)
"""Of the cards inside a release."""
SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
"""Size categories of the hub, and below which number of rows each ends."""
OF_MODELS = ("Code", "Encoder")
"""Begin the lines of licences that say nothing of rows."""
SYNTHETIC_TAGS = ("distillation", "synthetic-data")


def model_card(
    params: "PackageParams",
    exported: Exported,
    speed: Speed,
    evaluation: AnyEvaluation,
    audit: Audit,
    gate: GateResult,
    cascade: CascadeChoice | None,
) -> str:
    """Write the card of a released model.

    Args:
        params: What no stage knows: names, licences, lineage.
        exported: The files it lies beside.
        speed: As measured.
        evaluation: Figures with intervals; on gold rows they go into the metadata too.
        audit: Of the generated texts.
        gate: Whether the spec's bounds are met.
        cascade: Where the task has one.

    Returns:
        Markdown below its metadata, as `huggingface_hub.ModelCard` reads it.
    """
    from huggingface_hub import ModelCard, ModelCardData

    results = _results(params, evaluation)
    data = ModelCardData(
        language=params.language,
        license=params.licence,
        library_name="onnx",
        pipeline_tag=params.kind.value,
        tags=[params.kind.value, "onnx", *(() if params.kind.is_table else SYNTHETIC_TAGS)],
        metrics=[one.metric_type for one in results] or None,
        model_name=params.name if results else None,
        eval_results=results or None,
    )
    body = _render(
        TABLE_CARD if params.table else TEXT_CARD,
        params=params,
        parity=exported.parity,
        speed=speed,
        evaluation=evaluation,
        audit=worst_line(audit),
        table=table_of(evaluation),
        groups=groups_of(evaluation),
        groups_sentence=groups_sentence(evaluation),
        gate=gate,
        cascade=cascade,
    )
    return str(ModelCard(f"---\n{data.to_yaml()}\n---\n{body}"))


def dataset_card(
    params: "PackageParams",
    *,
    counts: Mapping[str, Mapping[str, int]],
    columns: Sequence[str],
    strategies: Mapping[str, int],
    evaluation: AnyEvaluation | None,
    audit: Audit | None,
) -> str:
    """Write the card of the rows a released model was trained on.

    Args:
        params: Of the release.
        counts: Number of rows by label and by who made them.
        columns: Of the file.
        strategies: Number of rows by the strategy that wrote them; empty where none did.
        evaluation: Of the model trained on them, where it is still stored.
        audit: Of the generated texts among them, where it is still stored.

    Returns:
        Markdown below its metadata, as `huggingface_hub.DatasetCard` reads it.
    """
    from huggingface_hub import DatasetCard, DatasetCardData

    by_origin = {
        origin: sum(one.get(origin, 0) for one in counts.values()) for one in counts.values() for origin in one
    }
    n_rows = sum(by_origin.values())
    made = sum(by_origin.get(origin, 0) for origin in ("synthetic", "augmented"))
    found = made < n_rows
    by_people = by_origin.get("gold", 0) > 0
    data = DatasetCardData(
        language=params.language,
        license=params.licence,
        pretty_name=params.name,
        task_categories=[params.kind.value],
        size_categories=next((name for most, name in SIZES if n_rows < most), "n>1M"),
        annotations_creators=[*(["expert-generated"] if by_people else []), *(["machine-generated"] if made else [])],
        language_creators=[*(["found"] if found else []), *(["machine-generated"] if made else [])],
        tags=list(SYNTHETIC_TAGS) if made else None,
        configs=[{"config_name": "default", "data_files": [{"split": "train", "path": "train.parquet"}]}],
    )
    body = _render(
        DATASET_CARD,
        params=params,
        counts=counts,
        by_origin=by_origin,
        n_rows=n_rows,
        columns=columns,
        strategies=strategies,
        evaluation=evaluation,
        sentence=sentence_of(evaluation) if evaluation else "",
        findings=findings(audit) if audit else [],
        licences=[line for line in params.licences if not line.startswith(OF_MODELS)],
    )
    return str(DatasetCard(f"---\n{data.to_yaml()}\n---\n{body}"))


def _results(params: "PackageParams", evaluation: AnyEvaluation) -> "list[EvalResult]":
    """Return the figures on gold rows for the metadata; those on synthetic rows would mislead whoever sorts by them."""
    from huggingface_hub import EvalResult

    if not evaluation.gold:
        return []
    figures: dict[str, Estimate] = {one.figure: one.estimate for one in evaluation.scores if one.contender == STUDENT}
    if isinstance(evaluation, Evaluation):
        figures = {"accuracy": evaluation.student.accuracy, "f1": evaluation.student.macro_f1, **figures}
    return [
        EvalResult(
            task_type=params.kind.value,
            dataset_type=params.name,
            dataset_name=f"holdout of {params.name}",
            metric_type=name,
            metric_name="macro-F1" if name == "f1" else name,
            metric_value=one.value,
            metric_args={"interval_95": [one.low, one.high], "rows": evaluation.n_rows},
        )
        for name, one in figures.items()
    ]


def _render(path: Path, **variables: Any) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(path.parent),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # this is Markdown: `inline` escapes what people and teachers wrote
    )
    environment.filters["inline"] = inline
    return environment.get_template(path.name).render(**variables)


_ESCAPES = str.maketrans({mark: f"\\{mark}" for mark in "\\`*_[]#"} | {"|": "&#124;", "<": "&lt;"})


def inline(text: str) -> str:
    """Make any text safe inside a line or a table cell of Markdown: it can neither end the cell nor add markup."""
    return " ".join(text.split()).translate(_ESCAPES)
