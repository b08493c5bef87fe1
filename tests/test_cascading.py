"""A build with a cascade: its rows are kept out of training, its tiers are released, and it answers."""

import hashlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from factory.check import check_task
from factory.cli import app
from factory.errors import ArtifactMissing, FactoryError, SpecError
from factory.release.cascade_file import read_cascade
from factory.release.registry import Registry, Version
from factory.serving.cascade import open_cascade
from factory.spec import VerdictSpec
from factory.teacher import open_teacher
from flows.cascading import asking
from flows.outcome import Outcome, release
from flows.recipe import Products, recipe
from flows.verdict import read_verdict
from tests.plain_runner import Plain
from tests.scripted_task import LABELS, make_task, texts_of

POOL = [text for label in LABELS for text in texts_of(label)]
CASCADE = {"tiers": ["tfidf-linear", "sentence-linear", "teacher"], "accuracy": 0.5, "delta": 0.3}
VERSION = Version(
    name="scripted", version=1, aliases=("candidate",), metrics={}, tags={}, content_hash="c" * 64, path="release"
)


@dataclass(frozen=True)
class Built:
    folder: Path
    outputs: Path
    run: Plain
    products: Products
    outcome: Outcome


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Built]:
    place = tmp_path_factory.mktemp("cascade")
    data = {"holdout": "holdout.jsonl", "pool": "pool.jsonl"}
    folder = make_task(
        place / "task", data=data, curation=[], labelling={"label_pool": 12, "voters": []}, cascade=CASCADE
    )
    (folder / "pool.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in POOL), encoding="utf-8")
    task, run = check_task(folder), Plain(place / "outputs" / "scripted")
    teacher = open_teacher(task.spec.teacher, folder=folder, outputs=place / "outputs")
    try:
        products = recipe(task, teacher, run)
    finally:
        teacher.close()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Registry, "register", lambda self, name, folder, **known: VERSION)  # MLflow takes seconds
        outcome = release(task, products, list(run.artifacts.values()), place / "outputs", run)
        patch.setattr(Registry, "resolve", lambda self, name, version=None: outcome.folder)
        yield Built(folder, place / "outputs", run, products, outcome)


@pytest.mark.slow
def test_nothing_is_trained_on_the_rows_that_choose_the_thresholds(built: Built) -> None:
    chosen = set(built.run.artifacts["sample-cascade"].load().kept["text"])
    assert len(chosen) == len(POOL) // 2
    trained = set(built.products.rows.load().kept["text"])
    labelled = {
        text
        for name in ("annotate-pool-1", "annotate-pool-2")
        for text in built.run.artifacts[name].load().kept["text"]
    }
    assert chosen.isdisjoint(labelled)
    assert labelled <= trained


@pytest.mark.slow
def test_the_release_holds_the_tiers_and_answers_without_the_teacher_where_they_are_sure(built: Built) -> None:
    described = read_cascade(built.outcome.folder)
    assert described.truth == "teacher"
    assert described.is_certified
    assert described.n_rows == len(POOL) // 2
    for tier in described.tiers:
        if tier.folder is not None:
            assert (built.outcome.folder / tier.folder / "model.onnx").is_file()
    with asking(built.folder, described, built.outputs) as fallback:
        answers = open_cascade(built.outcome.folder, described, fallback=fallback).predict(POOL[:4])
    assert {answer["label"] for answer in answers} == {"weather"}
    assert {answer["tier"] for answer in answers} <= set(CASCADE["tiers"])  # type: ignore[call-overload]


@pytest.mark.slow
def test_the_command_answers_in_tiers(built: Built) -> None:
    arguments: list[Any] = ["predict", "scripted", "--cascade", "--task", built.folder, "--outputs", built.outputs]
    done = CliRunner().invoke(app, [*map(str, arguments), "--json", POOL[0]])
    assert done.exit_code == 0, done.output
    answer = json.loads(done.stdout)
    assert (answer["label"], answer["unanswered"]) == ("weather", False)
    assert answer["tier"] in CASCADE["tiers"]  # type: ignore[operator]


@pytest.mark.slow
def test_another_teacher_than_the_thresholds_were_chosen_for_is_refused(built: Built) -> None:
    described = read_cascade(built.outcome.folder).model_copy(update={"teacher": "somebody else"})
    described = described.model_copy(
        update={"tiers": (*described.tiers[:1], described.tiers[-1].model_copy(update={"name": "teacher"}))}
    )
    with (
        pytest.raises(FactoryError, match="chosen for the teacher somebody else"),
        asking(built.folder, described, built.outputs),
    ):
        pass


@pytest.mark.slow
def test_report_and_card_say_what_is_promised(built: Built) -> None:
    page = (built.outcome.folder / "report.html").read_text(encoding="utf-8")
    card = (built.outcome.folder / "card.md").read_text(encoding="utf-8")
    for text in (page, card):
        assert "With confidence 70 %, at least 50 % of the answers are what the teacher would say" in text
    assert "texts that reach teacher, %" in page


@pytest.mark.slow
def test_the_verdict_is_read_from_what_the_build_stored_and_ends_with_its_exit_code(built: Built) -> None:
    judged = built.outcome.judged
    assert judged is not None
    arguments = ["verdict", "scripted", "--task", str(built.folder), "--out", str(built.outputs)]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == judged.decision.choice.exit_code, done.output
    assert done.stdout.startswith(judged.decision.sentence)
    told = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)
    assert (told["verdict"], told["exit_code"]) == (judged.decision.choice.value, done.exit_code)
    assert told["cost"] == json.loads(json.dumps(judged.as_json()))["cost"]
    assert len(told["robustness"]["perturbed"]) == 6
    assert told["label_free"]["powered"]["n_labelled"] == 9
    assert "estimated accuracy: " in done.stdout
    assert judged.decision.sentence in (built.outcome.folder / "report.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_verdict_on_stages_of_another_version_says_so(built: Built, tmp_path: Path) -> None:
    outputs = shutil.copytree(built.outputs, tmp_path / "outputs")
    (folder,) = (outputs / "scripted" / "measure").iterdir()
    (folder / "speed.json").write_text('{"p50_ms": 1.0}', encoding="utf-8")
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    manifest["files"]["speed.json"] = hashlib.sha256((folder / "speed.json").read_bytes()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(ArtifactMissing, match="written by another version of the factory"):
        read_verdict(outputs, "scripted", None, VerdictSpec(), None)


@pytest.mark.slow
def test_a_plan_of_a_built_task_finds_every_stage_of_the_cascade(built: Built) -> None:
    from flows.plan import make_plan

    planned = {stage.name: stage.is_cached for stage in make_plan(check_task(built.folder), built.outputs).stages}
    assert {name for name, cached in planned.items() if not cached} <= {"measure"}  # measured anew on another machine
    assert {"sample-cascade", "set-aside", "annotate-cascade", "cascade"} <= planned.keys()


def test_calibration_rows_must_be_rows_of_their_own(tmp_path: Path) -> None:
    folder = make_task(tmp_path / "task", data={"seeds": "rows.jsonl", "calibration": "rows.jsonl"})
    (folder / "rows.jsonl").write_text(json.dumps({"text": POOL[0], "label": "weather"}) + "\n", encoding="utf-8")
    with pytest.raises(SpecError, match=r"data\.calibration: is the same file as data\.seeds"):
        check_task(folder)
