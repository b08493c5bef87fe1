"""Regimes FS and AUG from a task folder to a verdict, with a scripted teacher; what a plan says of them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from factory.check import check_task
from factory.errors import SpecError
from factory.records import Rows
from flows.plan import Plan, make_plan
from tests.scripted_task import LABELS, holdout_rows, make_task, texts_of
from tests.test_build import Walk, walk
from tests.test_curation import Trigrams

N_REAL = 5
REAL = [{"text": text, "label": label} for label in LABELS for text in texts_of(label)[:N_REAL]]
HELD = holdout_rows()[0]["text"]
QUICK: dict[str, Any] = {
    "students": ["tfidf-linear"],
    "curation": ["dedup", "leakage"],
    "labelling": {"ask_directly": 0},
}


def write_script(folder: Path) -> None:
    """Let the teacher vary: new texts, a copy, a text from the holdout, one of another label, one about nothing."""
    lines = []
    for label in LABELS:
        new = texts_of(label)[N_REAL:]
        other = texts_of(next(name for name in LABELS if name != label))[-1]
        more = "\n".join([*new[:4], texts_of(label)[0], HELD, other])
        lines.append({"contains": f"Texts with the label {label} (", "reply": more})
        for text in texts_of(label)[:N_REAL]:
            reply = f"{text} or so, they say\nxyzzy 123"
            lines.append({"contains": f"Text: {text}\nSay it in", "reply": reply})
            lines.append({"contains": f'Text: "{text} or so, they say"\n', "reply": json.dumps(label)})
    path = folder / "replies.jsonl"
    rest = path.read_text(encoding="utf-8")
    said = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    path.write_text(said + rest, encoding="utf-8")


def task_with(place: Path, *keys: str, **changes: Any) -> Path:
    data = {"holdout": "holdout.jsonl", **{key: f"{key}.jsonl" for key in keys}}
    folder = make_task(place, **{**QUICK, "data": data, **changes})
    rows = [*REAL, {"text": HELD.upper(), "label": "weather"}]  # a real row that the holdout has too
    for key in keys:
        (folder / f"{key}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    write_script(folder)
    return folder


@pytest.fixture(scope="module", autouse=True)
def quick_encoder() -> Iterator[None]:
    """Compare texts by their letters: the real encoder takes longer to load than a build does."""
    with pytest.MonkeyPatch.context() as patch:
        for module in ("flows.augmentation", "flows.rounds"):
            patch.setattr(f"{module}.load_encoder", lambda _name: Trigrams())
        yield


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("augmented")


@pytest.fixture(scope="module")
def aug(place: Path) -> Walk:
    return walk(task_with(place / "aug", "train", augmentation={"per_label": 16}, synthesis=None), place / "outputs")


@pytest.fixture(scope="module")
def seeded(place: Path) -> Walk:
    return walk(task_with(place / "fs", "seeds", augmentation={"per_label": 16}), place / "elsewhere")


def training_texts(built: Walk) -> set[str]:
    return set(built.products.rows.load().kept["text"])


def rejected(built: Walk, stage: str) -> dict[str, str]:
    rows: Rows = built.artifacts[stage].load()
    return dict(zip(rows.rejected["text"], rows.rejected["reason"], strict=True))


def test_real_and_varied_rows_are_trained_on_and_nothing_else(aug: Walk) -> None:
    rows = aug.products.rows.load().kept
    origins = {label: {row["origin"] for row in rows if row["label"] == label} for label in LABELS}
    assert origins == {label: {"gold", "augmented"} for label in LABELS}
    assert {row["text"] for row in REAL} <= training_texts(aug)
    assert len(rows) > 1.5 * len(REAL)
    assert not [stage for stage in aug.artifacts if stage.startswith("attributes")]


def test_each_fault_of_a_varied_row_is_rejected_for_its_own_reason(aug: Walk) -> None:
    assert rejected(aug, "more-like-these")[texts_of("music")[0]] == "copy"
    assert rejected(aug, "meaning-paraphrase")["xyzzy 123"] == "drifted"
    assert "disagrees" in rejected(aug, "verify-more-like-these").values()
    assert rejected(aug, "leakage-0")[HELD] == "leakage-exact"


def test_nothing_of_the_holdout_is_trained_on_or_shown(aug: Walk) -> None:
    assert rejected(aug, "leakage-real") == {HELD.upper(): "leakage-exact"}
    held = {row["text"].lower() for row in holdout_rows()}
    assert not held & {text.lower() for text in training_texts(aug)}
    asked_to_write = [one for one in aug.asked if "Label in double quotes" not in one]
    assert len(asked_to_write) > 6
    assert not [one for one in asked_to_write if any(text in one.lower() for text in held)]


def test_no_real_row_ever_goes_for_a_made_one(aug: Walk) -> None:
    for name, artifact in aug.artifacts.items():
        result = artifact.load()
        if isinstance(result, Rows) and name != "leakage-real":
            assert "gold" not in result.rejected["origin"][:], name


def test_varied_rows_keep_their_parents_and_replies_to_the_end(aug: Walk, place: Path) -> None:
    ids = {row["text"]: row["id"] for row in aug.products.files["train"].load().kept}
    made = [row for row in aug.products.rows.load().kept if row["text"].endswith(" or so, they say")]
    assert len(made) > 3
    for row in made:
        parent = ids[row["text"].removesuffix(" or so, they say")]
        assert (row["parents"], row["strategy"], len(row["replies"])) == ([parent], "paraphrase", 2)


def test_labels_weigh_as_among_the_real_rows(aug: Walk) -> None:
    rows = aug.products.rows.load().kept
    mass = {label: sum(row["weight"] for row in rows if row["label"] == label) for label in LABELS}
    assert max(mass.values()) == pytest.approx(min(mass.values()))


def test_the_report_shows_what_real_rows_alone_would_give(aug: Walk) -> None:
    evaluation = aug.products.evaluation.load()
    assert evaluation.regime == "AUG"
    names = [one.name for one in evaluation.contenders]
    assert "real-rows" in names
    assert "ceiling" not in names
    fitted = aug.artifacts["fit-real-rows"].manifest["key"]
    assert fitted["inputs"]["rows"] == aug.artifacts["leakage-real"].content_hash
    assert fitted["params"]["balance"] is False
    assert aug.artifacts["fit-tfidf-linear"].manifest["key"]["params"]["balance"] is False


def test_building_again_asks_nothing(aug: Walk, place: Path) -> None:
    assert walk(place / "aug", place / "outputs").because == {}


def test_seeds_are_varied_and_shown_and_the_rest_is_written(seeded: Walk) -> None:
    evaluation = seeded.products.evaluation.load()
    assert evaluation.regime == "FS"
    assert "real-rows" in [one.name for one in evaluation.contenders]
    origins = set(seeded.products.rows.load().kept["origin"])
    assert {"gold", "augmented"} <= origins
    writing = [one for one in seeded.asked if "different texts with the label music" in one]
    assert len(writing) > 0
    shown = "Texts with this label that people really wrote:"
    assert all(shown in one and "Real texts are" in one for one in writing)
    assert not [one for one in seeded.asked if shown in one and HELD.lower() in one.lower()]


def test_what_is_varied_counts_against_what_is_written(seeded: Walk) -> None:
    counts = seeded.artifacts["attributes-1"].manifest["key"]["params"]["wanted"]
    ready = seeded.artifacts["leakage-0"].load().kept["label"][:]
    for label, wanted in zip(LABELS, counts, strict=True):
        n_there = ready.count(label) + N_REAL
        assert wanted == -(-max(0, 12 - n_there) * 10 // 8), label


def test_the_ceiling_is_measured_on_rows_that_nothing_is_made_of(tmp_path: Path) -> None:
    folder = task_with(tmp_path / "task", "ceiling")
    built = walk(folder, tmp_path / "outputs")
    evaluation = built.products.evaluation.load()
    assert evaluation.regime == "Z0"
    names = [one.name for one in evaluation.contenders]
    assert "ceiling" in names
    assert "real-rows" not in names
    assert set(built.products.rows.load().kept["origin"]) == {"synthetic"}


def test_a_switched_off_augmentation_trains_on_the_real_rows_alone(tmp_path: Path) -> None:
    synthesis = {"per_label": N_REAL}
    built = walk(
        task_with(tmp_path / "task", "train", augmentation={"strategies": []}, synthesis=synthesis),
        tmp_path / "outputs",
    )
    assert built.asked == []
    assert training_texts(built) == {row["text"] for row in REAL}


# The plan, and the spec


def planned(folder: Path, outputs: Path) -> Plan:
    return make_plan(check_task(folder), outputs)


@pytest.mark.parametrize("key", ["train", "seeds"])
def test_the_forecast_has_the_calls_of_varying_and_no_fewer_of_verifying_than_are_made(
    aug: Walk, seeded: Walk, place: Path, tmp_path: Path, key: str
) -> None:
    built, folder = (aug, place / "aug") if key == "train" else (seeded, place / "fs")
    plan = planned(folder, tmp_path / "nothing-yet")
    asking = {stage.name for stage in plan.stages if stage.cost.calls}
    assert {"more-like-these", "verify-more-like-these", "paraphrase", "verify-paraphrase"} <= asking
    assert ("attributes-1" in asking) == (key == "seeds")
    calls = {stage.name: stage.cost.calls for stage in plan.stages}
    assert (calls["more-like-these"], calls["paraphrase"]) == (3, 6)
    # The script writes fewer texts than it is asked for.
    assert 0.4 * plan.cost.calls < len(built.asked) < 1.5 * plan.cost.calls


def test_after_a_build_everything_is_cached_and_free(aug: Walk, place: Path) -> None:
    plan = planned(place / "aug", place / "outputs")
    assert [stage.name for stage in plan.stages] == list(aug.artifacts)
    assert all(stage.is_cached for stage in plan.stages)
    assert plan.cost.calls == 0


@pytest.mark.parametrize(
    ("keys", "augmentation", "message"),
    [
        (("train",), {"strategies": ["paraphrse"]}, "not one of .*paraphrase.*nearest: 'paraphrase'"),
        (("train",), {"strategies": [{"name": "register", "params": {"registers": []}}]}, "registers"),
        (("train",), {"per_label": 4, "per_row": 2}, "give per_label or per_row, not both"),
        ((), {"strategies": ["paraphrase"]}, r"name them under data\.train or data\.seeds"),
    ],
)
def test_a_wrong_augmentation_is_found_before_anything_is_spent(
    tmp_path: Path, keys: tuple[str, ...], augmentation: dict[str, Any], message: str
) -> None:
    folder = task_with(tmp_path / "task", *keys, augmentation=augmentation)
    with pytest.raises(SpecError, match=message):
        check_task(folder)
