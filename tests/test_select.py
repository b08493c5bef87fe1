"""Which rows of a pool the teacher is paid to label."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from factory.check import check_task
from factory.curation import select as module
from factory.curation.select import SELECT, SelectParams, select
from factory.encoders import Encoder
from factory.records import Origin, Predictions, Rows, TextRow, all_kept, text_dataset
from factory.teacher import open_teacher
from flows.recipe import recipe
from tests.golden_file import check_golden, in_words
from tests.plain_runner import Plain
from tests.scripted_task import LABELS, make_task, texts_of


@dataclass(frozen=True)
class Points:
    """An encoder of texts that are the coordinates of a point."""

    identity: str = "points"

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return np.array([[float(number) for number in text.split()] for text in texts], dtype=np.float32)


POINTS: Encoder = Points()
CORNERS = ["0 0", "0 0.1", "0.1 0", "9 9", "9 9.1", "0 9", "0.1 9", "0 9.1"]
"""Three groups; the first and last have a row in their middle."""


def pool(texts: Sequence[str]) -> Rows:
    return all_kept(text_dataset([TextRow(text, None, Origin.GOLD) for text in texts]))


def opinion(rows: Rows, sure: Sequence[float]) -> Predictions:
    probs = np.array([[one, 1 - one] for one in sure])
    return Predictions(("a", "b"), tuple(rows.kept["id"]), probs)


def test_every_corner_of_the_pool_gets_a_row() -> None:
    chosen = select(SelectParams(n=3), rows=pool(CORNERS), encoder=POINTS).kept["text"][:]
    assert [text in chosen for text in ("0 0", "0 9")] == [True, True]
    assert len({text[0] for text in chosen if text.startswith("9")}) == 1


def test_with_an_opinion_the_least_sure_come_first() -> None:
    rows = pool(CORNERS)
    sure = [0.99, 0.99, 0.99, 0.5, 0.99, 0.45, 0.99, 0.99]
    params = SelectParams(n=2, unsure_ratio=0.25)
    assert select(params, rows=rows, encoder=POINTS, opinion=opinion(rows, sure)).kept["text"][:] == ["9 9", "0 9"]


def test_known_rows_and_repeated_texts_are_not_paid_for_again() -> None:
    rows = pool([*CORNERS, "0 0"])
    chosen = select(SelectParams(n=9), rows=rows, encoder=POINTS, known=pool(["9 9"])).kept["text"][:]
    assert chosen == [text for text in CORNERS if text != "9 9"]


@pytest.mark.parametrize("n", [0, 1, 8, 100])
def test_no_more_rows_than_wanted_and_none_that_are_not_there(n: int) -> None:
    chosen = select(SelectParams(n=n), rows=pool(CORNERS), encoder=POINTS).kept["text"][:]
    assert len(chosen) == min(n, len(CORNERS))
    assert len(set(chosen)) == len(chosen)


def test_an_empty_pool_gives_nothing() -> None:
    assert len(select(SelectParams(n=5), rows=pool([]), encoder=POINTS).kept) == 0


def test_of_a_large_pool_as_many_as_can_be_grouped_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_CANDIDATES", 4)
    rows = pool([f"{number} 0" for number in range(50)])
    assert len(select(SelectParams(n=10), rows=rows, encoder=POINTS).kept) == 4


def test_golden_select() -> None:
    check_golden(SELECT, in_words(select(SelectParams(n=3, seed=1), rows=pool(CORNERS), encoder=POINTS)))


def test_a_build_with_a_pool_trains_on_real_texts_first(tmp_path: Path) -> None:
    folder = make_task(
        tmp_path / "task",
        data={"pool": "pool.jsonl"},
        labelling={"label_pool": 30, "ask_directly": 0},
        synthesis={"per_label": 2, "max_rounds": 1},
        students=["tfidf-linear"],
        curation=[],
    )
    texts = [text for label in LABELS for text in texts_of(label)]
    (folder / "pool.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    task = check_task(folder)
    teacher = open_teacher(task.spec.teacher, folder=folder, outputs=tmp_path)
    run = Plain(tmp_path / "scripted")
    rows = recipe(task, teacher, run).rows.load().kept
    asked = teacher.spending.calls
    teacher.close()
    assert len(rows) == 30
    assert set(rows["origin"]) == {"silver"}
    assert all(row["text"] in texts_of(row["label"]) for row in rows)
    assert asked == 30
    assert set(run.artifacts["select-1"].load().kept["id"]).isdisjoint(run.artifacts["select-2"].load().kept["id"])
