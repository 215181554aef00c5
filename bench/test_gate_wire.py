"""Gate: the whole way against C, in one run, and counts that no noise moves.

CPU time of pinned processes, not wall time: a busy machine makes both wait, it does not make them work.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from typing import Any

import pytest
import wire

ROUNDS = 7
MESSAGES = 10_000
ONCE = 300
"""Python calls and allocations a run may make in all: what opening, growing and ending a connection needs."""


@pytest.fixture(scope="module", autouse=True)
def programs() -> None:
    wire.build()


@pytest.fixture(scope="module")
def prepared() -> wire.Prepared:
    """One stream for all pairs: making it takes about as long as a run of one."""
    return wire.prepare(30_000)


def ratios(
    ours: wire.Contender, floor: wire.Contender, prepared: wire.Prepared
) -> tuple[float, float, float]:
    """Median CPU ns a message of ours and of C, and the median of the ratios of neighbouring runs."""
    pairs = [(wire.run(ours, prepared).cpu_ns, wire.run(floor, prepared).cpu_ns) for _ in range(ROUNDS)]
    mine, least = (statistics.median(values) for values in zip(*pairs, strict=True))
    return mine, least, statistics.median(a / b for a, b in pairs)


@pytest.mark.parametrize(
    ("contender", "floor", "limit"),
    [
        (wire.ZLIB_SILENT, wire.FLOOR, 1.45),
        (wire.ZLIB_CALLBACK, wire.FLOOR, 1.6),
        (wire.SILENT, wire.FLOOR_OWN, 1.6),
        (wire.CALLBACK, wire.FLOOR_OWN, 1.9),
    ],
)
def test_socket_to_book_against_c(
    benchmark: Any,
    say: Callable[[str], None],
    contender: wire.Contender,
    floor: wire.Contender,
    limit: float,
    prepared: wire.Prepared,
) -> None:
    """Both inflate with zlib, or both with the same decoder; the floor reads fills too, each once."""
    mine, least, ratio = benchmark.pedantic(ratios, args=(contender, floor, prepared), rounds=1, iterations=1)
    benchmark.extra_info.update(cpu_ns=mine, floor_cpu_ns=least, ratio=ratio)
    say(
        f"socket → book {contender.label:42} {mine:>6,.0f} ns CPU"
        f"  {floor.label} {least:>6,.0f} ns  {ratio:.2f}x"
    )
    assert ratio < limit


@pytest.mark.parametrize(
    ("contender", "is_deflated", "copied"),
    [(wire.COUNTED, True, 0), (wire.ZLIB_COUNTED, True, 1), (wire.COUNTED, False, 0)],
)
def test_a_market_message_allocates_nothing_runs_no_python_and_is_not_copied(
    benchmark: Any,
    say: Callable[[str], None],
    contender: wire.Contender,
    is_deflated: bool,
    copied: int,
) -> None:
    """Per 10,000 frames of a socket. zlib copies what it made into its window: the counter counts."""
    prepared = wire.prepare(MESSAGES, is_deflated=is_deflated, bbo=1.0, private=0.0)
    outcome = benchmark.pedantic(wire.run, args=(contender, prepared), rounds=1, iterations=1)
    counts = json.loads(outcome.versions)
    benchmark.extra_info.update(counts)
    kind = "deflated" if is_deflated else "plain"
    figures = ", ".join(f"{name} {n:,}" for name, n in counts.items())
    say(f"per {MESSAGES:,} {kind} frames, {contender.label}: {figures}")
    assert counts["python_calls"] < ONCE
    assert counts["allocations"] < ONCE
    assert copied - 0.1 < counts["copies"] / MESSAGES < copied + 0.05


def test_depth_allocates_nothing(benchmark: Any, say: Callable[[str], None]) -> None:
    prepared = wire.prepare(MESSAGES, private=0.0)
    outcome = benchmark.pedantic(wire.run, args=(wire.COUNTED, prepared), rounds=1, iterations=1)
    counts = json.loads(outcome.versions)
    say(f"per {MESSAGES:,} frames, 40 % depth: allocations {counts['allocations']:,}")
    assert counts["python_calls"] < ONCE
    assert counts["allocations"] < ONCE
