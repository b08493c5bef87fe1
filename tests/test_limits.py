"""How hard an endpoint is pressed: rates, the number of calls in flight, waits."""

import asyncio
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.teacher.limits import BURST_S, WINDOW, Limits, Pace, Pool


def test_without_a_limit_nobody_waits() -> None:
    pace = Pace(None)
    assert [pace.wait_s(1000, now=0.0) for _ in range(3)] == [0.0, 0.0, 0.0]


@given(st.floats(1, 6000), st.lists(st.floats(0, 3), min_size=20, max_size=60))
def test_no_minute_sees_more_than_its_allowance_and_a_burst(per_minute: float, gaps: list[float]) -> None:
    pace, now, starts = Pace(per_minute), 0.0, []
    for gap in gaps:
        now += gap
        starts.append(now + pace.wait_s(1, now))
    allowance = per_minute * (1 + BURST_S / 60) + 1
    assert all(sum(start <= other < start + 60 for other in starts) <= allowance + 1e-6 for start in starts)


def test_an_allowance_that_is_not_used_is_lost() -> None:
    pace = Pace(60)
    assert pace.wait_s(1, now=0.0) == 0.0
    assert pace.wait_s(2, now=1000.0) == 0.0
    assert pace.wait_s(1, now=1000.0) == pytest.approx(1.0)


async def _most_at_once(pool: Pool, n: int) -> int:
    running = most = 0

    async def call() -> None:
        nonlocal running, most
        await pool.acquire()
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        pool.release()

    await asyncio.gather(*(call() for _ in range(n)))
    return most


def test_never_more_in_flight_than_allowed_and_never_fewer_than_could_be() -> None:
    assert asyncio.run(_most_at_once(Pool(4), 40)) == 4


def test_scattered_refusals_do_not_slow_the_pool_down() -> None:
    pool = Pool(64)
    for number in range(400):
        pool.saw(refused=number % 20 == 0)
    assert pool.width == 64


def test_many_refusals_halve_it_and_answers_open_it_again() -> None:
    pool = Pool(64)
    for _ in range(3 * WINDOW):
        pool.saw(refused=True)
    narrow = pool.width
    assert 1 <= narrow < 8
    assert asyncio.run(_most_at_once(pool, 100)) == int(narrow)
    for _ in range(64 * 64):
        pool.saw(refused=False)
    assert pool.width == 64


def test_a_caller_that_gives_up_while_waiting_takes_no_place() -> None:
    async def run() -> int:
        pool = Pool(1)
        await pool.acquire()
        waiting = asyncio.create_task(pool.acquire())
        await asyncio.sleep(0)
        pool.release()  # the turn is given...
        waiting.cancel()  # ...to somebody who leaves
        await asyncio.gather(waiting, return_exceptions=True)
        return await _most_at_once(pool, 5)

    assert asyncio.run(asyncio.wait_for(run(), 5)) == 1


def test_waits_double_and_are_jittered_in_full() -> None:
    limits = Limits(first_delay_s=1.0, max_delay_s=5.0)
    jitter = random.Random(0)
    longest = [max(limits.backoff_s(attempt, jitter) for _ in range(500)) for attempt in range(5)]
    assert longest == pytest.approx([0, 1, 2, 4, 5], abs=0.1)
    assert min(limits.backoff_s(4, jitter) for _ in range(500)) < 0.1
