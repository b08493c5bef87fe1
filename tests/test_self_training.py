"""A student labels the rest of a pool: which rows it takes, and that nobody is judged by them."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from factory.check import check_task
from factory.curation.leakage import LEAKAGE
from factory.errors import SpecError
from factory.labelling.self_training import SELF_TRAIN, STRATEGY, SelfTrainingParams, self_train
from factory.records import Origin, Predictions, Rows, TextRow, all_kept, row_id, text_dataset
from flows.builds import BuildNote
from flows.plan import make_plan
from flows.recipe import read_file, train, with_self_trained
from flows.review_rows import reviewable_rows
from tests.golden_file import check_golden, in_words
from tests.plain_runner import Plain
from tests.scripted_task import LABELS, holdout_rows, make_task, texts_of
from tests.test_curation import ENCODER

NAMES = ("a", "b")


def pool(*texts: str) -> Rows:
    return all_kept(text_dataset([TextRow(text, None, Origin.GOLD) for text in texts]))


def predicted(rows: Rows, *first: float) -> Predictions:
    return Predictions(NAMES, tuple(rows.kept["id"]), np.array([(one, 1 - one) for one in first]).reshape(-1, 2))


POOL = pool("one", "two", "three", "four", "five", "six")
STUDENT = predicted(POOL, 0.9, 0.55, 0.6, 0.7, 0.2, 0.4)
NEAREST = predicted(POOL, 0.6, 0.1, 0.6, 0.6, 0.1, 0.4)
KNOWN = all_kept(text_dataset([TextRow("four", "b", Origin.SILVER)]))


def params(**changes: Any) -> SelfTrainingParams:
    return SelfTrainingParams(**{"labels": NAMES, "per_label": 10, "ratio": 1.0, "weight": 0.5, **changes})


def chosen(known: Rows = KNOWN, **changes: Any) -> list[tuple[str, str]]:
    rows = self_train(params(**changes), pool=POOL, known=known, opinion=STUDENT, nearest=NEAREST).kept
    return list(zip(rows["text"], rows["label"], strict=True))


def test_rows_without_a_label_get_that_of_both_opinions_surest_first() -> None:
    # The student alone says "a" of the second; the descriptions are surer that it is not.
    assert chosen() == [("one", "a"), ("three", "a"), ("five", "b"), ("two", "b"), ("six", "b")]


def test_each_label_has_a_share_and_a_bound_of_its_own_however_sure_the_others_are() -> None:
    assert chosen(ratio=0.5) == [("one", "a"), ("five", "b"), ("two", "b")]
    assert chosen(per_label=1) == [("one", "a"), ("five", "b")]


def test_such_rows_are_silver_and_carry_what_both_say() -> None:
    told = self_train(params(), pool=POOL, known=KNOWN, opinion=STUDENT, nearest=NEAREST)
    row = told.kept[0]
    assert (row["origin"], row["strategy"], row["teacher"], row["weight"]) == ("silver", STRATEGY, "", 0.5)
    # Of the five new rows the descriptions give "a" 1.8 rows, "b" 3.2; with one more of each, 0.4 and 0.6 of all.
    odds = 0.9 / 0.1 * ((0.6 / 0.4) / (0.4 / 0.6)) ** 0.5
    assert row["label_probs"] == pytest.approx([odds / (1 + odds), 1 / (1 + odds)])
    assert told.report == {"n_in": 6, "new": 5, "taken": {"a": 2, "b": 3}, "rejected_by_reason": {}}


def test_nothing_is_taken_of_an_empty_or_wholly_known_pool() -> None:
    assert chosen(known=POOL) == []
    nobody = Predictions(NAMES, (), np.zeros((0, 2)))
    assert len(self_train(params(), pool=pool(), known=KNOWN, opinion=nobody, nearest=nobody).kept) == 0


def test_a_text_that_comes_twice_is_taken_once() -> None:
    twice = pool("one", "one")
    told = predicted(twice, 0.9, 0.9)
    assert len(self_train(params(), pool=twice, known=KNOWN, opinion=told, nearest=told).kept) == 1


def test_golden_self_train() -> None:
    told = self_train(params(ratio=0.5), pool=POOL, known=KNOWN, opinion=STUDENT, nearest=NEAREST)
    check_golden(SELF_TRAIN, {**in_words(told), "weights": told.kept["weight"][:]})


# In a task


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pretrained encoder: nothing here is about how good the labels are."""
    for module in ("flows.rounds", "flows.steps"):
        monkeypatch.setattr(f"{module}.load_encoder", lambda *name: ENCODER)


