import asyncio
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factory.spec import Budget, Prices
from factory.teacher import Abstain, Message, Reply, Request, ScriptedTeacher, ask
from factory.teacher.budget import Spending, upper_bound
from factory.teacher.endpoint import Declined, Retryable
from factory.teacher.engine import Engine
from factory.teacher.limits import Limits
from factory.teacher.replies import Replies
from factory.teacher.wire import Usage
from flows.spent import Spent

PRICES = Prices(input_usd_per_million=1.0, output_usd_per_million=3.0)


def question(text: str, max_tokens: int = 10) -> Request:
    return Request((Message("user", text),), max_tokens=max_tokens)


def reply(prompt_tokens: int, completion_tokens: int) -> Reply:
    return Reply("ok", "stop", prompt_tokens, completion_tokens)


def n_answered(answers: list[Reply | Abstain]) -> int:
    return sum(isinstance(answer, Reply) for answer in answers)


def test_the_bound_holds_for_one_token_a_byte() -> None:
    text = "😀" * 50
    assert upper_bound(question(text, max_tokens=7)).prompt_tokens > len(text.encode())
    assert upper_bound(question(text, max_tokens=7)).completion_tokens == 7


def test_calls_beyond_the_budget_abstain_and_nothing_raises() -> None:
    teacher = ScriptedTeacher(lambda _: "ok", spending=Spending(Budget(calls=3)))
    answers = ask(teacher, [question(str(number)) for number in range(5)])
    assert [isinstance(answer, Reply) for answer in answers] == [True, True, True, False, False]
    assert answers[3:] == [Abstain("budget"), Abstain("budget")]
    assert len(teacher.history) == 3


def test_replies_from_the_cache_count_so_a_second_run_stops_at_the_same_place(tmp_path: Path) -> None:
    def run() -> tuple[list[Any], int]:
        replies = Replies(tmp_path / "replies.log")
        teacher = ScriptedTeacher(
            lambda request: reply(20, len(request.messages[0].content)),
            replies=replies,
            spending=Spending(Budget(tokens=600)),
            limits=Limits(concurrency=16, first_delay_s=0.0),
        )
        answers = ask(teacher, [question("x" * (number % 9 + 1)) for number in range(40)])
        answers += ask(teacher, [question("y" * number, max_tokens=40) for number in range(1, 40)])
        teacher.close()
        return [isinstance(answer, Reply) for answer in answers], len(teacher.history)

    first, n_asked = run()
    second, n_asked_again = run()
    assert first == second
    assert True in first and False in first
    assert n_asked > 0 and n_asked_again == 0


def test_the_same_reply_used_twice_costs_once(tmp_path: Path) -> None:
    teacher = ScriptedTeacher(
        lambda _: "ok", spending=Spending(Budget(calls=1)), replies=Replies(tmp_path / "replies.log")
    )
    assert n_answered(ask(teacher, [question("a"), question("a")])) == 2
    assert n_answered(ask(teacher, [question("a"), question("b")])) == 1
    teacher.close()


def test_after_the_first_refusal_shorter_requests_do_not_overtake() -> None:
    teacher = ScriptedTeacher(lambda _: reply(1, 1), spending=Spending(Budget(tokens=300)))
    answers = ask(teacher, [question("a"), question("long", max_tokens=1000), question("b")])
    assert [isinstance(answer, Reply) for answer in answers] == [True, False, False]


def test_what_a_call_did_not_use_is_free_for_the_next() -> None:
    bound = upper_bound(question("a"))
    n_tokens = bound.prompt_tokens + bound.completion_tokens
    teacher = ScriptedTeacher(lambda _: reply(1, 1), spending=Spending(Budget(tokens=n_tokens + 20)))
    assert n_answered(ask(teacher, [question(letter) for letter in "abcdefghijklmn"])) == 11


def test_without_usage_the_bound_counts() -> None:
    spending = Spending()
    assert spending.try_reserve(Usage(prompt_tokens=50, completion_tokens=10))
    spending.settle(Usage(prompt_tokens=50, completion_tokens=10), None)
    assert spending.tokens == 60


