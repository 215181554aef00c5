"""The offset is bounded from both sides, shrinks with samples, and survives a step of either clock."""

from __future__ import annotations

import asyncio
import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rudekit import Script, clock_ms, scripted

from nadofast import Rest, TimeSample, TimeSync, TimeSyncConfig, errors
from nadofast.control import ControlChannel
from nadofast.events import ControlReply

MS = 1_000_000


class Clock:
    """Our monotonic clock, and an exchange whose clock differs by a constant."""

    def __init__(self, offset_ms: int = 1_790_000_000_000) -> None:
        self.now_ns = 5_000 * MS
        self.offset_ms = offset_ms

    def __call__(self) -> int:
        return self.now_ns

    def sample(self, out_ms: float, back_ms: float) -> TimeSample:
        sent = self.now_ns
        self.now_ns += int(out_ms * MS)
        server_ms = (self.now_ns + self.offset_ms * MS) // MS
        self.now_ns += int(back_ms * MS)
        return TimeSample(sent, self.now_ns, server_ms)


def test_unknown_without_samples() -> None:
    sync = TimeSync()
    assert not sync.is_known
    assert sync.uncertainty_ms == float("inf")
    for question in (sync.exchange_now_ms, sync.order_time):
        with pytest.raises(errors.OrderDenied, match="clock_unknown"):
            question()
    with pytest.raises(errors.OrderDenied):
        _ = sync.offset_ms


@given(
    st.lists(st.tuples(st.floats(0, 200), st.floats(0, 200)), min_size=1, max_size=12),
    st.integers(-(10**6), 10**6),
)
def test_the_truth_is_inside_the_bounds(delays: list[tuple[float, float]], offset: int) -> None:
    clock = Clock(1_790_000_000_000 + offset)
    sync = TimeSync(TimeSyncConfig(max_uncertainty_ms=10_000), clock_ns=clock)
    widths = []
    for out, back in delays:
        sync.update(clock.sample(out, back))
        truth_ms = clock.now_ns / MS + clock.offset_ms
        # A float of milliseconds since 1970 is good to 0.0003 ms.
        assert abs(sync.exchange_now_ms() - truth_ms) <= sync.uncertainty_ms + 1.001
        assert sync.order_time() == (sync.exchange_now_ms(), sync.uncertainty_ms)
        widths.append(sync.uncertainty_ms)
    assert sync.steps == 0
    # As narrow as the quickest round trip allows, but for the drift assumed since (under 5 s at 100 ppm).
    assert widths[-1] <= (min(out + back for out, back in delays) + 1) / 2 + 0.5


def test_slow_answers_alone_are_not_good_enough() -> None:
    clock = Clock()
    sync = TimeSync(clock_ns=clock)
    sync.update(clock.sample(400, 400))
    assert not sync.is_known
    with pytest.raises(errors.OrderDenied, match="uncertainty 400 ms"):
        sync.order_time()  # the time is there, and no order may be timed by it
    sync.update(clock.sample(1, 1))
    assert sync.is_known
    assert sync.uncertainty_ms < 2


def test_old_samples_widen_and_are_forgotten() -> None:
    clock = Clock()
    sync = TimeSync(TimeSyncConfig(drift_ppm=1000, max_sample_age_s=100), clock_ns=clock)
    sync.update(clock.sample(1, 1))
    fresh = sync.uncertainty_ms
    clock.now_ns += 50_000 * MS
    assert sync.uncertainty_ms == pytest.approx(fresh + 50, abs=1)
    clock.now_ns += 60_000 * MS
    assert not sync.is_known


def test_a_step_of_the_exchange_clock_starts_afresh() -> None:
    clock = Clock()
    sync = TimeSync(clock_ns=clock)
    sync.update(clock.sample(1, 1))
    clock.offset_ms += 5_000
    sync.update(clock.sample(1, 1))
    assert sync.steps == 1
    assert sync.exchange_now_ms() == pytest.approx(clock.now_ns / MS + clock.offset_ms, abs=2)


def test_a_step_of_the_wall_clock_moves_only_the_reported_offset() -> None:
    clock = Clock(offset_ms=1_000)
    wall = [clock.now_ns]
    sync = TimeSync(clock_ns=clock, wall_ns=lambda: wall[0])
    sync.update(clock.sample(1, 1))
    now = sync.exchange_now_ms()
    wall[0] -= 3_600_000 * MS
    assert sync.exchange_now_ms() == now
    assert sync.offset_ms > 3_600_000


def test_a_sample_from_the_future_is_refused() -> None:
    with pytest.raises(ValueError, match="before"):
        TimeSync().update(TimeSample(2, 1, 0))


