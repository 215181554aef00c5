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


def run(
    program: Path, kind: str, path: Path
) -> tuple[float, dict[int, int], dict[int, int], tuple[int, ...]]:
    """ns per message, final bids, asks and (bid, qty, ask, qty) of the last best_bid_offer."""
    done = subprocess.run(
        [program, kind, "time", path], capture_output=True, text=True, timeout=120, check=True
    )
    first, *rest = done.stdout.splitlines()
    sides: list[dict[int, int]] = [{}, {}]
    quotes: list[int] = []
    for side, price, qty in (map(int, line.split()) for line in rest):
        if side < 2:
            sides[side][price] = qty
        else:
            quotes += [price, qty]
    return float(first), sides[0], sides[1], tuple(quotes)


def last_bbo(messages: list[bytes]) -> tuple[int, ...]:
    """The last best_bid_offer of a stream, zeros if it has none."""
    for data in reversed(messages):
        message = orjson.loads(data)
        if message["type"] == "best_bid_offer":
            return tuple(int(message[key]) for key in ("bid_price", "bid_qty", "ask_price", "ask_qty"))
    return (0, 0, 0, 0)


def fastest(program: Path, path: Path) -> float:
    """ns per message of the better of array and ladder."""
    return min(run(program, kind, path)[0] for kind in KINDS)
