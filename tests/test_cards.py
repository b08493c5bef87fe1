"""Cards: metadata that the hub reads, numbers with intervals, licences, limits; nothing that a text could add."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from huggingface_hub import DatasetCard, ModelCard

from factory.errors import ArtifactMissing, FactoryError
from factory.evaluation.audit import AUDIT as AUDIT_STAGE
from factory.evaluation.audit import Audit
from factory.evaluation.comparison import EVALUATE
from factory.evaluation.verdict import Evaluation
from factory.records import Origin, Rows, TextRow, all_kept, text_dataset
from factory.release.bundles import export_bundle
from factory.release.cards import dataset_card
from factory.release.export import EXPORT, Exported
from factory.release.package import PACKAGE, PackageParams, Release, package, stage_run
from factory.spec import Kind, Label, Model
from factory.store import Artifact, Stage, run_stage
from tests.released import AUDIT, CODE, LINEAGE, PAGE, PARAMS, SPEED, evaluation, exported

HOSTILE = "| <script>alert(1)</script> [x](javascript:1) `\n---\n# x"
MIXED = [
    TextRow("play some jazz", "music", Origin.GOLD),
    TextRow("put on a song", "music", Origin.SYNTHETIC, strategy="attributes", teacher="t", replies=("k" * 8,)),
    TextRow("rain today?", "weather", Origin.SYNTHETIC, strategy="attributes", teacher="t"),
    TextRow("wind tomorrow", "weather", Origin.SILVER, teacher="t"),
]


def model_card_of(params: PackageParams = PARAMS, *, gold: bool = True) -> str:
    found = package(
        params, exported=exported(), speed=SPEED, evaluation=evaluation(gold=gold), audit=AUDIT, report=PAGE, code=CODE
    )
    return found.contents["card.md"].decode()


def dataset_card_of(params: PackageParams = PARAMS) -> str:
    counts = {"music": {"gold": 1, "synthetic": 1}, "weather": {"synthetic": 1, "silver": 1}}
    return dataset_card(
        params,
        counts=counts,
        columns=("id", "text", "label"),
        strategies={HOSTILE: 2},
        evaluation=evaluation(),
        audit=None,
    )


def test_figures_on_gold_rows_are_in_the_metadata_with_their_intervals() -> None:
    data = ModelCard(model_card_of()).data
    accuracy = next(one for one in data.eval_results if one.metric_type == "accuracy")
    assert accuracy.metric_value == evaluation().student.accuracy.value
    low, high = accuracy.metric_args["interval_95"]
    assert low <= accuracy.metric_value <= high
    assert accuracy.metric_args["rows"] == 24


def test_figures_on_synthetic_rows_are_not_in_the_metadata() -> None:
    assert ModelCard(model_card_of(gold=False)).data.eval_results is None


@pytest.mark.parametrize("language", [None, "sv"])
def test_a_language_is_named_where_the_spec_names_one(language: str | None) -> None:
    text = model_card_of(PARAMS.model_copy(update={"language": language}))
    assert ModelCard(text).data.language == language
    assert ("in the language `sv` alone" in text) is (language == "sv")


def test_the_card_says_what_the_model_is_for_and_whose_parts_are_in_it() -> None:
    text = model_card_of()
    for expected in ("## Intended use", "## Limits", "## Licences", "- SNIPS holdout: CC0"):
        assert expected in text


def test_the_card_of_rows_counts_them_by_who_made_them() -> None:
    text = dataset_card_of()
    data = DatasetCard(text).data
    assert data.license == "apache-2.0"
    assert data.task_categories == ["text-classification"]
    assert data.size_categories == "n<1K"
    assert data.configs == [{"config_name": "default", "data_files": [{"split": "train", "path": "train.parquet"}]}]
    assert "| synthetic | 2 | written by the teacher |" in text
    assert "| gold | 1 | real, labelled by people |" in text
    assert "(95 % interval)" in text
    assert "Labels of the teacher are its opinion" in text


def test_hostile_texts_add_no_markup_to_a_card() -> None:
    one_line = HOSTILE.replace("\n", " ")
    hostile = PARAMS.model_copy(
        update={"description": HOSTILE, "labels": (Label(name=one_line, description=one_line), Label(name="b"))}
    )
    for text in (model_card_of(hostile), dataset_card_of(hostile)):
        assert "<script>" not in text
        assert "[x](" not in text
        assert text.count("\n# ") == 1


class Nothing(Model):
    """Parameters of stages made up here."""


def stored(root: Path) -> Artifact[Release]:
    """Store a release with the stages that its lineage names."""
    rows = run_stage(root, Stage("gather-1", 1, Nothing, lambda _: all_kept(text_dataset(MIXED)), Rows), Nothing())
    files = run_stage(
        root,
        Stage(EXPORT.name, 1, Nothing, lambda _, rows: exported(), Exported),
        Nothing(),
        inputs={"rows": rows},
    )
    judged = run_stage(root, Stage(EVALUATE.name, 1, Nothing, lambda _: evaluation(), Evaluation), Nothing())
    audited = run_stage(root, Stage(AUDIT_STAGE.name, 1, Nothing, lambda _: AUDIT, Audit), Nothing())
    runs = tuple(stage_run(one) for one in (rows, files, judged, audited))
    params = PARAMS.model_copy(update={"lineage": LINEAGE.model_copy(update={"stages": runs})})

    def made(params: PackageParams) -> Release:
        return package(
            params, exported=exported(), speed=SPEED, evaluation=evaluation(), audit=AUDIT, report=PAGE, code=CODE
        )

    return run_stage(root, Stage(PACKAGE.name, 1, PackageParams, made, Release), params)


def test_the_rows_of_a_release_are_exported_with_their_card(tmp_path: Path) -> None:
    release = stored(tmp_path / "outputs")
    export_bundle(release.folder, "dataset", tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["README.md", "train.parquet"]
    table = pq.read_table(tmp_path / "out" / "train.parquet")
    assert table["text"].to_pylist() == [row.text for row in MIXED]
    assert "replies" not in table.column_names
    card = DatasetCard.load(tmp_path / "out" / "README.md")
    assert card.data.pretty_name == "tiny"
    assert "- Strategy attributes: 2 rows." in card.text
    assert evaluation().champion in card.text


def test_rows_that_are_gone_are_said_with_the_folder(tmp_path: Path) -> None:
    release = stored(tmp_path / "outputs")
    next((tmp_path / "outputs" / "gather-1").iterdir()).rename(tmp_path / "gone")
    with pytest.raises(ArtifactMissing, match=r"gather-1.*not stored here"):
        export_bundle(release.folder, "dataset", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_unknown_form_names_all(tmp_path: Path) -> None:
    release = stored(tmp_path / "outputs")
    with pytest.raises(FactoryError, match="hub, dataset, got 'zip'"):
        export_bundle(release.folder, "zip", tmp_path / "out")


def test_a_task_of_a_table_says_so_in_the_metadata() -> None:
    params = PARAMS.model_copy(update={"kind": Kind.TABULAR_CLASSIFICATION})
    assert DatasetCard(dataset_card_of(params)).data.task_categories == ["tabular-classification"]
