import json
from pathlib import Path

import numpy as np
import pytest

from factory.check import check_task
from factory.errors import ArtifactMissing, FactoryError, SpecError
from factory.evaluation.order import Order, Sample, WantedLabel, write_order
from flows import improve
from flows.improve import fill_order, filled_lines
from tests.conftest import Factory
from tests.scripted_task import holdout_rows, make_task
from tests.test_build import QUICK

TEXTS = [f"invoice {n} of May was charged twice" for n in range(20)]
NO_DATA = {"holdout": "holdout.jsonl"}


def write_log(path: Path, texts: list[str]) -> Path:
    path.write_text("".join(json.dumps({"id": f"n{n}", "text": text}) + "\n" for n, text in enumerate(texts)))
    return path


def an_order(outputs: Path, *, n: int = 3, labels: tuple[WantedLabel, ...] = (), with_texts: bool = True) -> Path:
    samples = tuple(
        Sample(id=f"n{at}", label="music", probability=0.4, density=0.5, text=TEXTS[at] if with_texts else None)
        for at in range(n)
    )
    order = Order(task="scripted", version=1, created_at="2026-11-27T10:00:00Z", why="", labels=labels, samples=samples)
    return write_order(order, outputs / "scripted" / "orders")


@pytest.fixture
def task(tmp_path: Path) -> Path:
    return make_task(tmp_path / "task", **{**QUICK, "data": NO_DATA})


def lines_of(path: Path) -> list[str]:
    return [json.loads(line)["text"] for line in path.read_text().splitlines()]


def test_the_texts_of_the_newest_order_are_kept_beside_the_spec_each_once(task: Path, tmp_path: Path) -> None:
    an_order(tmp_path / "outputs")
    filled = fill_order(task, tmp_path / "outputs")
    assert (filled.n_samples, filled.n_new, filled.n_rows) == (3, 3, 3)
    assert lines_of(task / "ordered.jsonl") == TEXTS[:3]
    assert check_task(task).files["ordered"].path == task / "ordered.jsonl"
    an_order(tmp_path / "outputs", n=5)
    assert fill_order(task, tmp_path / "outputs").n_new == 2
    assert lines_of(task / "ordered.jsonl") == TEXTS[:5]


def test_an_order_of_ids_takes_its_texts_from_the_log(task: Path, tmp_path: Path) -> None:
    order = an_order(tmp_path / "outputs", with_texts=False)
    with pytest.raises(FactoryError, match="3 of the 3 texts it names are not in it"):
        fill_order(task, tmp_path / "outputs", order=order)
    with pytest.raises(FactoryError, match="3 of the 3 texts it names are not in the log"):
        other = tmp_path / "other.jsonl"
        other.write_text('{"id": "x", "text": "something else"}\n')
        fill_order(task, tmp_path / "outputs", order=order, log=other)
    assert not (task / "ordered.jsonl").exists()
    short = fill_order(task, tmp_path / "outputs", order=order, log=write_log(tmp_path / "short.jsonl", TEXTS[:2]))
    assert "left out, 1: is named by the order and not in the log" in filled_lines(short)
    assert lines_of(short.file) == TEXTS[:2]
    filled = fill_order(task, tmp_path / "outputs", order=order, log=write_log(tmp_path / "log.jsonl", TEXTS))
    assert lines_of(filled.file) == TEXTS[:3]


def test_what_can_be_no_row_and_what_is_measured_on_is_left_out(task: Path, tmp_path: Path) -> None:
    gold = holdout_rows()[0]["text"]
    odd = ["", "  ", "a\0b", "half \ud800", "x" * 100_001, gold, TEXTS[5]]
    samples = tuple(Sample(id=f"n{at}", label="music", probability=0.4, density=0.5) for at in range(len(odd)))
    order = Order(task="scripted", version=1, created_at="2026-11-27T10:00:00Z", why="", labels=(), samples=samples)
    path = write_order(order, tmp_path / "outputs" / "scripted" / "orders")
    filled = fill_order(task, tmp_path / "outputs", order=path, log=write_log(tmp_path / "log.jsonl", odd))
    assert lines_of(filled.file) == [TEXTS[5]]
    assert sum(filled.left_out.values()) == 6
    assert filled.left_out["is a gold row, which is only measured on"] == 1
    assert "left out, 2: `text` is empty" in filled_lines(filled)
    check_task(task)


