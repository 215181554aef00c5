"""Gate: instructions per message against a committed baseline, and against a C floor that is checked first.

Without valgrind or gcc the count is not made; then the summary says so and nothing is collected for it.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import floor
import pytest
from figures import interleaved, ns_per_message, ratio
from instructions import SHAPES, compare, is_possible, line, measure
from reference import ReferenceBbo, ReferenceBook
from streams import bbo_messages, depth_messages

if is_possible():

    def test_instructions(benchmark: Any, say: Callable[[str], None]) -> None:
        measured = benchmark.pedantic(measure, rounds=1, iterations=1)
        for shape in SHAPES:
            benchmark.extra_info[shape] = measured[shape]
            say(f"instructions {line(shape, measured[shape])}")
        assert not compare(measured)

    @pytest.mark.parametrize(("shape", "least"), [("bbo", 40), ("depth 10", 35)])
    def test_floor_is_good_c(
        benchmark: Any, say: Callable[[str], None], tmp_path: Path, shape: str, least: float
    ) -> None:
        """The floor builds the stream's book and is so many times faster than careful Python."""
        stream, messages, snapshot = depth_messages(4_096)
        if shape == "bbo":
            messages = bbo_messages(4_096)
        program, path = floor.build(), floor.write(tmp_path / "stream.txt", snapshot, messages)
        for kind in floor.KINDS:
            _, (bids, asks, *rest) = floor.run(program, kind, path)
            assert tuple(rest) == floor.expected(messages)
            if shape != "bbo":
                assert (bids, asks) == (stream.bids, stream.asks)

        def python() -> float:
            book = ReferenceBbo() if shape == "bbo" else ReferenceBook(snapshot)
            return ns_per_message(book.apply, messages)

        lowest, reference = benchmark.pedantic(
            lambda: interleaved(7, lambda: floor.fastest(program, path), python), rounds=1, iterations=1
        )
        times = ratio(reference, lowest)
        benchmark.extra_info.update(ns=statistics.median(lowest), ratio=times)
        say(
            f"C floor {shape:10} {statistics.median(lowest):>6,.0f} ns"
            f"  orjson + sorted list {statistics.median(reference):>6,.0f} ns  {times:.1f}x"
        )
        assert times >= least
