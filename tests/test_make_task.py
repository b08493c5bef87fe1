import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from factory.check import check_task

REPOSITORY = Path(__file__).parent.parent
TEST = [{"text": "how far is it", "label": "yes", "fine": "x"}, {"text": "wer ist's?", "label": "Größe: a"}]
TRAIN = [{"text": f"text {n}", "label": "yes", "fine": "x"} for n in range(3)]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    source = tmp_path / "data" / "trec6"
    source.mkdir(parents=True)
    meta = {"kind": "text", "labels": ["yes", "Größe: a"], "label_descriptions": {"yes": "on: off"}}
    (source / "meta.json").write_text(json.dumps(meta), encoding="utf-8")
    for name, rows in (("test", TEST), ("train", TRAIN)):
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (source / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    return source.parent


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.make_task", *map(str, arguments)]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60)


def rows_of(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_z0_gives_descriptions_and_a_holdout_only(data: Path, tmp_path: Path) -> None:
    done = run("trec6", "--data", data, "--regime", "z0", "--out", tmp_path / "out")
    assert (done.returncode, done.stderr) == (0, "")
    task = check_task(tmp_path / "out")
    assert task.spec.name == "trec6_z0"
    assert task.spec.description == "A question a person asks to find out a fact."
    assert [(label.name, label.description) for label in task.spec.labels] == [("yes", "on: off"), ("Größe: a", "")]
    assert rows_of(tmp_path / "out" / "holdout.jsonl") == [{"text": r["text"], "label": r["label"]} for r in TEST]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["holdout.jsonl", "spec.yaml"]


def test_z1_adds_a_pool_without_labels_and_the_ceiling_is_asked_for(data: Path, tmp_path: Path) -> None:
    done = run("trec6", "--data", data, "--regime", "z1", "--train", "--out", tmp_path / "out")
    assert (done.returncode, done.stderr) == (0, "")
    assert list(check_task(tmp_path / "out").files) == ["pool", "ceiling", "holdout"]
    assert rows_of(tmp_path / "out" / "pool.jsonl") == [{"text": row["text"]} for row in TRAIN]
    assert rows_of(tmp_path / "out" / "ceiling.jsonl")[0] == {"text": "text 0", "label": "yes"}


@pytest.mark.parametrize(("regime", "key", "n"), [("fs", "seeds", 8), ("aug", "train", 16)])
def test_regimes_with_real_rows_draw_so_many_a_label(data: Path, tmp_path: Path, regime: str, key: str, n: int) -> None:
    rows = [{"text": f"text {i}", "label": label} for i in range(40) for label in ("yes", "Größe: a")][:-30]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (data / "trec6" / "train.jsonl").write_text(lines, encoding="utf-8")
    drawn = {}
    for name, more in (("one", ()), ("same", ()), ("other", ("--draw", 1)), ("few", ("--per-label", 2))):
        assert run("trec6", "--data", data, "--regime", regime, "--out", tmp_path / name, *more).returncode == 0
        task = check_task(tmp_path / name)
        assert list(task.files) == [key, "holdout"]
        drawn[name] = rows_of(tmp_path / name / f"{key}.jsonl")
        assert all(row in rows for row in drawn[name])
    assert Counter(row["label"] for row in drawn["one"]) == {"yes": n, "Größe: a": n}
    assert Counter(row["label"] for row in drawn["few"]) == {"yes": 2, "Größe: a": 2}
    assert drawn["one"] == drawn["same"] != drawn["other"]
    assert check_task(tmp_path / "other").spec.name == f"trec6_{regime}_1"


def test_names_become_safe_and_unknown_sets_take_a_description(data: Path, tmp_path: Path) -> None:
    (data / "trec6").rename(data / "My Set (2)")
    arguments = ("My Set (2)", "--data", data, "--regime", "z0", "--out", tmp_path / "out")
    done = run(*arguments)
    assert done.returncode == 2
    assert "--description" in done.stderr
    assert run(*arguments, "--description", "Questions.").returncode == 0
    assert check_task(tmp_path / "out").spec.name == "my_set_2__z0"


@pytest.mark.parametrize(
    ("file", "content", "expected"),
    [
        ("meta.json", "{", "meta.json: not JSON: "),
        ("meta.json", '{"kind": "pair"}', "meta.json: expected a set of kind 'text', got 'pair'"),
        ("meta.json", '{"kind": "text"}', "meta.json: expected a list under `labels`"),
        ("test.jsonl", '{"text": "a", "label": "yes"}\n{"text": "b"}\n', "test.jsonl:2: expected an object with text"),
    ],
)
def test_a_broken_set_is_one_clear_line(data: Path, tmp_path: Path, file: str, content: str, expected: str) -> None:
    (data / "trec6" / file).write_text(content, encoding="utf-8")
    done = run("trec6", "--data", data, "--regime", "z0", "--out", tmp_path / "out")
    assert done.returncode == 2
    assert expected in done.stderr
    assert "Traceback" not in done.stderr


def test_a_misspelt_set_and_a_folder_that_cannot_be_used_are_refused(data: Path, tmp_path: Path) -> None:
    done = run("trec", "--data", data, "--regime", "z0", "--out", tmp_path / "out")
    assert "no such set (a folder with meta.json); nearest: 'trec6'" in done.stderr
    inside = REPOSITORY / "tasks" / "trec6"
    assert "is inside the repository" in run("trec6", "--data", data, "--regime", "z0", "--out", inside).stderr
    assert not inside.exists()
    assert "already exists" in run("trec6", "--data", data, "--regime", "z0", "--out", data).stderr
