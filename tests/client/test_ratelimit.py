"""No window is ever overspent, the reserve is kept for urgent requests, rate errors slow the rest down."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rudekit import Script, failure, scripted

from nadofast import LimitConfig, NadoRateLimiter, Rest, wire
from nadofast.errors import ExchangeError
from nadofast.ratelimit import Window

S = 1_000_000_000


class Clock:
    def __init__(self) -> None:
        self.now_ns = 100 * S

    def __call__(self) -> int:
        return self.now_ns


def limiter(clock: Clock, *windows: Window) -> NadoRateLimiter:
    return NadoRateLimiter(
        LimitConfig(limits={"execute": windows, "query": (), "archive": ()}, margin=0.0), clock_ns=clock
    )


@given(st.lists(st.tuples(st.integers(0, 3 * S), st.integers(1, 60), st.booleans()), max_size=80))
def test_no_window_is_overspent(requests: list[tuple[int, int, bool]]) -> None:
    clock = Clock()
    windows = (Window(600, 60.0, 120), Window(100, 10.0, 20))
    budget = limiter(clock, *windows)
    spent: list[tuple[int, int, bool]] = []
    for pause_ns, weight, urgent in requests:
        clock.now_ns += pause_ns
        if budget.try_acquire("execute", weight, urgent=urgent):
            spent.append((clock.now_ns, weight, urgent))
        for window in windows:
            start = clock.now_ns - int(window.seconds * S)
            inside = [(weight, urgent) for at, weight, urgent in spent if at > start]
            assert sum(weight for weight, _ in inside) <= window.limit
            if inside and not inside[-1][1] and spent[-1][0] == clock.now_ns:
                assert sum(weight for weight, _ in inside) <= window.limit - window.reserve


def test_the_reserve_is_for_urgent_requests() -> None:
    budget = limiter(Clock(), Window(10, 10.0, 4))
    assert budget.try_acquire("execute", 6)
    assert budget.left("execute") == 0
    assert not budget.try_acquire("execute", 1)
    assert budget.left("execute", urgent=True) == 4
    assert budget.try_acquire("execute", 4, urgent=True)
    assert not budget.try_acquire("execute", 1, urgent=True)
    assert budget.refused == 2


def test_the_wait_is_exact() -> None:
    clock = Clock()
    budget = limiter(clock, Window(10, 10.0))
    assert budget.try_acquire("execute", 4)
    clock.now_ns += 3 * S
    assert budget.try_acquire("execute", 6)
    assert budget.wait_s("execute", 4) == pytest.approx(7)
    assert budget.wait_s("execute", 5) == pytest.approx(10)
    assert budget.wait_s("execute", 11) == float("inf")
    clock.now_ns += 7 * S
    assert budget.try_acquire("execute", 4)


def test_rate_errors_pause_what_is_not_urgent_longer_each_time() -> None:
    clock = Clock()
    budget = limiter(clock, Window(1000, 10.0))
    first = budget.on_rate_error("execute")
    assert 1.0 <= first <= 1.5
    assert not budget.try_acquire("execute", 1)
    assert budget.try_acquire("execute", 1, urgent=True)
    for _ in range(10):
        last = budget.on_rate_error("execute")
    assert 30.0 <= last <= 45.0
    clock.now_ns += 46 * S
    assert budget.try_acquire("execute", 1)
    budget.on_success("execute")
    assert budget.on_rate_error("execute") <= 1.5


def test_defaults_are_the_exchanges_limits() -> None:
    budget = NadoRateLimiter()
    assert budget.left("execute", urgent=True) == 100
    assert budget.left("query", urgent=True) == 400
    assert budget.left("execute") == 50
    # The panic button works whatever entries have spent.
    assert budget.try_acquire("execute", 50)
    assert not budget.try_acquire("execute", 1)
    assert budget.try_acquire("execute", wire.CANCEL_ALL_WEIGHT, urgent=True)


async def test_acquire_waits_or_gives_up() -> None:
    config = LimitConfig(limits={"execute": (Window(2, 0.2),), "query": (), "archive": ()}, margin=0.0)
    budget = NadoRateLimiter(config)
    assert await budget.acquire("execute", 2, timeout_s=0)
    assert not await budget.acquire("execute", 1, timeout_s=0.05)
    started = time.monotonic()
    assert await budget.acquire("execute", 1, timeout_s=1)
    assert 0.05 < time.monotonic() - started < 1.5
    assert not await budget.acquire("execute", 3, timeout_s=1)


def test_every_way_reports_that_it_was_too_fast_and_that_it_is_over() -> None:
    budget = limiter(Clock(), Window(1000, 10.0))
    for code in (1000, 1015, 2020):
        with pytest.raises(ExchangeError), budget.watch("execute"):
            raise ExchangeError(code, "no")
    assert budget.rate_errors == 2
    with budget.watch("execute"):
        pass
    assert budget.on_rate_error("execute") <= 1.5


async def test_queries_over_http_learn_that_they_are_too_fast() -> None:
    script = Script(query=lambda _: failure(1000, "slow down"))
    budget = NadoRateLimiter()
    async with scripted(script) as network, Rest(network, limiter=budget) as rest:
        with pytest.raises(ExchangeError):
            await rest.status()
        assert budget.wait_s("query", 1) > 0
        assert budget.wait_s("archive", 1) == 0


def test_repricing_has_a_share_and_leaves_the_rest() -> None:
    clock = Clock()
    budget = limiter(clock, Window(20, 10.0, 4))
    assert [budget.try_reprice(2) for _ in range(5)] == [True] * 4 + [False]
    assert budget.reprices_refused == 1
    assert budget.try_acquire("execute", 8)
    assert not budget.try_acquire("execute", 1)
    assert budget.try_acquire("execute", 4, urgent=True)
    clock.now_ns += 11 * S
    assert budget.try_reprice(2)
    assert budget.try_acquire("execute", 14)
    assert not budget.try_reprice(2)  # a share is no reserve of its own


def test_an_address_that_may_only_ask_is_left_alone_longer_each_time() -> None:
    clock = Clock()
    budget = limiter(clock, Window(1000, 10.0))
    assert budget.query_only_s == 0
    pauses = []
    for _ in range(8):
        pauses.append(budget.on_query_only())
        assert budget.query_only_s == pytest.approx(pauses[-1])
        clock.now_ns += int(pauses[-1] * S) + 1
        assert budget.query_only_s == 0
    assert 5.0 <= pauses[0] <= 7.5
    assert 60.0 <= pauses[-1] <= 90.0
    budget.on_query_only()
    budget.on_executes_taken()
    assert budget.query_only_s == 0
    assert budget.on_query_only() <= 7.5


def test_everything_is_counted_and_logged_without_a_flood(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    budget = limiter(clock, Window(4, 10.0, 2))
    assert budget.try_acquire("execute", 2)
    for _ in range(50):
        assert not budget.try_acquire("execute", 1)
    assert len([line for line in caplog.messages if "refused" in line]) == 1
    budget.on_rate_error("execute")
    assert any("too fast" in line for line in caplog.messages)
    stats = budget.stats()
    assert stats["refused"] == 50
    assert stats["rate_errors"] == 1
    assert stats["scopes"]["execute"]["left"] == 0
    assert stats["scopes"]["execute"]["left_urgent"] == 2
    assert stats["scopes"]["execute"]["paused_s"] >= 1.0
    assert "query" not in stats["scopes"]  # it has no limit here
