"""The released folder: card, report, lineage; and opening it again."""

import json
import subprocess
from pathlib import Path

import pytest

from factory import __version__
from factory.errors import ArtifactCorrupt, ArtifactMissing
from factory.release.code import Code, this_code
from factory.release.package import PACKAGE, Release, package, stage_run
from factory.spec import Gate
from factory.store import Artifact, key_of
from tests.golden_file import check_golden
from tests.released import AUDIT, CODE, LINEAGE, PAGE, PARAMS, SPEED, evaluation, exported, stored_release


def released(gate: Gate = PARAMS.gate, *, gold: bool = True) -> Release:
    params = PARAMS.model_copy(update={"gate": gate})
    return package(
        params, exported=exported(), speed=SPEED, evaluation=evaluation(gold=gold), audit=AUDIT, report=PAGE, code=CODE
    )


def card(release: Release) -> str:
    return release.contents["card.md"].decode()


def test_a_release_is_the_export_with_card_report_and_lineage() -> None:
    release = released()
    assert {name: release.contents[name] for name in exported().contents} == exported().contents
    assert set(release.contents) - set(exported().contents) == {"card.md", "report.html", "lineage.json"}
    assert release.contents["report.html"].decode() == PAGE.html
    assert json.loads(release.contents["lineage.json"]) == {
        **LINEAGE.model_dump(mode="json"),
        "code": CODE.model_dump(mode="json"),
    }
    check_golden(PACKAGE, card(release).splitlines())


def test_the_card_starts_with_the_header_that_the_hub_reads() -> None:
    from huggingface_hub import ModelCard

    data = ModelCard(card(released())).data
    assert (data.license, data.library_name, data.pipeline_tag) == ("apache-2.0", "onnx", "text-classification")


def test_the_card_says_when_no_person_labelled_anything() -> None:
    text = card(released(gold=False))
    assert "There were no rows labelled by people" in text
    assert "accuracy unknown >= 0.8 failed: there are no gold rows" in text
    assert "not passed" in text


def test_what_people_wrote_cannot_break_a_table_or_add_markup() -> None:
    text = card(released())
    assert "play &#124; hear &lt;b>music&lt;/b>" in text
    assert "<b>" not in text


def test_a_slow_student_misses_its_gate_on_the_card() -> None:
    assert "p95\\_ms 2 &lt;= 1 failed" in card(released(Gate(p95_ms=1)))


def test_the_card_names_the_stages_that_a_budget_stopped() -> None:
    params = PARAMS.model_copy(update={"unfinished": {"verify-attributes-1": "budget"}})
    text = card(
        package(params, exported=exported(), speed=SPEED, evaluation=evaluation(), audit=AUDIT, report=PAGE, code=CODE)
    )
    assert "**Not finished**: verify-attributes-1 (budget)" in text
    assert "Not finished" not in card(released())


def test_another_page_of_the_same_results_is_no_new_release() -> None:
    later = type(PAGE)(PAGE.html + "<p>took 9 seconds more</p>", PAGE.identity)
    keys = {key_of(PACKAGE, PARAMS, resources={"report": page}).fingerprint for page in (PAGE, later)}
    assert len(keys) == 1


def test_a_checkout_is_named_by_its_commit_and_its_changes(tmp_path: Path) -> None:
    def git(*arguments: str) -> str:
        who = ["-c", "user.name=a", "-c", "user.email=a@b"]
        done = subprocess.run(
            ["git", "-C", str(tmp_path), *who, *arguments], capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    assert this_code(tmp_path).commit == ""
    git("init", "-q")
    (tmp_path / "file").write_text("one")
    git("add", "file")
    git("commit", "-q", "-m", "one")
    assert this_code(tmp_path) == Code(version=__version__, commit=git("rev-parse", "HEAD"), is_dirty=False)
    (tmp_path / "file").write_text("two")
    assert this_code(tmp_path).is_dirty
    (tmp_path / "below").mkdir()
    assert this_code(tmp_path / "below").commit == "", "an environment inside somebody else's checkout"


def test_another_commit_is_no_new_release() -> None:
    codes = (CODE, CODE.model_copy(update={"commit": "a" * 40}))
    assert len({key_of(PACKAGE, PARAMS, resources={"code": code}).fingerprint for code in codes}) == 1


def test_lineage_names_a_stage_by_its_hashes(tmp_path: Path) -> None:
    artifact = stored_release(tmp_path)
    run = stage_run(artifact)
    assert (run.stage, run.fingerprint, run.content_hash) == (
        "release",
        artifact.folder.name,
        artifact.manifest["content_hash"],
    )


@pytest.mark.parametrize("victim", ["model.onnx", "config.json", "predict.py", "tokenizer.json"])
def test_a_tampered_release_is_refused(victim: str, tmp_path: Path) -> None:
    folder = stored_release(tmp_path).folder
    with (folder / victim).open("ab") as file:
        file.write(b" ")
    with pytest.raises(ArtifactCorrupt, match=f"{victim}: the file was changed"):
        Artifact(folder, Release, was_cached=True).load()


def test_a_release_without_a_manifest_is_missing(tmp_path: Path) -> None:
    folder = stored_release(tmp_path).folder
    (folder / "manifest.json").unlink()
    with pytest.raises(ArtifactMissing, match=r"manifest\.json"):
        Artifact(folder, Release, was_cached=True).load()
