"""The data map: who is on it, where, and that it says what it left out."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from factory.evaluation.coverage import coverage_of
from factory.evaluation.data_map import DATA_MAP, MOST_CHARACTERS, DataMap, DataMapParams, Group, data_map
from factory.evaluation.table_map import TableMapParams, table_map
from factory.records import Origin, Rejection, Rows, TextRow, all_kept, split, text_dataset
from factory.records_table import table_dataset
from factory.tables.cells import read_cells
from tests.golden_file import check_golden
from tests.tables import LABELS, raw_rows


class Letters:
    """Counts letters, so that texts of the same letters lie in the same place."""

    identity = "letters"

    def encode(self, texts: list[str]) -> NDArray[np.float32]:
        counts = np.array([[text.count(letter) for letter in "abcdefgh"] for text in texts], dtype=np.float32)
        return np.asarray(counts.reshape(len(texts), 8) + 0.01, dtype=np.float32)


def rows_of(*texts: str, origin: Origin = Origin.SYNTHETIC, label: str | None = "one") -> Rows:
    return all_kept(text_dataset([TextRow(text, label, origin, strategy="attributes") for text in texts]))


def rejected(*texts: str) -> Rows:
    dropped = {position: Rejection("duplicate", 1.0) for position in range(len(texts))}
    return split(rows_of(*texts).kept, dropped, by="dedup")


def drawn(params: DataMapParams | None = None, rows: Rows | None = None, **others: Rows) -> DataMap:
    return data_map(params or DataMapParams(), rows=rows or rows_of("aa", "ab"), encoder=Letters(), **others)


def test_each_text_is_one_point_of_its_group_with_its_provenance() -> None:
    found = drawn(
        real_pool=rows_of("cc", origin=Origin.GOLD, label=None), dedup=rejected("dd", "aa"), rows=rows_of("aa", "ab")
    )
    assert {point.text: (point.group, point.provenance) for point in found.points} == {
        "aa": (Group.WRITTEN, "written by the teacher (attributes); trained on"),
        "ab": (Group.WRITTEN, "written by the teacher (attributes); trained on"),
        "cc": (Group.REAL, "real, from pool; not trained on"),
        "dd": (Group.REJECTED, "written by the teacher (attributes); rejected by dedup: duplicate"),
    }
    assert found.n_rows == {Group.WRITTEN: 2, Group.REAL: 1, Group.REJECTED: 1}
    check_golden(DATA_MAP, found.model_dump(mode="json"))


def test_like_texts_lie_together_and_all_lie_on_the_map() -> None:
    found = drawn(rows=rows_of("aaaa", "aaaaa", "hhhh", "hhhhh", "bd"))
    place = {point.text: np.array([point.x, point.y]) for point in found.points}
    near, far = (float(np.linalg.norm(place["aaaa"] - place[other])) for other in ("aaaaa", "hhhh"))
    assert near < far / 3
    assert all(0 <= coordinate <= 1 for point in found.points for coordinate in (point.x, point.y))
    assert 0.5 < found.explained <= 1


def test_no_more_points_than_wanted_and_a_small_group_is_not_crowded_out() -> None:
    many = rows_of(*("a" * (n % 9) + "b" * (n // 9) for n in range(200)))
    found = drawn(DataMapParams(most_points=30), rows=many, dedup=rejected(*(f"c{n}" for n in range(50))))
    assert len(found.points) == 30
    assert found.n_drawn[Group.REJECTED] == 15
    few = drawn(DataMapParams(most_points=30), rows=many, dedup=rejected("c", "d"))
    assert few.n_drawn == {Group.WRITTEN: 28, Group.REAL: 0, Group.REJECTED: 2}
    assert few.n_rows[Group.WRITTEN] == 200


def test_a_long_text_is_cut() -> None:
    (point,) = drawn(rows=rows_of("a" * 5000)).points
    assert len(point.text) == MOST_CHARACTERS
    assert point.text.endswith("…")


@pytest.mark.parametrize("texts", [(), ("a",), ("a", "aa" * 0 + "x", "y")])
def test_texts_that_nothing_tells_apart_lie_in_the_middle_or_anywhere_on_the_map(texts: tuple[str, ...]) -> None:
    found = drawn(rows=rows_of(*texts))
    assert len(found.points) == len(texts)
    assert all(0 <= coordinate <= 1 for point in found.points for coordinate in (point.x, point.y))


def test_a_thing_counts_as_mentioned_where_all_its_words_are() -> None:
    things = {"play": ["Hotel California", "the Beatles", "hotel california", "jazz"], "book": ["a table for two"]}
    texts = ["Play HOTEL California!", "put on some jazz", "a hotel", "any table for two people"]
    play, book = coverage_of(things, texts, ["play", "play", "play", "book"])
    assert (play.n_things, play.n_mentioned, play.n_texts, play.n_about) == (3, 2, 3, 2)
    assert play.missing == ("the Beatles",)
    assert (book.n_things, book.n_mentioned, book.missing) == (1, 1, ())


def table_rows(*changes: dict[str, Any], origin: Origin = Origin.GOLD) -> Rows:
    raw, _ = raw_rows(max(1, len(changes)), missing=0)
    told = [{**raw[0], "note": None, **change} for change in changes]
    cells = {one.name: read_cells(one, [row[one.name] for row in told])[0] for one in LABELS.columns}
    return all_kept(table_dataset(cells, pa.array(["yes"] * len(told)), origin=origin))


def test_rows_of_a_table_lie_near_rows_of_like_cells() -> None:
    near = [{"age": 20 + n, "job": "cook", "pay": 1000.0} for n in range(5)]
    far = [{"age": 80 + n, "job": "nurse", "pay": 4000.0} for n in range(5)]
    found = table_map(TableMapParams(table=LABELS), rows=table_rows(*near, *far))
    x = np.array([point.x for point in found.points])
    assert (x[:5].max() < x[5:].min()) or (x[5:].max() < x[:5].min())
    assert "age: 20" in found.points[0].text
    assert {point.label for point in found.points} == {"yes"}
    assert found.points[0].provenance == "real, labelled by people; trained on"


def test_a_table_without_rows_has_an_empty_map() -> None:
    assert table_map(TableMapParams(table=LABELS), rows=table_rows({"age": 1}, {"age": 2})).n_rows[Group.REAL] == 2
    empty = all_kept(table_rows({"age": 1}).kept.select([]))
    assert table_map(TableMapParams(table=LABELS), rows=empty).points == ()