def test_calls_that_failed_are_given_back_and_declined_ones_cost_a_call_but_no_tokens() -> None:
    spending = Spending()
    teacher = ScriptedTeacher([Abstain("bad-request"), Retryable("busy"), "ok words"], spending=spending)
    answers = ask(teacher, [question("a"), question("b")])
    assert answers[0] == Abstain("bad-request")
    assert (spending.calls, spending.tokens) == (2, 3)


def test_money_is_counted_by_the_prices() -> None:
    spending = Spending(Budget(usd=1.0), PRICES)
    spending.charge(calls=1, usage=Usage(prompt_tokens=250_000, completion_tokens=250_000))
    assert spending.usd == pytest.approx(1.0)
    assert not spending.try_reserve(Usage(prompt_tokens=1, completion_tokens=0))


def test_a_budget_of_no_money_lets_a_free_teacher_work_and_a_paid_one_not() -> None:
    assert Spending(Budget(usd=0)).try_reserve(Usage(prompt_tokens=5))
    assert not Spending(Budget(usd=0), PRICES).try_reserve(Usage(prompt_tokens=5))


@given(
    costs=st.lists(st.tuples(st.integers(0, 30), st.integers(0, 20)), min_size=1, max_size=120),
    budget=st.builds(
        Budget,
        calls=st.none() | st.integers(1, 100),
        tokens=st.none() | st.integers(1, 5000),
        usd=st.none() | st.floats(0, 0.005),
    ),
    seed=st.integers(0, 9),
)
@settings(max_examples=60, deadline=None)
def test_no_number_of_calls_in_flight_exceeds_the_budget(
    costs: list[tuple[int, int]], budget: Budget, seed: int
) -> None:
    """Replies arrive out of order; some calls fail first, some are declined."""
    spending = Spending(budget, PRICES)
    made = 0

    class Endpoint:
        identity = "test"

        def encode(self, request: Request) -> dict[str, Any]:
            return {"text": request.messages[0].content}

        async def connect(self) -> "Endpoint":
            return self

        async def send(self, request: Request, payload: dict[str, Any]) -> dict[str, Any]:
            nonlocal made
            position = int(payload["text"])
            for _ in range((position * 7 + seed) % 5):
                await asyncio.sleep(0)
            if (position + seed) % 11 == 0:
                raise Declined(Abstain("bad-request"))
            made += 1
            prompt_tokens, completion_tokens = costs[position]
            message = {"message": {"content": "ok"}}
            usage = {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens}
            return {"choices": [message], "usage": usage}

        async def aclose(self) -> None: ...

    engine = Engine(Endpoint(), spending=spending, limits=Limits(concurrency=64, first_call_alone=False))
    answers = asyncio.run(engine.complete([question(str(number), 20) for number in range(len(costs))]))
    assert made == n_answered(answers)
    spent = [costs[number] for number, answer in enumerate(answers) if isinstance(answer, Reply)]
    n_tokens = sum(map(sum, spent))
    n_usd = sum(PRICES.input_usd_per_million * p + PRICES.output_usd_per_million * c for p, c in spent) / 1e6
    assert spending.tokens == n_tokens
    assert budget.calls is None or made <= spending.calls <= budget.calls
    assert budget.tokens is None or n_tokens <= budget.tokens
    assert budget.usd is None or n_usd <= budget.usd + 1e-12


def test_replies_that_a_stored_stage_paid_for_are_free_for_the_stages_after_it(tmp_path: Path) -> None:
    def teacher() -> ScriptedTeacher:
        return ScriptedTeacher(lambda _: reply(20, 5), replies=Replies(tmp_path / "replies.log"))

    first = teacher()
    spent = Spent(first.spending)
    ask(first, [question("shared"), question("a")])
    manifest = spent.as_manifest()
    ask(first, [question("shared"), question("b")])
    resumed = teacher()
    Spent(resumed.spending).charge(manifest)
    ask(resumed, [question("shared"), question("b")])
    assert resumed.spending.calls == first.spending.calls == 3
    assert resumed.spending.tokens == first.spending.tokens == 75
