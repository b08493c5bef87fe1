"""What the report says of the words that led a student astray."""

from pathlib import Path

import pytest

from factory.evaluation.verdict import ConfusedPair
from factory.serving.why import MOST_TEXTS, word_panels
from tests.released import stored_release


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stored_release(tmp_path_factory.mktemp("words")).folder


def pair(*examples: str) -> ConfusedPair:
    return ConfusedPair(gold="music", predicted="weather", n=len(examples), examples=examples)


def test_each_mistake_names_its_answer_and_the_words_that_spoke_for_it(folder: Path) -> None:
    (panel,) = word_panels(folder, [pair("rain and snow", "wind"), pair("play jazz")])
    assert [line[:2] for line in panel.rows] == [("rain and snow", "music"), ("play jazz", "music")]
    assert panel.rows[0][2].startswith("weather (")
    assert "(+0." in panel.rows[0][3]
    assert set(panel.rows[0][3].replace(",", "").split()) & {"rain", "snow", "and"}


def test_no_mistakes_and_no_more_than_can_be_read(folder: Path) -> None:
    assert word_panels(folder, []) == ()
    assert word_panels(folder, [pair()]) == ()
    (panel,) = word_panels(folder, [pair(f"play {n}") for n in range(20)])
    assert len(panel.rows) == MOST_TEXTS


def test_a_text_without_words_is_explained_by_none(folder: Path) -> None:
    (panel,) = word_panels(folder, [pair(" ")])
    assert panel.rows[0][3] == "no single word"