class Machine:
    """The three local clocks. A sleep moves the boot-time and the wall clock, not the monotonic one."""

    def __init__(self) -> None:
        self.mono_ns, self.boot_ns, self.wall_ns = 5_000 * MS, 9_000 * MS, 1_790_000_000_000 * MS

    def sync(self) -> TimeSync:
        return TimeSync(
            clock_ns=lambda: self.mono_ns, boot_ns=lambda: self.boot_ns, wall_ns=lambda: self.wall_ns
        )

    def run(self, ms: int, *, asleep: bool = False) -> None:
        self.mono_ns += 0 if asleep else ms * MS
        self.boot_ns += ms * MS
        self.wall_ns += ms * MS

    def sample(self) -> TimeSample:
        return TimeSample(self.mono_ns, self.mono_ns, self.wall_ns // MS)


def test_a_machine_that_slept_does_not_know_the_exchanges_clock() -> None:
    machine = Machine()
    sync = machine.sync()
    sync.update(machine.sample())
    machine.run(60_000)
    assert sync.is_known
    machine.run(7_000, asleep=True)
    with pytest.raises(errors.OrderDenied, match="clock_unknown"):
        sync.order_time()
    assert not sync.is_known
    assert (sync.suspends, sync.wall_jumps) == (1, 0)
    sync.update(machine.sample())
    assert sync.is_known
    assert sync.exchange_now_ms() == pytest.approx(machine.wall_ns / MS, abs=2)
    assert sync.suspends == 1


@pytest.mark.parametrize("is_noticed_before", [False, True])
def test_an_answer_that_slept_on_its_way_says_nothing(is_noticed_before: bool) -> None:
    """The exchange read its clock before the machine slept; the answer was read after it."""
    machine = Machine()
    sync = machine.sync()
    sync.update(machine.sample())
    sent_ns, server_ms = machine.mono_ns, machine.wall_ns // MS
    machine.run(1)
    machine.run(60_000, asleep=True)
    if is_noticed_before:
        assert not sync.is_known
    machine.run(5)
    sync.update(TimeSample(sent_ns, machine.mono_ns, server_ms))
    assert not sync.is_known
    machine.run(5)
    sync.update(machine.sample())
    assert sync.exchange_now_ms() == pytest.approx(machine.wall_ns / MS, abs=2)
    assert (sync.suspends, sync.steps) == (1, 0)


@pytest.mark.parametrize("path", ["http", "socket"])
async def test_the_first_question_after_a_sleep_is_answered(path: str) -> None:
    """Nobody has looked at the clocks since: the sleep is noticed before the question, not by the answer."""
    slept_ns = [0]
    sync = TimeSync(boot_ns=lambda: time.monotonic_ns() + slept_ns[0])

    def send(message: bytes) -> None:
        reply = ControlReply(json.loads(message)["id"], {"server_time": str(clock_ms())})
        asyncio.get_running_loop().call_soon(channel.on_reply, reply)

    channel = ControlChannel(send, timeout_s=5)
    async with scripted(Script()) as network, Rest(network) as rest:
        for _ in range(2):
            await (rest if path == "http" else channel).sync_time(sync, 1)
            assert sync.is_known
            slept_ns[0] += 60_000 * MS
    assert sync.suspends == 1


def test_a_wall_clock_that_is_set_is_noticed_both_ways_and_moves_nothing() -> None:
    machine = Machine()
    sync = machine.sync()
    sync.update(machine.sample())
    now_ms = sync.exchange_now_ms()
    for jump_ms in (3_600_000, -7_200_000):
        machine.wall_ns += jump_ms * MS
        assert sync.exchange_now_ms() == now_ms
    assert (sync.wall_jumps, sync.suspends) == (2, 0)


@pytest.mark.parametrize("stall_ms", [150, 5_000])
def test_a_process_that_is_not_scheduled_did_not_sleep(stall_ms: int) -> None:
    """The clocks are read one after another; the processor may be taken away in between."""
    machine = Machine()
    stalls = iter([True] * 20)

    def stalled_boot_ns() -> int:
        if next(stalls, False):
            machine.run(stall_ms)
        return machine.boot_ns

    sync = TimeSync(
        clock_ns=lambda: machine.mono_ns, boot_ns=stalled_boot_ns, wall_ns=lambda: machine.wall_ns
    )
    sync.update(machine.sample())
    for _ in range(5):
        sync.notice_jumps()
    assert sync.suspends == 0


def test_the_real_clocks_agree() -> None:
    sync = TimeSync()
    for _ in range(1_000):
        sync.notice_jumps()
    assert (sync.suspends, sync.wall_jumps) == (0, 0)
