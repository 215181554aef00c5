"""Named markets, frozen: what differs between a calm and a jumpy day.

A regime is part of the contract of a seed: a change of any figure changes the fills of every script that was
written against it, so it needs a line in the changelog.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Style:
    """How one maker quotes.

    levels: per side. half_spread, noise: in gaps. touch_notional: quote units at the best level.
    inventory_limit: quote units at which the maker leans by one whole half spread against its position.
    """

    levels: int
    half_spread: float
    noise: float
    touch_notional: float
    inventory_limit: float = 60_000.0


@dataclass(frozen=True, slots=True)
class Regime:
    """One kind of day. Intensities are per second and product at activity 1.

    volatility: multiple of each product's usual one. sway_bps: short-lived wander around the value.
    jumps_per_hour, jump_bps: sudden common moves, their mean number and standard deviation.
    pull_per_jump: makers stand aside this many seconds after one.
    taker_notional: median. taker_chain: mean length of a burst minus one. wake_budget: orders per wake.
    events_per_s, events_growth: measured BBO and trade messages per second at activity 1, and the power by
    which they grow with it. depth_per_s: depth batches per second, were they not capped.
    """

    name: str
    makers: tuple[Style, ...]
    volatility: float
    sway_bps: float
    jumps_per_hour: float
    jump_bps: float
    pull_per_jump_s: float
    clusters_per_s: float
    wakes_per_s: float
    wake_budget: int
    taker_notional: float
    taker_chain: float
    events_per_s: float
    events_growth: float
    depth_per_s: float


LIVELY: Final = Regime(
    name="lively",
    makers=(
        Style(levels=10, half_spread=0.55, noise=0.25, touch_notional=1_500.0),
        Style(levels=14, half_spread=0.7, noise=0.25, touch_notional=2_000.0),
        Style(levels=44, half_spread=1.0, noise=0.15, touch_notional=2_500.0),
        Style(levels=112, half_spread=1.5, noise=0.10, touch_notional=4_000.0),
    ),
    volatility=1.0,
    sway_bps=1.2,
    jumps_per_hour=0.0,
    jump_bps=0.0,
    pull_per_jump_s=0.0,
    clusters_per_s=6.0,
    wakes_per_s=22.0,
    wake_budget=4,
    taker_notional=1_200.0,
    taker_chain=1.43,
    events_per_s=161.0,
    events_growth=0.94,
    depth_per_s=96.0,
)
CALM: Final = Regime(
    name="calm",
    makers=(
        Style(levels=12, half_spread=0.55, noise=0.12, touch_notional=3_000.0),
        Style(levels=20, half_spread=0.7, noise=0.12, touch_notional=5_000.0),
        Style(levels=50, half_spread=1.0, noise=0.08, touch_notional=6_000.0),
        Style(levels=116, half_spread=1.5, noise=0.05, touch_notional=9_000.0),
    ),
    volatility=0.4,
    sway_bps=0.5,
    jumps_per_hour=0.0,
    jump_bps=0.0,
    pull_per_jump_s=0.0,
    clusters_per_s=2.5,
    wakes_per_s=26.0,
    wake_budget=3,
    taker_notional=800.0,
    taker_chain=0.8,
    events_per_s=85.0,
    events_growth=0.9,
    depth_per_s=95.0,
)
THIN: Final = Regime(
    name="thin",
    makers=(
        Style(levels=8, half_spread=1.4, noise=0.5, touch_notional=250.0, inventory_limit=8_000.0),
        Style(levels=24, half_spread=2.2, noise=0.4, touch_notional=400.0, inventory_limit=10_000.0),
        Style(levels=110, half_spread=3.5, noise=0.3, touch_notional=500.0, inventory_limit=15_000.0),
    ),
    volatility=1.2,
    sway_bps=1.8,
    jumps_per_hour=0.0,
    jump_bps=0.0,
    pull_per_jump_s=0.0,
    clusters_per_s=3.0,
    wakes_per_s=18.0,
    wake_budget=4,
    taker_notional=500.0,
    taker_chain=1.0,
    events_per_s=98.0,
    events_growth=0.9,
    depth_per_s=66.0,
)
JUMPY: Final = Regime(
    name="jumpy",
    makers=(
        Style(levels=10, half_spread=0.9, noise=0.4, touch_notional=1_000.0, inventory_limit=25_000.0),
        Style(levels=16, half_spread=1.2, noise=0.4, touch_notional=1_500.0, inventory_limit=30_000.0),
        Style(levels=44, half_spread=1.8, noise=0.25, touch_notional=2_000.0, inventory_limit=40_000.0),
        Style(levels=170, half_spread=2.5, noise=0.2, touch_notional=3_000.0),
    ),
    volatility=2.5,
    sway_bps=2.0,
    jumps_per_hour=120.0,
    jump_bps=12.0,
    pull_per_jump_s=0.4,
    clusters_per_s=8.0,
    wakes_per_s=22.0,
    wake_budget=5,
    taker_notional=1_800.0,
    taker_chain=2.2,
    events_per_s=238.0,
    events_growth=1.0,
    depth_per_s=120.0,
)

REGIMES: Final[Mapping[str, Regime]] = {regime.name: regime for regime in (CALM, LIVELY, THIN, JUMPY)}
DEFAULT_REGIME: Final = LIVELY.name
