"""Drift is found where there is some, seldom where there is none, and an order says what is lacking."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import chi2_contingency

from factory.errors import ArtifactCorrupt, ArtifactMissing, FactoryError
from factory.evaluation.drift import Drift, DriftParams, Side, find_drift, label_shift
from factory.evaluation.drift_report import render_drift
from factory.evaluation.order import Order, Sample, choose_samples, read_order, wanted_labels, write_order

LABELS = ("music", "weather", "other")
QUICK = DriftParams(alpha=0.02, n_permutations=199, most_rows=200)


def side(seed: int, n: int = 120, *, shares: Any = (0.4, 0.4, 0.2), sure: float = 4.0, shift: float = 0.0) -> Side:
    """Texts of three labels in three clouds; a model that confuses some of them."""
    rng = np.random.default_rng(seed)
    gold = rng.choice(3, size=n, p=shares)
    vectors = rng.normal(size=(n, 16)) + shift * np.eye(16)[5]
    vectors[:, :3] += 2 * np.eye(3)[gold]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    logits = sure * np.eye(3)[gold] + rng.normal(size=(n, 3))
    proba = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return Side(proba, vectors.astype(np.float32), gold)


def drift(ours: Side, theirs: Side, params: DriftParams = QUICK) -> Drift:
    return find_drift(params, labels=LABELS, reference=ours, production=theirs)


def test_where_nothing_changed_an_alarm_is_as_rare_as_was_asked() -> None:
    params = DriftParams(alpha=0.1, n_permutations=99, most_rows=40)
    alarms = [drift(side(2 * seed, 40), side(2 * seed + 1, 40), params).found for seed in range(100)]
    # At most 10 in the mean; 18 or more would come by chance once in 200.
    assert sum(bool(found) for found in alarms) < 18


@pytest.mark.parametrize(
    ("change", "finder"),
    [({"shares": (0.1, 0.4, 0.5)}, "labels"), ({"sure": 1.5}, "confidence"), ({"shift": 2.0}, "texts")],
)
def test_each_test_finds_what_it_is_for(change: dict[str, Any], finder: str) -> None:
    found = drift(side(1), side(2, **change))
    assert finder in [test.name for test in found.found]
    assert found.sentence.startswith("drift: ")
    if finder == "texts":
        assert [test.name for test in found.found] == ["texts"]


def test_the_same_rows_give_the_same_numbers_and_no_drift() -> None:
    first, second = (drift(side(1), side(3)) for _ in range(2))
    assert first == second
    assert first.sentence == "no drift is shown by 120 texts of production and 120 reference texts"


def test_the_permutation_test_of_counts_agrees_with_the_textbook_on_many_rows() -> None:
    ours, theirs = side(1, 300), side(2, 300)
    found = drift(ours, theirs, DriftParams(n_permutations=1999, most_rows=300)).tests[0]
    counts = [np.bincount(one.proba.argmax(axis=1), minlength=3) for one in (ours, theirs)]
    textbook = chi2_contingency(counts, correction=False)
    assert found.statistic == pytest.approx(textbook.statistic, abs=1e-5)
    assert found.p == pytest.approx(textbook.pvalue, abs=0.05)


def test_true_shares_are_found_through_the_confusion() -> None:
    given = np.array([[0.8, 0.1, 0.0], [0.1, 0.9, 0.3], [0.1, 0.0, 0.7]])
    now = np.array([0.1, 0.2, 0.7])
    confusion = given * np.array([0.5, 0.3, 0.2])
    assert label_shift(confusion, given @ now) == pytest.approx(now)


@pytest.mark.parametrize(
    "confusion",
    [np.full((3, 3), 1 / 9), np.diag([0.5, 0.5, 0.0])],
    ids=["a model that only guesses", "a label without reference rows"],
)
def test_where_they_cannot_be_known_no_shares_are_made_up(confusion: np.ndarray) -> None:
    assert label_shift(confusion, np.array([0.2, 0.3, 0.5])) is None


def test_more_permutations_are_asked_for_where_an_alarm_could_never_come() -> None:
    with pytest.raises(ValueError, match="expected at least 299 permutations"):
        DriftParams(n_permutations=199)


@pytest.mark.parametrize(("n_ours", "n_theirs", "which"), [(29, 50, "reference"), (50, 0, "production")])
def test_too_few_texts_are_no_ground_for_a_test(n_ours: int, n_theirs: int, which: str) -> None:
    with pytest.raises(FactoryError, match=f"at least 30 {which} texts, got {min(n_ours, n_theirs)}"):
        drift(side(1, n_ours), side(2, n_theirs))


def test_texts_that_are_all_the_same_break_nothing() -> None:
    same = side(1)
    one = Side(np.repeat(same.proba[:1], 50, axis=0), np.repeat(same.vectors[:1], 50, axis=0))
    assert [test.p for test in drift(one, one).tests] == [1, 1, 1]


def test_labels_are_ordered_that_production_has_more_of_than_training() -> None:
    found = drift(side(1, 200), side(2, 200, shares=(0.1, 0.2, 0.7)))
    (wanted,) = wanted_labels(found, {"music": 100, "weather": 100, "other": 50})
    assert (wanted.label, 100 <= wanted.n_rows <= 150) == ("other", True)
    assert "20.0 % in training" in wanted.why
    assert wanted_labels(found, {"music": 25, "weather": 50, "other": 175}) == ()


def test_unsure_texts_among_many_like_them_are_worth_a_label_and_equal_ones_only_once() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(60, 8))
    vectors[:20] = np.eye(8)[0] + 0.05 * rng.normal(size=(20, 8))
    vectors[1] = vectors[0]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    proba = np.full((60, 2), [0.99, 0.01])
    proba[:10] = proba[50:] = [0.5, 0.5]
    chosen = choose_samples(proba, vectors.astype(np.float32), 9)
    assert {at for at, _ in chosen} == {0, *range(2, 10)}
    assert all(density > 0.9 for _, density in chosen)


def an_order() -> Order:
    sample = Sample(id="7", label="music", probability=0.5, density=0.9)
    return Order(task="tiny", version=3, created_at="2026-11-24T20:00:00Z", why="drift", labels=(), samples=(sample,))


def test_an_order_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = write_order(an_order(), tmp_path / "orders")
    assert path.name == "2026-11-24T200000Z.json"
    assert read_order(path) == an_order()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": 2}', '{"task": "tiny"}'])
def test_what_is_no_order_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "order.json").write_text(content)
    with pytest.raises(ArtifactCorrupt, match="expected an order"):
        read_order(tmp_path / "order.json")
    with pytest.raises(ArtifactMissing, match="cannot be read"):
        read_order(tmp_path / "none.json")


def test_the_page_shows_both_sides_and_escapes_what_is_named() -> None:
    found = drift(side(1), side(2, shift=2.0))
    page = render_drift(found, an_order(), title="<b>tiny</b>", reference="the holdout")
    assert page.count("<circle") == 240
    assert (
        "&lt;b&gt;tiny" in page,
        "<b>tiny" in page,
        "<script" in page,
        "http:" in page,
    ) == (
        True,
        False,
        False,
        False,
    )
    assert json.dumps(found.model_dump(mode="json"))
