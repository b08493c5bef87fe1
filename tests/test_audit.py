"""The audit of generated rows: each number by hand, hostile sets, and what a person reads."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from factory.check import check_task
from factory.evaluation import findings as reading
from factory.evaluation.audit import AUDIT, Audit, AuditParams, audit
from factory.evaluation.auroc import auroc, macro_auroc, out_of_fold
from factory.evaluation.diversity import covered, distinct, similarity
from factory.evaluation.findings import Level, findings, worst_line
from factory.evaluation.report import render_report
from factory.evaluation.shortcuts import find_shortcuts, words_of
from factory.records import Origin, Rows, TextRow, all_kept, text_dataset
from factory.spec import Label
from flows.audit import audit_rows
from tests.golden_file import check_golden
from tests.plain_runner import Plain
from tests.scripted_task import make_task
from tests.test_curation import Trigrams
from tests.test_report import HOSTILE, build_of, evaluation_of, read

LABELS = (Label(name="play", description="play some music"), Label(name="book", description="book a table"))
PARAMS = AuditParams(labels=LABELS)


ENCODER = Trigrams(n_dimensions=64)


def rows_of(*pairs: tuple[str, str | None], origin: Origin = Origin.SYNTHETIC) -> Rows:
    return all_kept(text_dataset([TextRow(text, label, origin) for text, label in pairs]))


def audited(*pairs: tuple[str, str | None], **real: Rows) -> Audit:
    return audit(PARAMS, rows=rows_of(*pairs), encoder=ENCODER, **real)


def written(n: int, word: str = "") -> list[tuple[str, str | None]]:
    """Return n texts a label; those of `play` hold the word."""
    songs, places = ("jazz", "a ballad", "the blues", "rock", "opera"), ("Rome", "town", "the harbour", "Paris")
    play = [(f"play {songs[i % 5]} number {i} {word}".strip(), "play") for i in range(n)]
    return [*play, *((f"a table for {i} in {places[i % 4]}", "book") for i in range(n))]


# AUROC


@pytest.mark.parametrize(
    ("score", "expected"),
    [([0.1, 0.2, 0.8, 0.9], 1.0), ([0.9, 0.8, 0.2, 0.1], 0.0), ([0.5] * 4, 0.5), ([0.1, 0.8, 0.2, 0.9], 0.75)],
)
def test_auroc_is_the_share_of_pairs_in_the_right_order(score: list[float], expected: float) -> None:
    found = auroc(np.array([False, False, True, True]), np.array(score), seed=0)
    assert found is not None
    assert found.value == pytest.approx(expected)


@settings(max_examples=15, deadline=None)
@given(rows=st.lists(st.tuples(st.integers(0, 2), st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=3, max_size=3))))
def test_macro_auroc_is_that_of_scikit_learn_over_the_labels_that_have_rows(rows: list[Any]) -> None:
    from sklearn.metrics import roc_auc_score

    columns = np.array([label for label, _ in rows], dtype=np.int64)
    scores = np.array([score for _, score in rows], dtype=np.float64).reshape(-1, 3)
    found = macro_auroc(columns, scores, seed=0)
    present = np.unique(columns)
    if len(present) < 2:
        assert found is None
        return
    counted = present[1:] if len(present) == 2 else present
    assert found is not None
    assert found.value == pytest.approx(
        np.mean([roc_auc_score(columns == label, scores[:, label]) for label in counted]), abs=1e-6
    )


def test_the_interval_is_narrower_the_more_rows_there_are() -> None:
    widths = []
    for n_rows in (40, 1000):
        rng = np.random.default_rng(0)
        is_positive = rng.random(n_rows) < 0.5
        found = auroc(is_positive, is_positive + rng.normal(size=n_rows), seed=0)
        assert found is not None
        assert found.low < 0.76 < found.high  # the truth: a shift of one standard deviation
        widths.append(found.high - found.low)
    assert widths[1] < widths[0] / 3


def test_equal_texts_are_never_learned_and_predicted_at_once() -> None:
    """A label that only the copy of a text would tell stays unknown."""
    texts = [f"text {n // 2}" for n in range(200)]
    columns = np.repeat(np.random.default_rng(0).integers(0, 2, 100), 2)
    features = np.repeat(np.eye(100), 2, axis=0)
    found = macro_auroc(columns, out_of_fold(features, columns, texts, seed=0), seed=0)
    assert found is not None
    assert found.value < 0.6


# Variety and coverage


def test_distinct_is_the_share_of_ngrams_that_are_different() -> None:
    texts = [["a", "b", "a"], ["a", "b"]]
    assert distinct(texts, 1, most_words=99) == 2 / 5
    assert distinct(texts, 2, most_words=99) == 2 / 3
    assert distinct(texts, 3, most_words=99) == 1
    assert distinct(texts, 1, most_words=2) == 1
    assert distinct([[], []], 1, most_words=99) == 0


def test_similarity_of_four_vectors_by_hand() -> None:
    turns = np.deg2rad([0, 0, 60, 90])
    vectors = np.stack([np.cos(turns), np.sin(turns)], axis=1).astype(np.float32)
    nearest, pairwise, n_near = similarity(vectors, near=0.95)
    assert nearest == pytest.approx((1 + 1 + 2 * np.cos(np.deg2rad(30))) / 4)
    assert pairwise == pytest.approx((1 + 2 * 0.5 + 2 * 0 + np.cos(np.deg2rad(30))) / 6, abs=1e-6)
    assert n_near == 1


def test_a_real_text_is_covered_when_a_generated_one_is_as_near_as_its_kth_neighbour() -> None:
    turns = np.deg2rad([0, 10, 20, 90])
    real = np.stack([np.cos(turns), np.sin(turns)], axis=1).astype(np.float32)
    at = np.deg2rad([-9])
    generated = np.stack([np.cos(at), np.sin(at)], axis=1).astype(np.float32)
    assert covered(real, generated, k=1).tolist() == [True, False, False, False]
    assert covered(real, generated, k=2).tolist() == [True, False, False, False]
    assert covered(real, generated, k=3).tolist() == [True, True, True, False]


def test_two_halves_of_one_set_cover_and_resemble_each_other() -> None:
    pairs = written(60)
    order = np.random.default_rng(0).permutation(len(pairs))
    half = rows_of(*((pairs[at][0], None) for at in order[:60]), origin=Origin.GOLD)
    found = audited(*(pairs[at] for at in order[60:]), pool=half)
    assert found.real is not None and found.real.coverage is not None
    assert found.real.coverage.value > 0.9
    assert found.real.vectors.low < 0.6 and found.real.ngrams.low < 0.6


def test_a_style_that_only_generated_texts_have_is_found() -> None:
    real = rows_of(*((text.upper(), None) for text, _ in written(40)), origin=Origin.GOLD)
    found = audited(*written(40), pool=real)
    assert found.real is not None
    assert found.real.ngrams.value == pytest.approx(1, abs=0.01)
    told = next(one for one in findings(found) if "wording" in one.what)
    assert (told.level, "nearly always" in told.reading) == (Level.BAD, True)


# Shortcuts and length


def test_a_word_that_gives_a_label_away_is_listed_and_one_of_the_description_is_expected() -> None:
    found = audited(*written(40, word="please"))
    by_word = {one.word: one for one in found.shortcuts}
    assert (by_word["please"].share, by_word["please"].precision, by_word["please"].is_expected) == (1, 1, False)
    assert by_word["please"].z == pytest.approx((1 - 0.5) / (0.25 / 40) ** 0.5)
    assert by_word["play"].is_expected and by_word["table"].is_expected
    said = next(one for one in findings(found) if one.what == "shortcut words")
    assert said.level == Level.BAD
    assert '"number" is in 100% of the texts of play' in said.reading


def test_words_as_frequent_in_all_labels_or_too_rare_are_not_shortcuts() -> None:
    texts = [{"the", "a"}, {"the", "b"}] * 20 + [{"odd"}] * 3
    labels = ["x", "y"] * 20 + ["x"] * 3
    found = find_shortcuts(texts, labels, {"x": "x", "y": "y"}, most=9)
    assert [(one.label, one.word, one.n) for one in found] == [("x", "a", 20), ("y", "b", 20)]


def test_a_word_that_chance_explains_is_not_a_shortcut() -> None:
    """Five of five texts are one in 32 by chance alone, and a hundred words are tried."""
    texts = [{f"word {n // 5}"} for n in range(500)]
    labels = [str(label) for label in np.random.default_rng(0).integers(0, 2, 500)]
    assert find_shortcuts(texts, labels, {"0": "", "1": ""}, most=9) == ()


def test_length_that_decides_is_found_and_length_that_does_not_is_not() -> None:
    words = [f"w{n}" for n in range(60)]
    rng = np.random.default_rng(0)

    def texts(label: str, low: int, high: int) -> list[tuple[str, str | None]]:
        return [(" ".join(rng.choice(words, rng.integers(low, high))), label) for _ in range(60)]

    same = audited(*texts("play", 5, 15), *texts("book", 5, 15)).length
    other = audited(*texts("play", 5, 10), *texts("book", 20, 30)).length
    assert same is not None and other is not None
    assert same.low < 0.5 + 0.05
    assert other.value > 0.99


# Which rows


def test_only_generated_rows_are_audited() -> None:
    silver = rows_of(("play some real jazz", "play"), origin=Origin.SILVER)
    from factory.curation.gather import GatherParams, gather

    found = audit(PARAMS, rows=gather(GatherParams(), a=rows_of(*written(5)), b=silver), encoder=ENCODER)
    assert (found.n_rows, found.n_other) == (10, 1)
    assert [label.n_rows for label in found.labels] == [5, 5]


def test_a_set_without_generated_rows_has_nothing_to_audit() -> None:
    found = audit(PARAMS, rows=rows_of(("real", "play"), origin=Origin.SILVER), encoder=ENCODER)
    assert (found.n_rows, found.n_other, findings(found)) == (0, 1, [])
    assert worst_line(found) == found.summary == "no generated rows to audit"


def test_the_flow_shows_real_texts_but_never_the_holdout(tmp_path: Path) -> None:
    task = check_task(make_task(tmp_path / "task"))
    run = Plain(tmp_path / "outputs")
    seen: dict[str, Any] = {}

    def spy(stage: Any, params: Any, *, inputs: Any, resources: Any) -> Any:
        seen.update(inputs)

    spy.peek = run.peek  # type: ignore[attr-defined]
    artifact: Any = object()
    files = dict.fromkeys(("pool", "seeds", "train", "holdout"), artifact)
    audit_rows(task, files, artifact, spy)  # type: ignore[arg-type]
    assert set(seen) == {"rows", "pool", "seeds", "train"}


# Hostile sets

TEXTS = st.text(st.sampled_from("ab é<&\n\t\u200b漢"), min_size=1, max_size=8)
MADE = st.lists(st.tuples(TEXTS, st.sampled_from(["play", "book"])), max_size=30)


@settings(max_examples=10, deadline=None)
@given(pairs=MADE, pool=st.lists(TEXTS, max_size=30))
def test_any_set_has_an_audit_that_survives_the_disk_and_can_be_read(
    pairs: list[tuple[str, str | None]], pool: list[str]
) -> None:
    found = audited(*pairs, pool=rows_of(*((text, None) for text in pool), origin=Origin.GOLD))
    assert Audit.model_validate_json(found.model_dump_json()) == found
    assert sum(label.n_rows for label in found.labels) == found.n_rows == len(pairs)
    assert worst_line(found)


@pytest.mark.parametrize(
    "pairs",
    [
        [],
        [("one", "play")],
        [("one", "play"), ("two", "play")],
        [(" " * n, "play") for n in range(1, 4)],
        [("x", "play")] * 30,
    ],
)
def test_small_and_empty_sets_have_a_report(pairs: list[tuple[str, str | None]]) -> None:
    found = audited(*pairs, pool=rows_of(*(("   ", None) for _ in range(30))))
    assert found.length is None and found.real is None
    read(render_report(evaluation_of(("play", "book")), replace(build_of(("play", "book")), audit=found)))


def test_texts_of_spaces_only_are_compared_like_others() -> None:
    spaces = [(" " * n, "play") for n in range(1, 31)]
    found = audited(*spaces, pool=rows_of(*((f"real text {n}", None) for n in range(30)), origin=Origin.GOLD))
    assert found.real is not None
    assert found.labels[0].distinct is None
    assert found.labels[0].words == (0, 0, 0, 0, 0)


def test_a_text_that_was_generated_and_is_real_is_not_compared_with_itself() -> None:
    pairs = written(15)
    pool = rows_of(*((text, None) for text, _ in pairs), origin=Origin.GOLD)
    assert audited(*pairs, pool=pool).real is None


# What a person reads


@pytest.mark.parametrize(
    ("bounds", "value", "level"),
    [
        (reading.TOLD_APART, 0.74, Level.FINE), (reading.TOLD_APART, 0.75, Level.LOOK),
        (reading.TOLD_APART, 0.98, Level.BAD), (reading.COVERAGE, 0.81, Level.FINE),
        (reading.COVERAGE, 0.8, Level.LOOK), (reading.COVERAGE, 0.5, Level.BAD),
    ],
)  # fmt: skip
def test_levels_at_their_bounds(bounds: reading.Bounds, value: float, level: Level) -> None:
    assert bounds.level(value) == level


def test_the_worst_finding_comes_first_and_is_the_line_of_the_console() -> None:
    found = audited(*written(40, word="please"))
    levels = [one.level for one in findings(found)]
    assert levels == sorted(levels, reverse=True)
    assert worst_line(found).startswith("bad: ")


def test_the_report_shows_the_audit_with_its_plots_and_hostile_texts_as_text() -> None:
    labels = (Label(name=HOSTILE, description="x"), Label(name="book", description="y"))
    pairs = [(f"{text} <b>&quot;{HOSTILE}", HOSTILE if label == "play" else label) for text, label in written(40)]
    pool = rows_of(*((f"real {n}", None) for n in range(40)), origin=Origin.GOLD)
    found = audit(AuditParams(labels=labels), rows=rows_of(*pairs), encoder=ENCODER, pool=pool)
    outline = read(render_report(evaluation_of(("play", "book")), replace(build_of(("play", "book")), audit=found)))
    assert not {"script", "img", "b"} & set(outline.tags)
    shown = "".join(outline.text)
    assert f"({HOSTILE})" in shown or f"texts of {HOSTILE}" in shown
    assert shown.count(HOSTILE) >= 2
    assert "bounds, and why" in shown
    assert outline.tags.count("svg") == 6  # five without an audit, and how well texts are told apart
    classes = [value for name, value in outline.attributes if name == "class"]
    assert classes.count("range") == len(labels)


def test_an_unknown_key_is_an_error() -> None:
    with pytest.raises(ValidationError, match="Extra inputs"):
        AuditParams.model_validate({"labels": LABELS, "holdout": 1})


def test_words_are_found_in_any_script() -> None:
    assert words_of("Don't, well-known №1 Straße!") == ["dont", "well-known", "no1", "strasse"]


def test_golden_audit() -> None:
    pool = rows_of(*((f"could you {text}", None) for text, _ in written(20)), origin=Origin.GOLD)
    result = audited(*written(15, word="please"), ("play jazz number 0 please!", "play"), pool=pool)
    check_golden(AUDIT, result.model_dump(mode="json"))
