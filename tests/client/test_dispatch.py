"""Who gets which event: by kind, to several at once, each isolated from the others, and only our own."""

from __future__ import annotations

import asyncio
import gc
import time
from dataclasses import replace
from typing import Any

import pytest
from eventkit import SUBACCOUNT, bbo, fill, position, trade, update

from nadofast import NadoEventRouter, OrderTracker, OrderType, QueueLimits, errors, pack_appendix
from nadofast.callbacks import Callbacks
from nadofast.events import BBOEvent, TradeEvent, UnknownEvent


async def test_a_forgotten_queue_costs_nothing() -> None:
    router = NadoEventRouter()
    queue = router.events(["trade"])
    assert router.has_readers("trade")
    assert len(router.stats()) == 1
    del queue
    gc.collect()
    assert not router.has_readers("trade")
    assert router.stats() == []


async def test_queues_of_one_router_have_names_of_their_own() -> None:
    """By which a reader of the statistics tells them apart."""
    router = NadoEventRouter()
    kept = [router.events(["trade"]), router.events(["trade"]), router.events(["trade"], name="mine")]
    kept.append(router.events(["fill"], name="mine"))
    assert [queue.name for queue in kept] == ["trade", "trade 2", "mine", "mine 2"]
    assert len({stats.name for stats in router.stats()}) == 4
    del kept[0]
    gc.collect()
    assert router.events(["trade"]).name == "trade"


async def test_consumers_do_not_disturb_each_other(caplog: pytest.LogCaptureFixture) -> None:
    router = NadoEventRouter()
    seen: list[Any] = []

    def broken(_: Any) -> None:
        raise RuntimeError("a defect of the consumer")

    router.register_handler("trade", broken)
    off = router.register_handler(TradeEvent, seen.append)
    slow, fast = router.events(["trade"]), router.events([TradeEvent])
    router.publish(trade(1))
    assert await anext(fast) == trade(1)
    assert len(slow) == 1
    off()
    off()
    router.publish(trade(2))
    assert seen == [trade(1)]
    assert router.callback_errors == 2
    assert "a defect of the consumer" in caplog.text


@pytest.mark.parametrize("where", ["callbacks", "router", "tracker"])
def test_ending_one_registration_twice_ends_no_other_of_the_same_callback(where: str) -> None:
    callbacks: Callbacks[[Any]] = Callbacks()
    router, tracker = NadoEventRouter(), OrderTracker()
    seen: list[Any] = []
    register = {
        "callbacks": callbacks.add,
        "router": lambda one: router.register_handler("trade", one),
        "tracker": tracker.on_change,
    }[where]
    first, second = register(seen.append), register(seen.append)

    def tell() -> int:
        seen.clear()
        callbacks.tell(1)
        router.publish(trade(1))
        tracker.restore(
            digest=f"0x{len(tracker)}", product_id=4, sender="", price_x18=1, amount_x18=1, expiration_s=1,
            nonce=1, appendix=1,
        )  # fmt: skip
        tracker.on_sent(f"0x{len(tracker) - 1}", 1)
        return len(seen)

    assert tell() == 2
    first()
    first()
    assert tell() == 1
    second()
    assert tell() == 0


async def test_a_slow_callback_is_timed_and_warned_of_by_name(caplog: pytest.LogCaptureFixture) -> None:
    router = NadoEventRouter()

    def dawdler(_: Any) -> None:
        time.sleep(0.001)

    router.register_handler("trade", dawdler)
    for index in range(3):
        router.publish(trade(index))
    assert router.slow_callbacks == 3
    assert router.slowest_callback_ns >= 1_000_000
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == 1, "once in a while, not for every message"
    assert "dawdler" in warnings[0]


async def test_warnings_of_many_callbacks_take_bounded_memory() -> None:
    router = NadoEventRouter()
    for index in range(100):

        def callback(_: Any) -> None: ...

        callback.__qualname__ = f"callback {index}"
        router.took(callback, 1_000_000)
    assert router.slow_callbacks == 100
    assert len(router._warned_ns) <= 64


