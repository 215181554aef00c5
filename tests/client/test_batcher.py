"""Batches: full or old, in order, one at a time, and no failure unseen."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from clientkit import until
from hypothesis import given
from hypothesis import strategies as st

from nadofast import NadoMessageBatcher

LONG_S = 60.0


class Sink:
    """A handler that takes its time, and says what it was given."""

    def __init__(self, takes_s: float = 0.0) -> None:
        self.batches: list[list[Any]] = []
        self.at_work = self.most_at_work = 0
        self.takes_s = takes_s
        self.error: Exception | None = None

    async def __call__(self, batch: list[Any]) -> None:
        self.at_work += 1
        self.most_at_work = max(self.most_at_work, self.at_work)
        try:
            await asyncio.sleep(self.takes_s)
            if self.error is not None:
                raise self.error
            self.batches.append(batch)
        finally:
            self.at_work -= 1


async def test_a_full_batch_leaves_and_a_part_waits() -> None:
    sink = Sink()
    batcher = NadoMessageBatcher[int](sink, batch_size=3, timeout_s=LONG_S)
    for number in range(5):
        await batcher.add_message(number)
    assert sink.batches == [[0, 1, 2]]
    assert batcher.get_batch_size() == 2
    assert await batcher.flush_batch() == 2
    assert sink.batches == [[0, 1, 2], [3, 4]]
    assert await batcher.flush_batch() == 0
    assert (batcher.batches, batcher.messages, batcher.failures) == (2, 5, 0)


async def test_an_old_batch_leaves_though_it_is_not_full() -> None:
    sink = Sink()
    batcher = NadoMessageBatcher[int](sink, batch_size=100, timeout_s=0.05)
    began = time.monotonic()
    await batcher.add_message(1)
    await batcher.add_message(2)
    assert sink.batches == []
    await until(lambda: sink.batches, "the age limit")
    assert time.monotonic() - began >= 0.05
    assert sink.batches == [[1, 2]]
    await batcher.add_message(3)
    await until(lambda: len(sink.batches) == 2, "the timer starts anew with the next message")


async def test_who_fills_a_batch_waits_for_its_handler() -> None:
    sink = Sink(takes_s=0.05)
    batcher = NadoMessageBatcher[int](sink, batch_size=1, timeout_s=LONG_S)
    await asyncio.gather(*(batcher.add_message(number) for number in range(4)))
    assert sink.batches == [[0], [1], [2], [3]], "in order"
    assert sink.most_at_work == 1, "one at a time"


async def test_a_failure_reaches_whoever_flushed() -> None:
    sink = Sink()
    batcher = NadoMessageBatcher[int](sink, batch_size=2, timeout_s=LONG_S)
    sink.error = ValueError("the handler's own")
    await batcher.add_message(1)
    with pytest.raises(ValueError, match="own"):
        await batcher.add_message(2)
    sink.error = None
    await batcher.add_message(3)
    await batcher.close()
    assert sink.batches == [[3]], "a failed batch is not given twice, the next one is"
    with pytest.raises(RuntimeError, match="closed"):
        await batcher.add_message(4)


async def test_a_failure_nobody_waits_for_is_told(caplog: pytest.LogCaptureFixture) -> None:
    sink, told = Sink(), []
    sink.error = ValueError("the handler's own")
    for on_error in (None, lambda batch, error: told.append((batch, error))):
        batcher = NadoMessageBatcher[int](sink, batch_size=9, timeout_s=0.01, on_error=on_error)
        await batcher.add_message(7)
        await until(lambda batcher=batcher: batcher.failures, "the flush by age")
        await batcher.close()
    assert told == [([7], sink.error)]
    assert caplog.text.count("a batch of 1 messages failed") == 1


async def test_a_handler_that_hangs_is_ended() -> None:
    batcher = NadoMessageBatcher[int](Sink(LONG_S), batch_size=1, timeout_s=1, handler_timeout_s=0.02)
    with pytest.raises(TimeoutError):
        await batcher.add_message(1)
    assert batcher.failures == 1


async def test_a_caller_that_is_cancelled_does_not_take_the_batch_with_it() -> None:
    sink = Sink(takes_s=0.05)
    batcher = NadoMessageBatcher[int](sink, batch_size=1, timeout_s=LONG_S)
    adding = asyncio.ensure_future(batcher.add_message(1))
    await until(lambda: sink.at_work, "the handler is at work")
    adding.cancel()
    with pytest.raises(asyncio.CancelledError):
        await adding
    await batcher.close()
    assert sink.batches == [[1]]


@pytest.mark.parametrize("wrong", [{"batch_size": 0}, {"timeout_s": 0}, {"handler_timeout_s": -1}])
def test_sizes_and_times_are_positive(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="positive"):
        NadoMessageBatcher[int](Sink(), **({"batch_size": 1, "timeout_s": 1} | wrong))  # type: ignore[arg-type]


@given(st.lists(st.booleans(), max_size=40), st.integers(1, 5))
def test_every_message_once_and_in_order(steps: list[bool], batch_size: int) -> None:
    """steps: add a message (True) or flush by hand."""
    sink = Sink()

    async def play() -> None:
        batcher = NadoMessageBatcher[int](sink, batch_size=batch_size, timeout_s=LONG_S)
        for number, adds in enumerate(steps):
            await (batcher.add_message(number) if adds else batcher.flush_batch())
        await batcher.close()

    asyncio.run(play())
    assert [m for batch in sink.batches for m in batch] == [n for n, adds in enumerate(steps) if adds]
    assert all(0 < len(batch) <= batch_size for batch in sink.batches)
