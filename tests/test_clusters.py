"""Clusters of a pool: descriptions start them, texts settle them, and nothing comes out that is no distribution."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from factory.labelling import clusters
from factory.labelling.clusters import CLUSTERS, ClustersParams, cluster_pool, fit_mixture
from factory.labelling.self_training import pooled
from factory.labelling.voters import VOTERS, Ballot, NearestParams, NoParams
from factory.records import Origin, Predictions, Rows, TextRow, all_kept, row_id, text_dataset
from factory.spec import Label
from tests.golden_file import check_golden

LABELS = (Label(name="low", description="low"), Label(name="high", description="high"))
DESCRIBED = {LABELS[0].phrase: 20.0, LABELS[1].phrase: 38.0}
PARAMS = ClustersParams(labels=LABELS)


class Placed:
    """An encoder that is told where each text lies: "3.5" on an arc at that angle in degrees, in eight dimensions."""

    identity = "placed:1"

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        angles = np.radians([DESCRIBED[text] if text in DESCRIBED else float(text) for text in texts])
        vectors = np.zeros((len(texts), 8), np.float32)
        vectors[:, 0], vectors[:, 1] = np.cos(angles), np.sin(angles)
        return vectors


def pool(angles: Sequence[float]) -> Rows:
    return all_kept(text_dataset([TextRow(f"{angle:.4f}", None, Origin.GOLD) for angle in angles]))


def arc(n: int, seed: int = 0) -> list[float]:
    """Half of the texts about 5 degrees, half about 35: both descriptions lie too far to the one side."""
    rng = np.random.default_rng(seed)
    return [*rng.normal(5, 6, n // 2).tolist(), *rng.normal(35, 6, n // 2).tolist()]


def share_right(found: Predictions) -> float:
    wanted = ["low"] * (len(found.ids) // 2) + ["high"] * (len(found.ids) // 2)
    return float(np.mean([answer == label for answer, label in zip(found.answers, wanted, strict=True)]))


def test_the_pool_moves_the_border_that_the_descriptions_draw() -> None:
    rows = pool(arc(400))
    nearest = np.array([float(text) < 29 for text in rows.kept["text"]])
    assert nearest.mean() > 0.55  # the border between the descriptions is at 29 degrees, between the texts at 20
    found = cluster_pool(PARAMS, rows=rows, encoder=Placed())
    assert share_right(found) > 0.97
    assert found.ids == tuple(rows.kept["id"])
    assert found.probs.sum(axis=1) == pytest.approx(1)


def test_a_temperature_takes_certainty_and_changes_no_answer() -> None:
    rows = pool(arc(200))
    sure, doubtful = (
        cluster_pool(PARAMS.model_copy(update={"temperature": t}), rows=rows, encoder=Placed()) for t in (1.0, 4.0)
    )
    assert sure.answers == doubtful.answers
    assert (sure.probs.max(axis=1) > doubtful.probs.max(axis=1)).all()


def test_a_large_pool_is_fitted_on_some_of_its_rows_and_answered_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = pool(arc(600))
    whole = cluster_pool(PARAMS, rows=rows, encoder=Placed())
    monkeypatch.setattr(clusters, "MOST_FITTED", 200)
    monkeypatch.setattr(clusters, "ENCODE_AT_ONCE", 77)
    some = cluster_pool(PARAMS, rows=rows, encoder=Placed())
    assert some.probs.shape == whole.probs.shape
    assert not np.array_equal(some.probs, whole.probs)
    assert share_right(some) > 0.97


@pytest.mark.parametrize("angles", [[], [10.0], [10.0, 30.0]], ids=len)
def test_a_pool_of_hardly_any_rows_is_answered(angles: list[float]) -> None:
    found = cluster_pool(PARAMS, rows=pool(angles), encoder=Placed())
    assert found.probs.shape == (len(angles), 2)
    assert found.probs.sum(axis=1) == pytest.approx(1)


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_whatever_lies_together_what_comes_out_are_probabilities(data: st.DataObject) -> None:
    n, n_dimensions, n_components = (data.draw(st.integers(1, high)) for high in (12, 4, 4))
    numbers = st.floats(-1, 1, width=32)
    points = data.draw(hnp.arrays(np.float64, (n, n_dimensions), elements=numbers))
    said = data.draw(hnp.arrays(np.float64, (n, n_components), elements=st.floats(1e-9, 1)))
    evidence = np.log(said / said.sum(axis=1, keepdims=True))
    posterior = fit_mixture(points, evidence, n_steps=4).posterior(points, evidence)
    assert np.isfinite(posterior).all()
    assert posterior.sum(axis=1) == pytest.approx(1)


def test_a_label_that_the_pool_has_no_text_of_gets_no_texts() -> None:
    rows = pool(np.random.default_rng(1).normal(5, 3, 300).tolist())
    found = cluster_pool(PARAMS, rows=rows, encoder=Placed())
    assert np.mean([answer == "low" for answer in found.answers]) > 0.95
    # And a student, whose opinion is multiplied by it, is neither overruled nor told that nothing is possible.
    opinion = np.tile([0.6, 0.4], (len(found.ids), 1))
    both = pooled(opinion, found.probs)
    assert np.isfinite(both).all()
    assert (both.argmax(axis=1) == found.probs.argmax(axis=1)).mean() > 0.95


def test_what_is_certain_to_the_clusters_stays_possible() -> None:
    rows = pool([*np.linspace(0, 0.5, 200), *np.linspace(80, 80.5, 200)])
    found = cluster_pool(PARAMS, rows=rows, encoder=Placed())
    assert found.probs.min() > 0
    assert np.isfinite(pooled(np.full((400, 2), 0.5), found.probs)).all()


def test_rows_that_are_not_of_the_pool_are_voted_on_as_the_descriptions_say() -> None:
    rows = pool([5.0, 25.0])
    inside, _ = rows.kept["id"]
    said = Predictions(("high", "low"), (inside, row_id("elsewhere")), np.array([[0.9, 0.1], [0.5, 0.5]]))
    ballot = Ballot(LABELS, (), rows, Placed(), None, said)
    votes = VOTERS["clusters"].vote(NoParams(), ballot)
    assert votes.answers[:, 0].tolist() == [1, 0]
    assert votes.probs is not None
    assert votes.probs[0, 0].tolist() == [0.1, 0.9]
    nearest = VOTERS["nearest-description"].vote(NearestParams(), ballot)
    assert nearest.probs is not None
    assert np.array_equal(votes.probs[1], nearest.probs[1])


def test_the_same_pool_the_same_answers() -> None:
    found = cluster_pool(PARAMS, rows=pool(np.linspace(17, 29, 13).tolist()), encoder=Placed())
    check_golden(CLUSTERS, found.probs.round(4).tolist())