async def test_kinds_are_checked_and_unknown_events_have_one() -> None:
    router = NadoEventRouter()
    with pytest.raises(ValueError, match="unknown event kind"):
        router.events(["fills"])
    with pytest.raises(ValueError, match="unknown event kind"):
        router.register_handler(int, print)
    seen: list[Any] = []
    router.register_handler("unknown", seen.append)
    router.publish(UnknownEvent("novelty", b"{}"))
    assert len(seen) == 1


async def test_a_coroutine_function_is_no_inline_callback() -> None:
    async def handler(_: Any) -> None: ...

    with pytest.raises(TypeError, match="queue"):
        NadoEventRouter().register_handler("trade", handler)


async def test_only_our_own_account_events_are_delivered() -> None:
    router = NadoEventRouter(SUBACCOUNT)
    seen: list[Any] = []
    for kind in ("fill", "position_change", "order_update", "trade"):
        router.register_handler(kind, seen.append)
    other, sibling = "0x" + "22" * 32, SUBACCOUNT[:42] + "ff" * 12
    isolated = pack_appendix(OrderType.IOC, isolated=True, isolated_margin_x6=10**6)
    ours = [
        fill(1),
        position(1),
        update(1),
        trade(1),
        replace(fill(2), subaccount=sibling, appendix=isolated),
        replace(position(2), subaccount=sibling, isolated=True),
    ]
    foreign = [
        replace(fill(3), subaccount=other),
        replace(fill(4), subaccount=sibling),  # of the wallet, but another of its accounts
        replace(fill(5), subaccount=other, appendix=isolated),
        replace(position(3), subaccount=sibling),
        replace(position(4), subaccount=other, isolated=True),
    ]
    for event in (*ours, *foreign):
        assert await router.route_event(event) == (event in ours)
        assert router.filter_events(event) == (event in ours)
    assert seen == ours
    assert router.foreign_events == len(foreign)
    assert NadoEventRouter().filter_events(foreign[0]), "without a subaccount of its own it takes all"


async def test_routing_waits_for_a_full_queue_and_serves_the_others() -> None:
    router = NadoEventRouter()
    full = router.events(["order_update"], QueueLimits(max_facts=1))
    roomy = router.events(["order_update"])
    await router.route_event(update(1))
    waiting = asyncio.ensure_future(router.route_event(update(2)))
    await asyncio.sleep(0)
    assert not waiting.done()
    assert await full.dequeue() == update(1)
    assert await waiting
    assert len(roomy) == 2
    with pytest.raises(errors.EventOverflow, match="no room"):
        await router.route_event(update(3), timeout_s=0.01)
    assert len(roomy) == 3
    assert full.stats().lost == 0, "who waits for room loses nothing: the caller knows"


async def test_the_end_ends_every_reader() -> None:
    router = NadoEventRouter()
    queues = [router.events([BBOEvent]), router.events(["trade"])]
    router.publish(bbo(4, 1))
    router.close()
    assert [[event async for event in queue] for queue in queues] == [[bbo(4, 1)], []]


def test_the_first_call_of_a_callback_runs_cold_and_is_only_counted(caplog: pytest.LogCaptureFixture) -> None:
    def ours(_: object) -> None: ...

    def others(_: object) -> None: ...

    router = NadoEventRouter()
    router.took(ours, 400_000)
    assert (router.slow_callbacks, caplog.records) == (1, [])
    router.took(ours, 400_000)
    router.took(ours, 400_000)
    router.took(others, 9_000_000)  # no cold code takes that long
    assert router.slow_callbacks == 4
    assert [("ours" in r.getMessage(), "others" in r.getMessage()) for r in caplog.records] == [
        (True, False), (False, True),
    ]  # fmt: skip
