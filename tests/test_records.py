"""Rows: nothing disappears, what is saved comes back, and equal rows are equal bytes. Events beside them."""

import json
import logging
from dataclasses import FrozenInstanceError
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factory.curation.gather import GATHER, GatherParams, gather
from factory.events import Event, Progressed, StageFinished, TeacherUsed, as_json, emit, listening
from factory.events import logger as events_logger
from factory.records import (
    Origin,
    Predictions,
    Rejection,
    Rows,
    TextRow,
    all_kept,
    read_parquet,
    row_id,
    split,
    text_dataset,
    write_parquet,
)
from tests.golden_file import check_golden, in_words

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
ROWS = st.builds(
    TextRow,
    text=TEXTS,
    label=st.one_of(st.none(), TEXTS),
    origin=st.sampled_from(Origin),
    strategy=TEXTS,
    teacher=TEXTS,
    parents=st.lists(TEXTS, max_size=3).map(tuple),
    label_probs=st.one_of(st.none(), st.tuples(st.floats(0, 1), st.floats(0, 1))),
    weight=st.floats(0, 10),
    replies=st.lists(TEXTS, max_size=3).map(tuple),
)


def rows_of(*texts: str, label: str = "a") -> Rows:
    return all_kept(text_dataset([TextRow(text, label, Origin.SYNTHETIC, "labels") for text in texts]))


@given(st.lists(ROWS, max_size=6))
@settings(deadline=None)
def test_rows_hold_what_was_put_into_them(rows: list[TextRow]) -> None:
    found = [
        TextRow(
            row["text"],
            row["label"],
            Origin(row["origin"]),
            row["strategy"],
            row["teacher"],
            tuple(row["parents"]),
            None if row["label_probs"] is None else tuple(row["label_probs"]),
            row["weight"],
            tuple(row["replies"]),
        )
        for row in text_dataset(rows)
    ]
    assert found == rows


@given(st.lists(ROWS, max_size=6), st.data())
@settings(deadline=None, max_examples=40)
def test_splitting_loses_no_row_and_keeps_the_order(rows: list[TextRow], data: st.DataObject) -> None:
    drop = data.draw(st.sets(st.integers(0, len(rows) - 1)) if rows else st.just(set()))
    parted = split(text_dataset(rows), {position: Rejection("why", 0.5) for position in drop}, by="stage")
    assert parted.kept["text"][:] == [row.text for position, row in enumerate(rows) if position not in drop]
    assert parted.rejected["text"][:] == [row.text for position, row in enumerate(rows) if position in drop]
    assert parted.report["rejected_by_reason"] == ({"why": len(drop)} if drop else {})


def test_a_rejected_row_says_by_whom_why_and_on_what_number() -> None:
    parted = split(rows_of("x", "y", "z").kept, {2: Rejection("far", 0.25), 0: Rejection("odd")}, by="judge")
    columns = ("text", "rejected_by", "reason", "score")
    assert [tuple(row[name] for name in columns) for row in parted.rejected] == [
        ("x", "judge", "odd", None),
        ("z", "judge", "far", 0.25),
    ]
    assert parted.summary == "1 kept, 2 rejected"


@pytest.mark.parametrize("position", [-1, 2])
def test_rejecting_a_row_that_is_not_there_is_an_error(position: int) -> None:
    with pytest.raises(IndexError, match=f"cannot reject row {position}: there are 2 rows"):
        split(rows_of("x", "y").kept, {position: Rejection("why")}, by="stage")


def test_the_id_depends_on_the_text_alone() -> None:
    assert row_id("x") != row_id("X")
    assert len(row_id("")) == 16
    assert rows_of("x", label="a").kept["id"][:] == rows_of("x", label="b").kept["id"][:]


@pytest.mark.parametrize("rejected", [{}, {0: Rejection("why"), 1: Rejection("why", 1.0)}])
def test_saved_rows_come_back(tmp_path: Path, rejected: dict[int, Rejection]) -> None:
    kept = split(rows_of("naïve 🎵", "line\u2028\n\x00end", "z").kept, rejected, by="stage", report={"n": [1, None]})
    rows = Rows(kept.kept, kept.rejected, kept.report, is_complete=False)
    rows.save(tmp_path)
    found = Rows.load(tmp_path)
    assert (found.kept.to_list(), found.rejected.to_list()) == (rows.kept.to_list(), rows.rejected.to_list())
    assert (found.report, found.is_complete, found.summary) == (rows.report, False, rows.summary)
    assert found.kept.features == rows.kept.features
    assert found.rejected.features == rows.rejected.features


def test_no_rows_can_be_saved_too(tmp_path: Path) -> None:
    rows_of().save(tmp_path)
    assert (len(Rows.load(tmp_path).kept), Rows.load(tmp_path).summary) == (0, "0 kept")