def task_folder(folder: Path, **changes: Any) -> Path:
    """A task with half of the texts labelled, the others in a pool, which holds the texts of the holdout too."""
    spec: dict[str, Any] = {
        "data": {"pool": "pool.jsonl", "train": "train.jsonl", "holdout": "holdout.jsonl"},
        "students": ["tfidf-linear"],
        "curation": ["leakage"],
        "labelling": {"self_training": {"ratio": 1.0}},
    }
    make_task(folder, **{**spec, **changes})
    half = [(text, label) for label in LABELS for text in texts_of(label)[::2]]
    rest = [text for label in LABELS for text in texts_of(label)[1::2]]
    for name, rows in {
        "train.jsonl": [{"text": text, "label": label} for text, label in half],
        "pool.jsonl": [{"text": text} for text in [*rest, half[0][0], *(row["text"] for row in holdout_rows())]],
    }.items():
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder


def test_a_student_is_fitted_on_such_rows_and_judged_without_them(tmp_path: Path) -> None:
    task, run = check_task(task_folder(tmp_path / "task")), Plain(tmp_path / "outputs")
    files = {key: read_file(task, key, run) for key in task.files}
    rows = files["train"]
    taught = with_self_trained(task, files, rows, run)
    trained = train(task, task.spec.students[0], rows, run, taught=taught)
    known, added = set(rows.load().kept["id"]), taught.load().kept.filter(lambda row: row["strategy"] == STRATEGY)
    assert set(trained.oof.load().ids) == known
    assert trained.calibration.load().n == len(known)
    assert trained.fitted.load().n_rows == len(known) + len(added)
    right = {text: label for label in LABELS for text in texts_of(label)}
    assert len(added) == 24
    assert [right[text] for text in added["text"]] == added["label"][:]
    held = {row_id(row["text"]) for row in holdout_rows()}
    assert not held & set(added["id"])
    assert held & set(run.artifacts[f"{LEAKAGE.name}-{STRATEGY}"].load().rejected["id"])
    again = Plain(tmp_path / "outputs")
    assert with_self_trained(task, files, rows, again).was_cached


def test_a_person_may_review_what_the_student_left_and_never_the_holdout(tmp_path: Path) -> None:
    folder = task_folder(tmp_path / "task", labelling={"self_training": {"ratio": 0.5}})
    task = check_task(folder)
    run = Plain(tmp_path / "outputs" / "scripted", note=BuildNote(tmp_path / "outputs" / "scripted"))
    files = {key: read_file(task, key, run) for key in task.files}
    taught = with_self_trained(task, files, files["train"], run)
    train(task, task.spec.students[0], files["train"], run, taught=taught)
    rows = reviewable_rows("scripted", tmp_path / "outputs")
    states = Counter(row.state for row in rows)
    added = taught.load().kept.filter(lambda row: row["strategy"] == STRATEGY)["id"][:]
    assert {row.id for row in rows if row.state == "trained on"} == set(added)
    assert states["not labelled"] == 24 - len(added) > 0
    assert all(row.label and sum(row.probabilities.values()) == pytest.approx(1) for row in rows)
    hidden = {row["text"] for row in holdout_rows()} | set(files["train"].load().kept["text"])
    assert not hidden & {row.text for row in rows}


def test_without_the_option_nothing_is_added(tmp_path: Path) -> None:
    folder = task_folder(tmp_path / "task", labelling={"self_training": None})
    task, run = check_task(folder), Plain(tmp_path / "outputs")
    files = {key: read_file(task, key, run) for key in task.files}
    assert with_self_trained(task, files, files["train"], run) is files["train"]


def test_a_plan_lists_what_the_student_labels(tmp_path: Path) -> None:
    planned = make_plan(check_task(task_folder(tmp_path / "task")), tmp_path / "outputs")
    names = [stage.name for stage in planned.stages]
    assert names.index(SELF_TRAIN.name) < names.index(f"gather-{STRATEGY}") < names.index("cross-predict-tfidf-linear")


def test_the_rest_of_a_pool_that_is_not_there_cannot_be_labelled(tmp_path: Path) -> None:
    folder = task_folder(tmp_path / "task", data={"holdout": "holdout.jsonl"})
    with pytest.raises(SpecError, match=r"self_training labels rows of a pool"):
        check_task(folder)
