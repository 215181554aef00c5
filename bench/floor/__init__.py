"""The C floor: compiled when it is measured, checked against the stream's own book every time it runs."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import orjson

BUILD = Path(__file__).resolve().parents[2] / "build" / "bench"
SOURCE = Path(__file__).with_name("floor.c")
KINDS = ("array", "ladder")


def build() -> Path:
    """Compile with gcc -O3; the program's path."""
    BUILD.mkdir(parents=True, exist_ok=True)
    program = BUILD / "floor"
    subprocess.run(["gcc", "-O3", "-Wall", "-o", program, SOURCE], check=True, timeout=60)
    return program


def write(path: Path, snapshot: Any, messages: list[bytes]) -> Path:
    bids, asks, _ = snapshot
    lines = [f"{len(bids)} {len(asks)}", *(f"{price} {qty}" for price, qty in [*bids, *asks])]
    path.write_bytes("\n".join(lines).encode() + b"\n" + b"".join(m + b"\n" for m in messages))
    return path


State = tuple[dict[int, int], dict[int, int], tuple[int, ...], tuple[int, ...]]
"""Bids, asks, (bid, qty, ask, qty) of the last best_bid_offer, (fills taken, submission_idx of the last)."""


def read_state(lines: list[str]) -> State:
    """What market.h prints: "side price qty", then the last BBO as sides 2 and 3 and the fills as 4."""
    sides: list[dict[int, int]] = [{}, {}]
    quote: list[int] = []
    fills: list[int] = []
    for side, first, second in (map(int, line.split()) for line in lines):
        if side < 2:
            sides[side][first] = second
        else:
            (quote if side < 4 else fills).extend((first, second))
    return sides[0], sides[1], tuple(quote), tuple(fills)


def run(program: Path, kind: str, path: Path) -> tuple[float, State]:
    """ns per message, and what it ended with."""
    done = subprocess.run(
        [program, kind, "time", path], capture_output=True, text=True, timeout=120, check=True
    )
    first, *rest = done.stdout.splitlines()
    return float(first), read_state(rest)


def expected(messages: list[bytes]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """BBO and fills of a State after these messages."""
    quote, found = (0, 0, 0, 0), []
    for message in map(orjson.loads, messages):
        if message["type"] == "best_bid_offer":
            quote = tuple(int(message[key]) for key in ("bid_price", "bid_qty", "ask_price", "ask_qty"))
        elif message["type"] == "fill":
            found.append((message["order_digest"], int(message["submission_idx"])))
    return quote, (len(set(found)), found[-1][1] if found else 0)


def fastest(program: Path, path: Path) -> float:
    """ns per message of the better of array and ladder."""
    return min(run(program, kind, path)[0] for kind in KINDS)
