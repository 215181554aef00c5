"""What the hash of an order costs, on a vector whose digest is known."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nadofast._hash import order_digest

VECTORS = Path(__file__).parent.parent / "tests" / "data" / "vectors.json"
FIELDS = ("priceX18", "amount", "expiration", "nonce", "appendix")


def test_order_digest(benchmark: Any, say: Callable[[str], None]) -> None:
    vector = json.loads(VECTORS.read_text())["orders"][0]
    raw = [bytes.fromhex(vector["domain_separator"][2:]), bytes.fromhex(vector["message"]["sender"][2:])]
    arguments = (*raw, *(int(vector["message"][key]) for key in FIELDS))
    assert "0x" + order_digest(*arguments).hex() == vector["digest"]

    def run() -> list[float]:
        runs = []
        for _ in range(7):
            start = time.perf_counter_ns()
            for _ in range(5_000):
                order_digest(*arguments)
            runs.append((time.perf_counter_ns() - start) / 5_000)
        return runs

    ns = statistics.median(benchmark.pedantic(run, rounds=1, iterations=1))
    benchmark.extra_info.update(ns=ns)
    say(f"order digest (EIP-712, 3 permutations)  {ns:>8,.0f} ns")
    assert ns < 100_000
