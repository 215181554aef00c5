"""The command `bench`: what this machine makes of the hot path, in about two seconds and without an exchange.

Every answer is checked before it is timed. What the project holds itself to, against C and its peers, is in
`make bench` and `make bench-tables`; this is for the machine a bot shall run on.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Final, TypeVar

import orjson
import typer
import uvloop
from rich import box
from rich.console import Console
from rich.table import Table

import nadofast
from nadofast._latency import Histogram
from nadofast.signing import OrderType, make_nonce, pack_appendix

from .looplag import LoopLag
from .model import ExitCode

T = TypeVar("T")
X18: Final = 10**18
PRODUCT: Final = 4
MESSAGES: Final = 5_000
ORDERS: Final = 1_000
LAG_S: Final = 1.0
LEVELS: Final = 5
CHAIN_ID: Final = 1
ENDPOINT: Final = f"0x{1:040x}"


class WrongAnswer(Exception):
    """What was to be timed does not do what it shall: a figure would mean nothing."""


@dataclass(frozen=True, slots=True)
class Figure:
    """In microseconds."""

    what: str
    samples: int
    p50_us: float
    p99_us: float


def bench_command(
    as_json: Annotated[bool, typer.Option("--json", help="For scripts; microseconds.")] = False,
) -> int:
    """How fast the hot path is on this machine: prices in, signed orders out, the loop."""
    found = [parsed(), booked(), signed(), loop_lag()]
    if as_json:
        print(json.dumps([asdict(figure) for figure in found], indent=2))
        return int(ExitCode.DONE)
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("µs")
    for name in ("p50", "p99", "samples"):
        table.add_column(name, justify="right")
    for figure in found:
        table.add_row(figure.what, f"{figure.p50_us:.2f}", f"{figure.p99_us:.2f}", str(figure.samples))
    Console().print(table)
    return int(ExitCode.DONE)


def parsed() -> Figure:
    """A best price from its bytes to a Python event."""
    one = {
        "type": "best_bid_offer", "timestamp": "1", "product_id": PRODUCT, "bid_price": str(3_000 * X18),
        "bid_qty": str(X18), "ask_price": str(3_001 * X18), "ask_qty": str(2 * X18),
    }  # fmt: skip
    message = orjson.dumps(one)
    event: Any = nadofast.parse(message)
    _check((event.bid_price_x18, event.ask_qty_x18) == (3_000 * X18, 2 * X18), "the best price")
    return _figure("best price: bytes to event", [message] * MESSAGES, nadofast.parse)


def booked() -> Figure:
    """A depth message from its bytes into a book of 100 levels a side."""
    book = nadofast.OrderBook(PRODUCT)
    bids, asks = ([((3_000 + sign * i) * X18, X18) for i in range(1, 101)] for sign in (-1, 1))
    book.load_snapshot(bids, asks, 1)
    messages = [_depth(i) for i in range(1, MESSAGES + 1)]
    found = _figure(f"book: {2 * LEVELS} changes applied", messages, book.apply)
    last = _qty_x18(MESSAGES)
    best = [(3_000 + sign) * X18 for sign in (-1, 1)]
    _check((book.best_bid, book.best_ask) == ((best[0], last), (best[1], last)), "the book")
    return found


def _depth(number: int) -> bytes:
    qty = str(_qty_x18(number))
    bids, asks = ([[str((3_000 + sign * i) * X18), qty] for i in range(1, LEVELS + 1)] for sign in (-1, 1))
    return orjson.dumps(
        {
            "type": "book_depth", "last_max_timestamp": str(number), "min_timestamp": str(number + 1),
            "max_timestamp": str(number + 1), "product_id": PRODUCT, "bids": bids, "asks": asks,
        }
    )  # fmt: skip


def _qty_x18(number: int) -> int:
    return (1 + number % 9) * X18


def signed() -> Figure:
    """An order, hashed and signed. The key is made for this and forgotten."""
    signer = nadofast.Signer(f"0x{secrets.token_hex(32)}", chain_id=CHAIN_ID, endpoint_address=ENDPOINT)
    appendix, now_ms = pack_appendix(OrderType.IOC), int(time.time() * 1e3)

    def sign(number: int) -> nadofast.SignedOrder:
        return signer.sign_order(
            product_id=PRODUCT, price_x18=3_000 * X18, amount_x18=X18, expiration_s=now_ms // 1_000 + 60,
            nonce=make_nonce(now_ms, number), appendix=appendix,
        )  # fmt: skip

    first, other = sign(1), sign(2)
    _check(first.digest == sign(1).digest != other.digest, "the digest")
    _check(len(bytes.fromhex(first.signature[2:])) == 65, "the signature")
    return _figure("order: hashed and signed", list(range(ORDERS)), sign)


def loop_lag() -> Figure:
    """How late timers fire in an idle loop: what the machine does to us."""

    async def idle() -> dict[str, int]:
        lag = LoopLag()
        task = asyncio.create_task(lag.run())
        await asyncio.sleep(LAG_S)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return lag.summary()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        found = runner.run(idle())
    return Figure("idle loop: timers late", found["count"], found["p50_ns"] / 1e3, found["p99_ns"] / 1e3)


def _figure(what: str, items: list[T], work: Callable[[T], object]) -> Figure:
    taken = Histogram()
    for item in items:
        began_ns = time.perf_counter_ns()
        work(item)
        taken.record_ns(time.perf_counter_ns() - began_ns)
    found = taken.summary()
    return Figure(what, found["count"], found["p50_ns"] / 1e3, found["p99_ns"] / 1e3)


def _check(is_right: bool, what: str) -> None:
    if not is_right:
        raise WrongAnswer(f"{what} is wrong: this build must not trade")