def test_a_label_that_lacks_rows_gets_texts_that_the_model_takes_for_it(
    task: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Odd:
        labels = ("weather", "music", "table")

        def predict_proba(self, texts: list[str]) -> np.ndarray:
            return np.eye(3)[[1 if int(text.split()[1]) % 2 else 0 for text in texts]]

    monkeypatch.setattr(improve, "load", lambda *_: Odd())
    wanted = (
        WantedLabel(label="music", n_rows=7, why=""),
        WantedLabel(label="table", n_rows=9, why=""),
        WantedLabel(label="newer", n_rows=2, why=""),
    )
    an_order(tmp_path / "outputs", labels=wanted)
    filled = fill_order(task, tmp_path / "outputs", log=write_log(tmp_path / "log.jsonl", TEXTS))
    assert filled.n_by_label == {"music": 4, "table": 0}
    added = lines_of(task / "ordered.jsonl")[3:]
    assert len(added) == 4
    assert all(int(text.split()[1]) % 2 for text in added)
    assert not set(added) & set(TEXTS[:3])
    said = filled_lines(filled)
    assert "not found: 9 of 9 rows of table" in said
    assert "not found: 2 of 2 rows of newer" in said
    assert not any("rows of music" in line for line in said)


def test_what_is_no_order_for_this_task_is_refused(task: Path, tmp_path: Path) -> None:
    outputs = tmp_path / "outputs"
    with pytest.raises(ArtifactMissing, match="no order"):
        fill_order(task, outputs)
    order = an_order(outputs)
    order.write_text(order.read_text().replace('"scripted"', '"other"'))
    with pytest.raises(FactoryError, match="is for the task other"):
        fill_order(task, outputs)
    spec = task / "spec.yaml"
    spec.write_text(spec.read_text().replace("data:\n", "data:\n  ordered: ../elsewhere.jsonl\n"))
    with pytest.raises(SpecError, match="leads out of the task folder"):
        fill_order(task, outputs, order=an_order(outputs))


def test_ordered_texts_need_no_label_and_are_looked_through(task: Path) -> None:
    (task / "ordered.jsonl").write_text('{"text": "a", "label": "nonsense"}\n{"txt": "b"}\n')
    with pytest.raises(SpecError, match=r"ordered.jsonl:2: no `text`"):
        check_task(task)


@pytest.mark.slow
def test_an_order_is_filled_labelled_built_and_compared(factory: Factory, tmp_path: Path) -> None:
    changes = {**QUICK, "data": NO_DATA, "labelling": {"voters": ["teacher"], "ask_directly": 0}}
    task, outputs = make_task(tmp_path / "task", **changes), tmp_path / "outputs"
    script = task / "replies.jsonl"
    told = [{"contains": f'Text: "{text}"\n', "reply": '"music"'} for text in TEXTS]
    script.write_text("".join(json.dumps(line) + "\n" for line in told) + script.read_text())
    assert factory("build", task, "--out", outputs).code == 0
    an_order(outputs)
    done = factory("improve", task, "--out", outputs, "--no-build")
    assert "3 new texts; 3 in all" in done.out
    planned = factory("plan", task, "--out", outputs)
    assert "annotate-pool-ordered" in planned.out
    done = factory("improve", task, "--out", outputs)
    assert done.code == 0, done.err
    assert "0 new texts; 3 in all" in done.out
    assert "On the holdout, no difference in accuracy is shown by 9 rows: version 2 minus version 1" in done.out
    why = factory("why", TEXTS[1], "--out", outputs)
    assert "annotate-pool-ordered" in why.out
    again = json.loads(factory("improve", task, "--out", outputs, "--json").out)
    assert (again["version"], again["n_new"]) == (2, 0)
