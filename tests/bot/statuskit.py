"""A status as a bot in mid-trade would give it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from bot.status import LegView, LevelView, LimitView, LinkView, PnlView, Status

LEGS = (
    LegView(
        "ETH-PERP", "0.049", 149.94,
        (LevelView("3059.9", "1.2"), LevelView("3059.8", "0.4")),
        (LevelView("3060.1", "0.8", "0.049"), LevelView("3060.2", "2")),
        "valid", "stream", 12.5, 0.65,
    ),
    LegView("SOL-PERP", "-1.3", -149.6, (LevelView("115.06", "40"),), (), "gap", "rest", None, 0.0),
)  # fmt: skip


def sample(**changes: Any) -> Status:
    status = Status(
        at_s=1_790_000_000.0, pid=4242, venue="sim", account="0x" + "ab" * 32, phase="HEDGED", phase_s=1.25,
        direction="BUY_FIRST", cycle=3, cycles_done=2, cycles_wanted=10, stop="", halt="", not_ready="",
        net_delta_pct=0.11, legs=LEGS,
        links=(LinkView("stream 0", "LIVE", 3.0), LinkView("orders", "BACKOFF", None)),
        modes={"market": "websocket", "account": "rest"},
        latencies={"depth wire to book": {"p50": 0.004, "p95": 0.01, "p99": 0.02}, "order round trip": {}},
        limits=(LimitView("daily loss", 1.5, 10.0, "USD"), LimitView("gross", 299.5, 300.0, "USD")),
        pnl=PnlView(-0.2, 0.3, 0.01, -0.49, -0.49, 1200.0),
        counters={"orders_sent": 12.0, "gaps": 1.0}, uptime=0.9995,
        clock_offset_ms=1.5, clock_uncertainty_ms=0.4, events=("12:00:00 BUILD", "12:00:01 hedged [x]"),
    )  # fmt: skip
    return replace(status, **changes)
