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
from instructions import SHAPES, compare, is_possible, measure
from reference import ReferenceBbo, ReferenceBook
from streams import bbo_messages, depth_messages

from test_gate_book import ns_per_message  # isort: skip

if is_possible():

    def test_instructions(benchmark: Any, say: Callable[[str], None]) -> None:
        measured = benchmark.pedantic(measure, rounds=1, iterations=1)
        for shape in SHAPES:
            figures = measured[shape]
            benchmark.extra_info[shape] = figures
            say(
                f"instructions {shape:10} ours {figures['ours']:>8,.0f}  C floor {figures['floor']:>8,.0f}"
                f"  {figures['ratio']:.2f}x"
            )
        assert not compare(measured)

    @pytest.mark.parametrize("shape", ["bbo", "depth 10"])
    def test_floor_is_good_c(benchmark: Any, say: Callable[[str], None], tmp_path: Path, shape: str) -> None:
        """The floor builds the stream's book and is far below what careful Python costs."""
        stream, messages, snapshot = depth_messages(4_000)
        if shape == "bbo":
            messages = bbo_messages(4_000)
        program, path = floor.build(), floor.write(tmp_path / "stream.txt", snapshot, messages)

        def once() -> tuple[float, float]:
            best = []
            for kind in floor.KINDS:
                ns, bids, asks, quote = floor.run(program, kind, path)
                assert quote == floor.last_bbo(messages)
                if shape != "bbo":
                    assert (bids, asks) == (stream.bids, stream.asks)
                best.append(ns)
            python = ReferenceBbo() if shape == "bbo" else ReferenceBook(snapshot)
            return min(best), ns_per_message(python.apply, messages)

        runs = benchmark.pedantic(lambda: [once() for _ in range(7)], rounds=1, iterations=1)
        ns, reference, ratio = (
            statistics.median(values) for values in zip(*((a, b, b / a) for a, b in runs), strict=True)
        )
        benchmark.extra_info.update(ns=ns, reference_ns=reference, ratio=ratio)
        say(f"C floor {shape:10}  {ns:>8,.0f} ns  orjson + sorted list {reference:>8,.0f} ns  {ratio:.1f}x")
        assert ratio > 15
