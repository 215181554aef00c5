"""What the bot shows of itself: one value, made on demand, for the control socket, the dashboard and metrics.

Amounts are decimal strings (exact), figures for people are floats; ages and latencies are in milliseconds.
Making one reads what is there and changes nothing, so it may be asked for at any time.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import orjson
from pydantic import TypeAdapter


@dataclass(frozen=True, slots=True)
class LevelView:
    """One price level. ours: how much of it is an order of this bot."""

    price: str
    qty: str
    ours: str = "0"


@dataclass(frozen=True, slots=True)
class LegView:
    """One product. source: where its touch comes from, "stream", "rest" or "" before the first."""

    symbol: str
    position: str
    notional_usd: float
    bids: tuple[LevelView, ...]
    asks: tuple[LevelView, ...]
    book: str
    source: str
    age_ms: float | None
    spread_bps: float


@dataclass(frozen=True, slots=True)
class LinkView:
    """One socket. age_ms: since its last frame."""

    name: str
    state: str
    age_ms: float | None


@dataclass(frozen=True, slots=True)
class LimitView:
    """A limit and how much of it is used; both in its unit."""

    name: str
    used: float
    limit: float
    unit: str


@dataclass(frozen=True, slots=True)
class WatchView:
    """The last twenty-four hours, or the hours there were. uptime: share of looks with valid books and fresh
    prices. worst_age_ms: oldest price by product."""

    hours: float
    uptime: float
    fills: int
    cycles: int
    halts: int
    link_losses: int
    worst_age_ms: dict[str, float]


@dataclass(frozen=True, slots=True)
class TroubleView:
    """Something that is wrong. code: as in `conditions.Code`; subject: such as a product, or ""."""

    code: str
    subject: str
    level: str
    text: str


@dataclass(frozen=True, slots=True)
class PnlView:
    """USD since the start: price + funding - fees = net. day_usd since UTC midnight."""

    price_usd: float
    fees_usd: float
    funding_usd: float
    net_usd: float
    day_usd: float
    volume_usd: float


@dataclass(frozen=True, slots=True)
class Status:
    """The bot at one moment. latencies: kind → p50, p95, p99 in ms. events: the newest last. blind_s: since
    the last word of the exchange. lost: record → why a part of it could not be written. trouble: what is
    wrong. is_rest_only: told to do without WebSockets.
    """

    at_s: float
    pid: int
    venue: str
    account: str
    phase: str
    phase_s: float
    direction: str
    cycle: int
    cycles_done: int
    cycles_wanted: int
    stop: str
    halt: str
    not_ready: str
    net_delta_pct: float
    legs: tuple[LegView, ...]
    links: tuple[LinkView, ...]
    modes: dict[str, str]
    latencies: dict[str, dict[str, float]]
    limits: tuple[LimitView, ...]
    pnl: PnlView
    counters: dict[str, float]
    uptime: float
    clock_offset_ms: float | None
    clock_uncertainty_ms: float | None
    events: tuple[str, ...]
    blind_s: float = 0.0
    lost: dict[str, str] = field(default_factory=dict)
    trouble: tuple[TroubleView, ...] = ()
    watch: WatchView | None = None
    is_rest_only: bool = False

    def to_json(self) -> bytes:
        """One line."""
        return orjson.dumps(self)


_ADAPTER: Final = TypeAdapter(Status)


def from_json(line: bytes | str) -> Status:
    """The opposite of `to_json`. ValueError on anything else."""
    return _ADAPTER.validate_json(line)
