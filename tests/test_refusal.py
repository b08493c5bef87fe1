"""Which texts a student may refuse: no more of the familiar ones than was said."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.errors import FactoryError
from factory.evaluation.rejection import rejection_threshold
from factory.records import Rows
from factory.release.refusal import REFUSAL, RefusalParams, choose_refusal, with_refusal
from tests.golden_file import check_golden
from tests.released import exported
from tests.tiny_encoder import labelled_rows


def test_familiar_texts_are_refused_no_more_often_than_said() -> None:
    rng = np.random.default_rng(0)
    refused = [float((rng.normal(size=200) < rejection_threshold(rng.normal(size=99), 0.1)).mean()) for _ in range(300)]
    assert 0.08 < np.mean(refused) <= 0.105


@given(st.lists(st.floats(-50, 50), min_size=1, max_size=60), st.floats(0.01, 0.5))
def test_at_most_the_share_of_the_rows_themselves_lies_below(scores: list[float], rate: float) -> None:
    threshold = rejection_threshold(np.array(scores), rate)
    assert (np.array(scores) < threshold).mean() <= rate
    assert math.isfinite(threshold) == (rate * (len(scores) + 1) >= 1)


def test_a_score_that_is_no_number_is_an_error() -> None:
    with pytest.raises(ValueError, match="not a number"):
        rejection_threshold(np.array([1.0, math.nan]), 0.1)


def none() -> Rows:
    rows = labelled_rows()
    return Rows(rows.kept.select([]), rows.rejected)


def test_the_threshold_stands_on_texts_that_nothing_was_trained_on() -> None:
    refusal = choose_refusal(RefusalParams(rate=0.2), exported=exported(), rows=labelled_rows(), seen=none())
    assert refusal.n == len(labelled_rows().kept)
    config = json.loads(with_refusal(exported().contents["config.json"], refusal))
    assert (config["format_version"], config["rejection"]) == (2, {"score": "energy", "below": refusal.below})
    check_golden(REFUSAL, {"n": refusal.n, "below": round(refusal.below, 3)})


def test_too_few_texts_are_an_error_and_not_a_rule_that_refuses_nothing() -> None:
    with pytest.raises(FactoryError, match="0 real texts that nothing was trained on are too few to refuse 20% of"):
        choose_refusal(RefusalParams(rate=0.2), exported=exported(), rows=labelled_rows(), seen=labelled_rows())
