"""The rows that a release was trained on, with their card: a folder as the Hugging Face hub takes data sets.

    hf upload --repo-type dataset your-name/your-data DIR

Rows and evaluation are those of the stages that the lineage names, so the outputs of the build must be at hand. Whether
you may publish the rows is yours to say: real ones are among them.
"""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from factory.errors import ArtifactCorrupt
from factory.evaluation.audit import AUDIT, Audit
from factory.evaluation.comparison import EVALUATE
from factory.evaluation.table_verdict import NumberEvaluation, TableEvaluation
from factory.evaluation.telling import AnyEvaluation
from factory.evaluation.verdict import Evaluation
from factory.records_table import cells_of
from factory.release.cards import dataset_card
from factory.release.lineage import read_lineage, training_rows_of
from factory.release.package import Lineage, PackageParams
from factory.result_folder import read_manifest
from factory.store import Artifact

if TYPE_CHECKING:
    import pyarrow
    from datasets import Dataset

ROWS, CARD = "train.parquet", "README.md"
LEFT_OUT = ("replies",)
"""Keys of a reply store that stays here."""


def write_dataset(release: Path, folder: Path) -> None:
    """Write the training rows as Parquet, and their card.

    Args:
        release: A release folder, where its build put it.
        folder: An empty folder.

    Raises:
        ArtifactMissing: The rows are no longer stored here.
        ArtifactCorrupt: A file is not the one that was stored, or the release was made by another version.
    """
    import pyarrow.parquet as pq

    root = release.parents[1]
    rows = training_rows_of(release, root).kept
    params = _params_of(release)
    table = _flat(rows)
    pq.write_table(table, folder / ROWS)
    counts: dict[str, dict[str, int]] = {}
    for label, origin in zip(rows["label"][:], rows["origin"][:], strict=True):
        of_label = counts.setdefault(str(label) if params.kind.has_labels else "", {})
        of_label[origin] = of_label.get(origin, 0) + 1
    strategies = Counter(strategy for strategy in rows["strategy"][:] if strategy)
    text = dataset_card(
        params,
        counts=counts,
        columns=table.column_names,
        strategies=dict(strategies.most_common()),
        evaluation=_evaluation_of(release, root),
        audit=_stored(release, root, AUDIT.name, Audit),
    )
    (folder / CARD).write_text(text, encoding="utf-8")


def _flat(rows: "Dataset") -> "pyarrow.Table":
    """Return the rows without what is of no use elsewhere; cells of a table become columns of their own."""
    import pyarrow as pa

    kept = [name for name in rows.column_names if name not in (*LEFT_OUT, "features")]
    columns: dict[str, Any] = {}
    if "features" in rows.column_names:
        columns = {name if name not in kept else f"cell_{name}": cell for name, cell in cells_of(rows).items()}
    whole = rows.with_format("arrow")[:]
    return pa.table({**columns, **{name: whole[name] for name in kept}})


def _params_of(release: Path) -> PackageParams:
    """Read what the release was packaged with, as its manifest keeps it."""
    said = read_manifest(release)["key"]["params"]
    try:
        return PackageParams.model_validate(said)
    except ValueError as error:
        raise ArtifactCorrupt(f"{release}: was written by another version", hint="build the task again") from error


def _evaluation_of(release: Path, root: Path) -> AnyEvaluation | None:
    kind = _params_of(release).kind
    result = (TableEvaluation if kind.has_labels else NumberEvaluation) if kind.is_table else Evaluation
    found: AnyEvaluation | None = _stored(release, root, EVALUATE.name, result)
    return found


def _stored(release: Path, root: Path, stage: str, result: type[Any]) -> Any:
    """Return the result of a stage of the build; None where the build had none or it is gone."""
    lineage: Lineage = read_lineage(release)
    run = next((run for run in lineage.stages if run.stage == stage), None)
    folder = None if run is None else root / run.stage / run.fingerprint
    return Artifact(folder, result, was_cached=True).load() if folder is not None and folder.is_dir() else None