def test_equal_rows_are_equal_bytes_whoever_made_them(tmp_path: Path) -> None:
    whole = rows_of(*map(str, range(3000)))
    parts = gather(GatherParams(), a=rows_of(*map(str, range(1000))), b=rows_of(*map(str, range(1000, 3000))))
    chosen = rows_of("dropped", *map(str, range(3000))).kept.select(range(1, 3001))
    for name, rows in {"whole": whole.kept, "parts": parts.kept, "chosen": chosen}.items():
        write_parquet(rows, tmp_path / name)
    assert len({(tmp_path / name).read_bytes() for name in ("whole", "parts", "chosen")}) == 1
    assert read_parquet(tmp_path / "parts").to_list() == whole.kept.to_list()


def test_a_report_that_is_no_json_is_refused(tmp_path: Path) -> None:
    rows = all_kept(rows_of("x").kept, report={"ratio": float("nan")})
    with pytest.raises(ValueError, match="not JSON compliant"):
        rows.save(tmp_path)


def test_predictions_come_back_without_pickle(tmp_path: Path) -> None:
    made = Predictions(("b", "ä"), ("1", "2"), np.array([[0.25, 0.75], [0.5, 0.5]]))
    made.save(tmp_path)
    found = Predictions.load(tmp_path)
    assert (found.labels, found.ids, found.answers) == (made.labels, made.ids, ("ä", "b"))
    assert found.probs.tolist() == made.probs.tolist()
    assert found.summary == "2 rows predicted"


def test_gathering_keeps_every_kept_row_in_the_order_of_the_parts() -> None:
    first = split(rows_of("x", "y").kept, {0: Rejection("why")}, by="stage")
    gathered = gather(GatherParams(), b=first, none=rows_of(), a=rows_of("z", "y"))
    assert gathered.kept["text"][:] == ["y", "z", "y"]
    assert list(gathered.report["parts"].items()) == [("b", 1), ("none", 0), ("a", 2)]
    assert (len(gathered.rejected), gathered.is_complete) == (0, True)


def test_gathering_keeps_soft_labels_beside_rows_without_them() -> None:
    soft = all_kept(
        text_dataset([TextRow("x", "a", Origin.SILVER, label_probs=(0.9, 0.1), parents=("p",), weight=0.5)])
    )
    rows = gather(GatherParams(), soft=soft, hard=rows_of("y")).kept
    assert (rows["label_probs"][:], rows["parents"][:], rows["weight"][:]) == (
        [[0.9, 0.1], None],
        [["p"], []],
        [0.5, 1.0],
    )


def test_what_is_gathered_is_incomplete_when_one_part_is() -> None:
    part = rows_of("x")
    early = Rows(part.kept, part.rejected, is_complete=False)
    assert not gather(GatherParams(), a=rows_of("y"), b=early).is_complete


def test_golden_gather() -> None:
    part = split(rows_of("x", "y").kept, {0: Rejection("why")}, by="stage")
    check_golden(GATHER, in_words(gather(GatherParams(), labels=part, pool=rows_of("z", label="b"))))


def test_a_listener_hears_events_while_it_listens_and_not_after() -> None:
    heard: list[Event] = []
    event = Progressed("dedup", 1, 2, "rows")
    with listening(heard.append):
        emit(event)
        events_logger.info("a record without an event")
    emit(event)
    assert heard == [event]


def test_two_listeners_both_hear_and_an_error_ends_the_listening() -> None:
    outer: list[Event] = []
    inner: list[Event] = []
    before = (events_logger.level, events_logger.propagate, list(events_logger.handlers))
    event = Progressed("dedup", 1, 2, "rows")
    with pytest.raises(KeyError, match="stop"), listening(outer.append):
        with listening(inner.append):
            emit(event)
        emit(event)
        raise KeyError("stop")
    assert (len(outer), len(inner)) == (2, 1)
    assert (events_logger.level, events_logger.propagate, events_logger.handlers) == before


def test_without_a_listener_an_event_is_an_ordinary_log_record(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger=events_logger.name):
        emit(Progressed("dedup", 1, 2, "rows"))
    assert [getattr(record, "event", None) for record in caplog.records] == [Progressed("dedup", 1, 2, "rows")]


@pytest.mark.parametrize(
    "event",
    [
        Progressed("s", 1, 0, "rows", "100% of\n“it”"),
        StageFinished("s", cached=False, seconds=1.5, summary="x"),
        TeacherUsed("s", 1, 2, 3, 4, 0.5, 6.0),
    ],
)
def test_an_event_as_json_says_its_type_and_all_it_holds(event: Event) -> None:
    written = json.loads(json.dumps(as_json(event)))
    assert written.pop("event") == type(event).__name__
    assert type(event)(**written) == event
    with pytest.raises(FrozenInstanceError):
        event.stage = "other"  # type: ignore[misc]
