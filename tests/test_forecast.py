"""What work is likely to cost."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.spec import Prices
from factory.teacher.forecast import LAST_TEMPLATE_TOKENS, TEMPLATE_TOKENS, Forecast, forecast
from factory.teacher.protocol import Message, Request

REQUEST = Request((Message("system", "x" * 300), Message("user", "y" * 100)), max_tokens=50)
FORECASTS = st.builds(Forecast, *[st.integers(0, 10**6)] * 4)


def test_the_length_of_all_messages_counts() -> None:
    assert forecast([REQUEST], completion_tokens=20) == Forecast(
        1, 100 + TEMPLATE_TOKENS, 20, 100 + LAST_TEMPLATE_TOKENS
    )


def test_nothing_asked_costs_nothing() -> None:
    assert forecast([], completion_tokens=20) == Forecast()


def test_averages_are_rounded_once_and_not_for_each_request() -> None:
    assert forecast([REQUEST] * 4, completion_tokens=2.25).completion_tokens == 9


def test_what_a_request_shares_with_the_one_before_is_read_once() -> None:
    other = Request((Message("system", "x" * 300), Message("user", "z" * 100)), max_tokens=50)
    both = forecast([REQUEST, other], completion_tokens=20)
    assert both.new_prompt_tokens == 100 + 25 + 2 * LAST_TEMPLATE_TOKENS
    assert both.prompt_tokens == 2 * (100 + TEMPLATE_TOKENS)


@given(FORECASTS, FORECASTS)
def test_money_adds_up_and_is_never_negative(one: Forecast, other: Forecast) -> None:
    prices = Prices(input_usd_per_million=0.15, output_usd_per_million=0.6)
    assert (one + other).usd(prices) == pytest.approx(one.usd(prices) + other.usd(prices))
    assert one.usd(prices) >= 0


def test_each_kind_of_token_has_its_own_price() -> None:
    assert Forecast(3, 2_000_000, 500_000).usd(Prices(input_usd_per_million=1, output_usd_per_million=10)) == 7.0


def test_without_prices_it_is_free() -> None:
    assert Forecast(3, 2_000_000, 500_000).usd(None) == 0.0
