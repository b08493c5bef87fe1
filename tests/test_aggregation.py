"""One answer out of many votes: hostile votes, known truths, and voters who repeat each other."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from factory.labelling.aggregation import AGGREGATORS
from factory.labelling.aggregation.consensus import Consensus, reliability
from factory.labelling.aggregation.dawid_skene import DawidSkeneParams, learn_habits
from factory.labelling.aggregation.discounted import DiscountedParams, agreement, solve_discounted
from factory.labelling.votes import ABSTAIN, NOT_ASKED, Votes, side_by_side

LABELS = ("a", "b", "c")
NAMES = list(AGGREGATORS)


def solve(name: str, votes: Votes) -> Consensus:
    return AGGREGATORS[name].run(AGGREGATORS[name].params(), votes)


def votes_of(answers: NDArray[np.int64] | list[list[int]], n_labels: int = 3) -> Votes:
    table = np.array(answers, dtype=np.int64)
    voters = tuple(f"v{column}" for column in range(table.shape[1]))
    return Votes(LABELS[:n_labels], voters, table)


def simulate(accuracies: list[float], *, n_items: int = 600, n_labels: int = 3, seed: int = 0) -> tuple[Votes, NDArray]:
    """Voters who are right with the given probabilities, and otherwise wrong at random."""
    rng = np.random.default_rng(seed)
    gold = rng.integers(n_labels, size=n_items)
    wrong = (gold[:, None] + rng.integers(1, n_labels, size=(n_items, len(accuracies)))) % n_labels
    answers = np.where(rng.random(wrong.shape) < accuracies, gold[:, None], wrong)
    return votes_of(answers, n_labels), gold


def copied(votes: Votes, column: int, n: int) -> Votes:
    return votes_of(np.concatenate([votes.answers, np.repeat(votes.answers[:, [column]], n - 1, axis=1)], axis=1))


def accuracy(consensus: Consensus, gold: NDArray[np.int64]) -> float:
    return float((consensus.posterior.argmax(axis=1) == gold).mean())


tables = st.integers(1, 6).flatmap(
    lambda n_voters: st.lists(
        st.lists(st.integers(NOT_ASKED, 2), min_size=n_voters, max_size=n_voters), min_size=1, max_size=12
    )
)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=25, deadline=None)
@given(table=tables)
def test_whatever_is_voted_posteriors_sum_to_one_and_weights_are_shares(name: str, table: list[list[int]]) -> None:
    votes = votes_of(table)
    found = solve(name, votes)
    assert found.posterior.shape == (len(table), 3)
    assert found.posterior.min() >= 0
    assert found.posterior.sum(axis=1) == pytest.approx(1)
    assert ((found.weights > 0) & (found.weights <= 1)).all()
    told = reliability(votes, found)
    assert [one["n_votes"] for one in told] == (votes.answers >= 0).sum(axis=0).tolist()
    assert all((one["accuracy"] is None) == (one["n_votes"] == 0) for one in told)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("silence", [ABSTAIN, NOT_ASKED])
def test_where_nobody_votes_no_label_is_preferred(name: str, silence: int) -> None:
    found = solve(name, votes_of(np.full((5, 4), silence)))
    assert found.posterior == pytest.approx(np.full((5, 3), 1 / 3))


@pytest.mark.parametrize("name", NAMES)
def test_one_voter_is_believed(name: str) -> None:
    found = solve(name, votes_of([[0], [1], [2], [1]]))
    assert found.posterior.argmax(axis=1).tolist() == [0, 1, 2, 1]


@pytest.mark.parametrize("name", NAMES)
def test_of_one_item_the_majority_wins(name: str) -> None:
    assert solve(name, votes_of([[2, 2, 0]])).posterior.argmax() == 2


@pytest.mark.parametrize("name", NAMES)
def test_two_voters_who_always_contradict_each_other_settle_nothing(name: str) -> None:
    found = solve(name, votes_of([[0, 1], [1, 0]] * 10, n_labels=2))
    if name != "mace":  # it breaks the symmetry at random: one of the two knows
        assert found.posterior == pytest.approx(np.full((20, 2), 0.5))
    assert found.posterior.sum(axis=1) == pytest.approx(1)


@pytest.mark.parametrize("name", ["dawid-skene", "mace", "discounted"])
def test_a_voter_who_always_says_the_same_changes_nothing(name: str) -> None:
    votes, gold = simulate([0.8, 0.8, 0.7])
    stubborn = votes_of(np.concatenate([votes.answers, np.zeros((600, 1), np.int64)], axis=1))
    assert accuracy(solve(name, stubborn), gold) == pytest.approx(accuracy(solve(name, votes), gold), abs=0.02)
    assert reliability(stubborn, solve(name, stubborn))[3]["accuracy"] == pytest.approx(1 / 3, abs=0.06)


def test_dawid_skene_recovers_the_confusion_matrices() -> None:
    rng = np.random.default_rng(1)
    truth = np.array(
        [
            [[0.9, 0.05, 0.05], [0.1, 0.8, 0.1], [0.3, 0.0, 0.7]],
            [[0.6, 0.2, 0.2], [0.0, 0.9, 0.1], [0.1, 0.2, 0.7]],
            [[0.7, 0.3, 0.0], [0.2, 0.7, 0.1], [0.05, 0.05, 0.9]],
            [[0.8, 0.1, 0.1], [0.25, 0.5, 0.25], [0.1, 0.1, 0.8]],
        ]
    )
    gold = rng.integers(3, size=6000)
    answers = np.stack([(rng.random(6000)[:, None] > each[gold].cumsum(axis=1)).sum(axis=1) for each in truth], axis=1)
    outcomes = votes_of(np.minimum(answers, 2)).outcomes()
    habits = learn_habits(DawidSkeneParams(), outcomes, np.ones(4))
    assert habits.confusion[:, :, :3] == pytest.approx(truth, abs=0.05)


@pytest.mark.parametrize("name", ["dawid-skene", "mace", "discounted"])
def test_reliability_is_near_the_share_of_right_answers(name: str) -> None:
    truth = [0.9, 0.75, 0.6, 0.5, 0.8]
    votes, _ = simulate(truth, n_items=1000)
    assert [one["accuracy"] for one in reliability(votes, solve(name, votes))] == pytest.approx(truth, abs=0.05)


@pytest.mark.parametrize("name", ["dawid-skene", "mace", "discounted"])
def test_knowing_who_is_reliable_beats_counting(name: str) -> None:
    votes, gold = simulate([0.95, 0.55, 0.5, 0.5, 0.45])
    assert accuracy(solve(name, votes), gold) > accuracy(solve("majority", votes), gold) + 0.05


@pytest.mark.parametrize("seed", range(3))
def test_a_weak_voter_heard_five_times_counts_once(seed: int) -> None:
    once, gold = simulate([0.75, 0.75, 0.75, 0.75, 0.5], seed=seed)
    often = copied(once, 4, 5)
    fair = accuracy(solve("discounted", once), gold)
    assert accuracy(solve("dawid-skene", often), gold) < fair - 0.2
    found = solve("discounted", often)
    assert accuracy(found, gold) == pytest.approx(fair, abs=0.02)
    assert found.weights[:4] == pytest.approx([1] * 4, abs=0.05)
    assert found.weights[4:].sum() == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("seed", range(3))
def test_near_copies_in_the_majority_do_not_define_the_truth(seed: int) -> None:
    once, gold = simulate([0.75, 0.75, 0.75, 0.75, 0.5], seed=seed)
    rng = np.random.default_rng(seed)
    own = rng.integers(3, size=(600, 4))
    copies = np.where(rng.random((600, 4)) < 0.9, once.answers[:, [4]], own)
    often = votes_of(np.concatenate([once.answers, copies], axis=1))
    assert accuracy(solve("dawid-skene", often), gold) < 0.6
    assert accuracy(solve("discounted", often), gold) > 0.85


def test_a_voter_who_copies_most_of_the_time_shares_a_part_of_its_vote() -> None:
    votes, _ = simulate([0.8, 0.75, 0.8, 0.6], n_items=2000)
    own = np.random.default_rng(5).integers(3, size=2000)
    copies = np.where(np.random.default_rng(6).random(2000) < 0.7, votes.answers[:, 3], own)
    found = solve("discounted", votes_of(np.column_stack([votes.answers, copies])))
    assert found.weights[:3] == pytest.approx([1] * 3, abs=0.05)
    assert 0.5 < found.weights[4] < 0.8


def test_independent_voters_keep_their_votes() -> None:
    votes, _ = simulate([0.8, 0.7, 0.9, 0.6, 0.75])
    assert solve_discounted(DiscountedParams(), votes).weights == pytest.approx([1] * 5, abs=0.05)


def test_agreement_by_chance_is_none_and_copies_agree_fully() -> None:
    rng = np.random.default_rng(0)
    answers = rng.integers(3, size=(5000, 2))
    kappa = agreement(votes_of(np.column_stack([answers, answers[:, 0], np.zeros(5000)])).outcomes())
    assert kappa[0, 2] == pytest.approx(1)
    assert kappa[0, 1] == pytest.approx(0, abs=0.04)
    assert kappa[0, 3] == pytest.approx(0, abs=0.04)


def test_rules_of_one_label_each_are_weighed_by_when_they_speak() -> None:
    rng = np.random.default_rng(0)
    gold = rng.integers(2, size=2000)
    cells = [np.where((rng.random(2000) < np.where(gold == label, 0.4, noise)), label, ABSTAIN)
             for label, noise in ((0, 0.02), (0, 0.3), (0, 0.3), (1, 0.02), (1, 0.02))]  # fmt: skip
    votes = votes_of(np.stack(cells, axis=1), n_labels=2)
    spoken = votes.is_label.any(axis=1)
    right = {name: solve(name, votes).posterior[spoken].argmax(axis=1) == gold[spoken] for name in NAMES}
    assert right["dawid-skene"].mean() > right["majority"].mean() + 0.03


def test_what_a_voter_never_saw_is_no_vote_against_it() -> None:
    votes, gold = simulate([0.8] * 8, n_items=2000)
    hidden = np.random.default_rng(0).random(votes.answers.shape) < 0.5
    seen = votes_of(np.where(hidden, NOT_ASKED, votes.answers))
    assert [one["accuracy"] for one in reliability(seen, solve("dawid-skene", seen))] == pytest.approx(
        [0.8] * 8, abs=0.06
    )
    assert accuracy(solve("dawid-skene", seen), gold) > 0.85


def test_rare_labels_stay_rare() -> None:
    rng = np.random.default_rng(3)
    gold = (rng.random(2000) < 0.1).astype(np.int64)
    answers = np.where(rng.random((2000, 4)) < [0.85, 0.8, 0.9, 0.75], gold[:, None], 1 - gold[:, None])
    found = solve("dawid-skene", votes_of(answers, n_labels=2))
    assert found.posterior[:, 1].mean() == pytest.approx(0.1, abs=0.03)


def test_pooled_opinions_leave_what_is_plausible_to_everybody() -> None:
    probs = np.array([[[0.5, 0.45, 0.05], [0.1, 0.45, 0.45]]])
    votes = Votes(LABELS, ("teacher", "nearest"), np.array([[0, 1]]), probs)
    posterior = solve("pooled", votes).posterior[0]
    assert posterior == pytest.approx(np.array([0.05, 0.2025, 0.0225]) / 0.275)
    among = replace(votes_of([[0, ABSTAIN]]), probs=np.array([[[0.75, 0.25, 0.0], [0.0, 0.0, 0.0]]]))
    assert solve("pooled", among).posterior[0] == pytest.approx([0.6, 0.2, 0.2])
    bare = solve("pooled", votes_of([[0, ABSTAIN]])).posterior[0]
    assert bare == pytest.approx([0.8, 0.1, 0.1])


def test_soft_votes_count_as_far_as_they_are_sure() -> None:
    probs = np.array([[[0.6, 0.4, 0.0], [0.1, 0.9, 0.0], [0.0, 0.0, 0.0]]])
    votes = Votes(LABELS, ("x", "y", "z"), np.array([[0, 1, 0]]), probs)
    aggregator = AGGREGATORS["majority"]
    assert aggregator.run(aggregator.params(soft=True), votes).posterior == pytest.approx(np.array([[1.7, 1.3, 0]]) / 3)
    assert aggregator.run(aggregator.params(), votes).posterior == pytest.approx(np.array([[2, 1, 0]]) / 3)


@pytest.mark.parametrize("name", NAMES)
def test_the_same_votes_give_the_same_answer(name: str) -> None:
    votes, _ = simulate([0.8, 0.6, 0.7])
    assert (solve(name, votes).posterior == solve(name, votes).posterior).all()


@pytest.mark.parametrize("name", NAMES)
def test_no_items_give_no_answers(name: str) -> None:
    found = solve(name, Votes(LABELS, ("x", "y"), np.zeros((0, 2), np.int64)))
    assert found.posterior.shape == (0, 3)


def test_votes_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="from -2 to 2"):
        votes_of([[3]])
    with pytest.raises(ValueError, match="different voters"):
        Votes(LABELS, ("x", "x"), np.zeros((1, 2), np.int64))
    with pytest.raises(ValueError, match="2 voters"):
        Votes(LABELS, ("x", "y"), np.zeros((1, 3), np.int64))
    with pytest.raises(ValueError, match="over 3 labels"):
        Votes(LABELS, ("x",), np.zeros((1, 1), np.int64), np.zeros((1, 1, 2)))


def test_parts_are_put_side_by_side_with_their_distributions() -> None:
    first = Votes(LABELS, ("x",), np.array([[0], [1]]), np.full((2, 1, 3), 1 / 3))
    both = side_by_side([first, Votes(LABELS, ("y",), np.array([[ABSTAIN], [2]]))])
    assert both.voters == ("x", "y")
    assert both.answers.tolist() == [[0, -1], [1, 2]]
    assert both.probs is not None
    assert both.probs[1].tolist() == [[1 / 3] * 3, [0] * 3]
    assert (both.said(0), both.said(1)) == ({"x": "a"}, {"x": "b", "y": "c"})
