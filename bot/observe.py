"""Reads a running bot and makes a `Status` of it. Reads only; nothing it calls changes anything."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Self

from nadofast.products import X18, Product, mul_x18
from nadofast.timesync import TimeSync

from .alerts import Alerts
from .conditions import conditions
from .looplag import LoopLag
from .status import LegView, LevelView, LimitView, LinkView, PnlView, Status
from .units import NS_PER_MS, NS_PER_S, show
from .watch import Watch

if TYPE_CHECKING:
    from .pair import DNPairBot, PairParts

BOOK_LEVELS: Final = 8
RECENT_NS: Final = 50 * NS_PER_MS
QUANTILES: Final = ("p50", "p95", "p99")
Ours = Mapping[tuple[int, int], int]  # (product, price) → unfilled amount, absolute


@dataclass(frozen=True, slots=True)
class _Read:
    """What costs most to ask for, asked for once a picture: the loop waits for it."""

    feed: dict[str, Any]
    gateway: dict[str, Any]
    health: dict[str, Any]

    @classmethod
    def of(cls, parts: PairParts) -> Self:
        return cls(parts.feed.stats(), parts.gateway.stats(), parts.feed.get_connection_metrics())


class Observer:
    """One bot's state as a value, whenever it is asked for."""

    def __init__(
        self, bot: DNPairBot, parts: PairParts, timesync: TimeSync, alerts: Alerts, *, venue: str
    ) -> None:
        self._bot = bot
        self._parts = parts
        self._timesync = timesync
        self._alerts = alerts
        self._venue = venue
        self.watch = Watch(on_complete=parts.csv.log_watch)
        self.lag = LoopLag()
        self._last: Status | None = None
        self._last_ns = 0

    def status(self) -> Status:
        """The bot now."""
        bare = self._bare()
        self._last_ns = time.monotonic_ns()
        self._last = replace(bare, trouble=conditions(bare), watch=self.watch.view())
        return self._last

    def recent(self) -> Status:
        """The last picture if it is hardly old, made for whomever: a picture costs the trading loop time."""
        if self._last is None or time.monotonic_ns() - self._last_ns >= RECENT_NS:
            return self.status()
        return self._last

    def _bare(self) -> Status:
        parts, state = self._parts, self._bot.state
        view, pnl = parts.standing.risk_view(), parts.standing.pnl()
        notionals_x18 = [
            mul_x18(view.positions_x18[p.product_id], view.marks_x18.get(p.product_id, 0))
            for p in parts.plan.products
        ]
        gross_x18 = sum(abs(n) for n in notionals_x18)
        ours, read = self._ours(), _Read.of(parts)
        return Status(
            at_s=time.time(),
            pid=os.getpid(),
            venue=self._venue,
            account=parts.gateway.subaccount,
            phase=state.phase.value,
            phase_s=max(0, time.monotonic_ns() - state.since_ns) / NS_PER_S,
            direction=state.direction.value,
            cycle=state.cycle,
            cycles_done=state.done,
            cycles_wanted=parts.plan.cycles,
            stop=parts.stop.words,
            halt=parts.gate.halt_reason or "",
            not_ready=parts.guard.not_ready(),
            net_delta_pct=100 * sum(notionals_x18) / gross_x18 if gross_x18 else 0.0,
            legs=tuple(
                self._leg(p, n, ours) for p, n in zip(parts.plan.products, notionals_x18, strict=True)
            ),
            links=self._links(),
            is_rest_only=not parts.feed.has_websocket,
            modes={"market": parts.feed.mode.value, "account": parts.feed.account_mode.value},
            latencies=self._latencies(read),
            limits=self._limits(gross_x18, max(map(abs, notionals_x18)), view.day_pnl_x18),
            pnl=PnlView(
                price_usd=_usd(pnl.gross_x18),
                fees_usd=_usd(pnl.fees_x18),
                funding_usd=_usd(-pnl.funding_x18),
                net_usd=_usd(pnl.net_x18),
                day_usd=_usd(view.day_pnl_x18),
                volume_usd=_usd(pnl.volume_x18),
            ),
            counters=self._counters(read),
            uptime=read.health["uptime"],
            clock_offset_ms=self._timesync.offset_ms if self._timesync.is_known else None,
            clock_uncertainty_ms=self._timesync.uncertainty_ms if self._timesync.is_known else None,
            events=tuple(parts.log.recent),
            blind_s=parts.guard.blind_ns(time.monotonic_ns()) / NS_PER_S,
            lost=self._lost(),
        )

    def _lost(self) -> dict[str, str]:
        """Records that are not whole, and why."""
        parts = self._parts
        found = {
            "trades": parts.csv.failure, "event lines": parts.log.failure,
            "day's result": parts.standing.failure, "inputs": parts.inputs.failure,
        }  # fmt: skip
        return {what: why for what, why in found.items() if why}

    def _leg(self, product: Product, notional_x18: int, ours: Ours) -> LegView:
        parts, product_id = self._parts, product.product_id
        book, quote, bbo = (
            parts.feed.book(product_id),
            parts.market.quote(product_id),
            parts.feed.bbo(product_id),
        )
        return LegView(
            symbol=product.symbol,
            position=show(parts.ledger.position_x18(product_id)),
            notional_usd=_usd(notional_x18),
            bids=_levels(product_id, book.bids(BOOK_LEVELS), ours),
            asks=_levels(product_id, book.asks(BOOK_LEVELS), ours),
            book="valid" if book.is_valid else book.invalid_reason or "not valid",
            source=bbo.source,
            age_ms=float(quote.age_ms) if bbo.is_set else None,
            spread_bps=float(quote.spread_bps),
        )

    def _ours(self) -> Ours:
        resting: dict[tuple[int, int], int] = {}
        for order in self._bot.open_orders():
            key = (order.intent.product_id, order.intent.price_x18)
            filled_x18 = 0 if order.tracked is None else order.tracked.known_filled_x18
            resting[key] = resting.get(key, 0) + abs(order.intent.amount_x18) - filled_x18
        return resting

    def _links(self) -> tuple[LinkView, ...]:
        parts = self._parts
        if not parts.feed.has_websocket:
            return (LinkView("WebSocket", "OFF", None),)
        streams = [
            LinkView(f"stream {link.index}", link.state.upper(), link.data_age_ms)
            for link in parts.feed.pool.get_pool_stats().links
        ]
        orders = parts.gateway.link
        age_ms = (time.monotonic_ns() - orders.last_frame_ns) / NS_PER_MS if orders.last_frame_ns else None
        return (*streams, LinkView("orders", orders.get_connection_state().value.upper(), age_ms))

    def _latencies(self, read: _Read) -> dict[str, dict[str, float]]:
        core = read.feed["core"]["latency"]
        found = {
            "best price, wire to handler": _summary_ms(core["best_bid_offer"]),
            "book, wire to applied": _summary_ms(core["book_depth"]),
            "callback": _summary_ms(core["callback"]),
            "order round trip": _summary_ms(read.gateway["round_trip"]),
            "loop lag": _summary_ms(self.lag.summary()),
        }
        found["websocket round trip"] = dict(read.health["websocket_latency"])
        found["REST round trip"] = dict(read.health["rest_latency"])
        return {kind: values for kind, values in found.items() if values}

    def _limits(self, gross_x18: int, leg_x18: int, day_pnl_x18: int) -> tuple[LimitView, ...]:
        limits, limiter = self._parts.gate.limits, self._parts.guard.limiter
        most = float(limiter.limit("execute"))
        used = most - limiter.left("execute", urgent=True)
        return (
            LimitView("daily loss", max(0.0, -_usd(day_pnl_x18)), _usd(limits.daily_loss_x18), "USD"),
            LimitView("leg", _usd(leg_x18), _usd(limits.max_leg_x18), "USD"),
            LimitView("gross", _usd(gross_x18), _usd(limits.max_gross_x18), "USD"),
            LimitView("order weight", used, most, ""),
        )

    def _counters(self, read: _Read) -> dict[str, float]:
        parts, feed, core, health = self._parts, read.feed, read.feed["core"], read.health
        counters: dict[str, Any] = {
            "messages": core["messages"], "parse_errors": core["parse_errors"], "book_gaps": core["gaps"],
            "unknown_kinds": core["unknown_kinds"], "unknown_fields": core["unknown_fields"],
            "snapshots": feed["snapshots"], "resyncs": feed["resyncs"], "link_losses": feed["losses"],
            "failovers": health["failover_count"], "failures": health["failure_count"],
            "slow_callbacks": feed["slow_callbacks"], "orders_approved": parts.gate.approved,
            "orders_refused": parts.gate.refused, "lost_replies": read.gateway.get("lost_replies", 0),
            "rate_errors": parts.guard.limiter.rate_errors, "fills_told_twice": parts.ledger.duplicates,
            "positions_taken_over": parts.ledger.taken_over.count, "alerts": self._alerts.raised,
            "lines_dropped": parts.log.dropped, "fills": parts.ledger.fills,
        }  # fmt: skip
        return {name: float(value) for name, value in counters.items()}


def _usd(value_x18: int) -> float:
    return value_x18 / X18


def _summary_ms(summary: Mapping[str, int]) -> dict[str, float]:
    return {q: summary[f"{q}_ns"] / NS_PER_MS for q in QUANTILES} if summary["count"] else {}


def _levels(product_id: int, levels: list[tuple[int, int]], ours: Ours) -> tuple[LevelView, ...]:
    return tuple(
        LevelView(show(price), show(qty), show(ours[key]) if (key := (product_id, price)) in ours else "0")
        for price, qty in levels
    )
