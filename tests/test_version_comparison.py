"""Comparing two versions of a model on the gold rows that both were judged on."""

import json
from pathlib import Path
from typing import Any

import pytest

from factory.data import READ, DataFile, ReadParams
from factory.errors import ArtifactMissing, FactoryError
from factory.records import Origin, Rows
from factory.release.package import LINEAGE, Release, stage_run
from factory.release.registry import Registry
from factory.serving.comparison import compare
from factory.spec import Model
from factory.store import Artifact, Stage, run_stage
from flows.steps import named
from tests.conftest import Factory
from tests.released import stored_release
from tests.tiny_encoder import LABELS, labelled_rows

pytestmark = pytest.mark.slow
ROWS = [{"text": row["text"], "label": row["label"]} for row in labelled_rows().kept]


class Changes(Model):
    """What makes a release another one."""

    labels: tuple[str, ...]
    lineage: dict[str, Any]


def change(params: Changes, *, release: Release) -> Release:
    config = {**json.loads(release.contents["config.json"]), "labels": params.labels}
    changed = {"config.json": json.dumps(config).encode(), LINEAGE: json.dumps(params.lineage).encode()}
    return Release({**release.contents, **changed})


CHANGE = Stage("release", 2, Changes, change, Release)


def write(path: Path, rows: list[dict[str, str]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def register(outputs: Path, *, labels: tuple[str, ...] = LABELS, holdout: list[dict[str, str]] | None = None) -> None:
    """Register a release that was judged on a holdout; with its labels swapped it is always wrong."""
    original: Artifact[Release] = stored_release(outputs)
    lineage = json.loads((original.folder / LINEAGE).read_text(encoding="utf-8"))
    if holdout is not None:
        file = DataFile(write(outputs.parent / "holdout.jsonl", holdout))
        params = ReadParams(origin=Origin.GOLD, labels=LABELS, needs_label=True)
        read: Artifact[Rows] = run_stage(outputs / "tiny", named(READ, "holdout"), params, resources={"file": file})
        lineage["stages"] = [*lineage["stages"], stage_run(read).model_dump()]
    changed = run_stage(outputs / "tiny", CHANGE, Changes(labels=labels, lineage=lineage), inputs={"release": original})
    Registry(outputs).register("tiny", changed.folder, metrics={}, tags={}, passed_gate=False)


def test_the_difference_is_that_of_the_same_gold_rows(registry_outputs: Path, factory: Factory) -> None:
    register(registry_outputs, holdout=ROWS)
    register(registry_outputs, holdout=ROWS, labels=LABELS[::-1])
    compared = compare(registry_outputs, "tiny", "1", "2")
    assert (compared.n, compared.n_left_out, compared.first.n_only, compared.second.n_only) == (24, 0, 24, 0)
    assert (compared.accuracy.value, compared.accuracy.low, compared.accuracy.high) == (-1, -1, -1)
    assert compared.mcnemar_p == pytest.approx(2 * 0.5**24)
    said = factory("compare", "tiny", "1", "candidate", "--outputs", registry_outputs).out
    assert "Version 2 is less accurate than version 1: -100.0 points (-100.0 to -100.0)" in said
    told = json.loads(factory("compare", "tiny", "2", "1", "--outputs", registry_outputs, "--json").out)
    assert told["verdict"].startswith("version 1 is more accurate than version 2 by +100.0 points")


def test_a_version_is_not_different_from_itself(registry_outputs: Path) -> None:
    register(registry_outputs, holdout=ROWS)
    compared = compare(registry_outputs, "tiny", "candidate", "1")
    assert (compared.accuracy.value, compared.mcnemar_p) == (0, 1)
    assert compared.sentence.startswith("no difference in accuracy is shown by 24 rows")


def test_of_two_holdouts_only_what_is_gold_for_both_is_asked(registry_outputs: Path) -> None:
    relabelled = [{**ROWS[4], "label": "weather"}, *ROWS[5:]]
    register(registry_outputs, holdout=ROWS[:20])
    register(registry_outputs, holdout=relabelled)
    compared = compare(registry_outputs, "tiny", "1", "2")
    assert (compared.n, compared.n_left_out) == (15, 4 + 1 + 1 + 4)


def test_rows_of_a_file_take_the_place_of_the_holdout(registry_outputs: Path, tmp_path: Path) -> None:
    register(registry_outputs)
    rows = write(tmp_path / "rows.jsonl", ROWS[:10])
    assert compare(registry_outputs, "tiny", "1", "1", rows=rows).n == 10
    with pytest.raises(FactoryError, match="'sports'"):
        compare(registry_outputs, "tiny", "1", "1", rows=write(rows, [{"text": "goal", "label": "sports"}]))


@pytest.mark.parametrize(
    ("holdouts", "said"),
    [
        ((ROWS, None), "version 2 was judged on no gold rows"),
        ((ROWS[:12], ROWS[12:]), "judged on different gold rows"),
    ],
)
def test_without_common_gold_rows_nothing_is_compared(
    holdouts: tuple[Any, Any], said: str, registry_outputs: Path
) -> None:
    for holdout in holdouts:
        register(registry_outputs, holdout=holdout)
    with pytest.raises(ArtifactMissing, match=said) as caught:
        compare(registry_outputs, "tiny", "1", "2")
    assert "--rows" in caught.value.hint
