"""Calibration by groups: what hides under a mean is found, and where there is nothing to find nothing is spoilt."""

from typing import Any

import numpy as np
import pytest

from factory.evaluation.calibration import apply_temperature, fit_temperature
from factory.evaluation.metrics import expected_calibration_error, log_loss
from factory.evaluation.reconfidence import fit_reconfidence, grouping_loss
from factory.evaluation.routing import area, area_difference, fit_router


def two_kinds(n_rows: int, seed: int, *, differ: bool = True) -> tuple[Any, Any, Any]:
    """Distributions that are too bold on texts of one kind and too modest on the other; honest on the whole."""
    rng = np.random.default_rng(seed)
    honest = rng.dirichlet([0.7, 0.7, 0.7], n_rows)
    gold = np.array([rng.choice(3, p=row) for row in honest])
    kind = rng.random(n_rows) < 0.5
    vectors = np.stack([np.where(kind, 1.0, -1.0), rng.normal(size=n_rows)], axis=1).astype(np.float32)
    told = np.where(kind[:, None], apply_temperature(honest, 0.4), apply_temperature(honest, 2.0)) if differ else honest
    return told, gold, vectors


def test_two_kinds_of_texts_get_a_temperature_each() -> None:
    proba, gold, vectors = two_kinds(4000, 0)
    held, held_gold, held_vectors = two_kinds(4000, 1)
    mended = fit_reconfidence(proba, gold, vectors, seed=0)(held, held_vectors)
    shared = apply_temperature(held, fit_temperature(proba, gold))
    assert log_loss(held_gold, mended) < log_loss(held_gold, shared) - 0.02
    assert expected_calibration_error(held_gold, mended) < 0.04
    assert (mended.argmax(axis=1) == held.argmax(axis=1)).all()
    before, after = (grouping_loss(one, held_gold, held_vectors, seed=0) for one in (shared, mended))
    assert after < before / 2


def test_where_groups_do_not_differ_little_is_spoilt() -> None:
    proba, gold, vectors = two_kinds(1000, 0, differ=False)
    held, held_gold, held_vectors = two_kinds(1000, 1, differ=False)
    mended = fit_reconfidence(proba, gold, vectors, seed=0)(held, held_vectors)
    assert log_loss(held_gold, mended) < log_loss(held_gold, held) + 0.02
    assert abs(grouping_loss(held, held_gold, held_vectors, seed=0)) < 0.01


def test_few_rows_have_one_group() -> None:
    proba, gold, vectors = two_kinds(30, 0)
    mend = fit_reconfidence(proba, gold, vectors, seed=0)
    assert len(mend.temperatures) == 1
    assert grouping_loss(proba[:5], gold[:5], vectors[:5], seed=0) == 0.0


# The router


def test_a_router_learns_on_which_texts_the_small_tier_fails() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(2000, 3)).astype(np.float32)
    small = rng.random(2000) < 1 / (1 + np.exp(-3 * vectors[:, 0]))
    large = np.ones(2000, dtype=bool)
    score = fit_router(vectors[:1000], small[:1000]).score(vectors[1000:])
    blind = rng.random(1000)
    gain = area_difference(score, blind, small[1000:], large[1000:], seed=0)
    assert gain.low > 0.05
    assert gain.value == pytest.approx(
        area(score, small[1000:], large[1000:]) - area(blind, small[1000:], large[1000:]), abs=1e-5
    )


@pytest.mark.parametrize("right", [True, False])
def test_a_tier_that_is_always_right_or_never_gives_one_score(right: bool) -> None:
    vectors = np.eye(4, dtype=np.float32)
    scores = fit_router(vectors, np.full(4, right)).score(vectors)
    assert len(set(scores.tolist())) == 1
    assert (scores[0] > 0.5) == right


def test_the_area_runs_from_the_small_tier_alone_to_the_large_one_alone() -> None:
    score = np.linspace(0, 1, 1000)
    nobody, everybody = np.zeros(1000, dtype=bool), np.ones(1000, dtype=bool)
    assert area(score, nobody, everybody) == pytest.approx(0.5)
    assert area(score, everybody, everybody) == pytest.approx(1.0)
    first_half = np.arange(1000) >= 500  # the small tier fails where its score is low: half of the calls mend it
    assert area(score, first_half, everybody) == pytest.approx(0.875)
