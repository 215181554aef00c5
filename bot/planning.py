"""What the settings mean for a run: its limits and its plan, in the units of the core."""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from nadofast.products import Product, to_x18

from .config import Settings
from .maintenance import MaintenanceWindows
from .model import EntryMode, Plan
from .preflight import StartError
from .risk import RiskLimits
from .sizing import SizingRules
from .units import NS_PER_MS, NS_PER_S, show_usd

NEVER_NS: Final = 1 << 62


def limits_of(
    settings: Settings, products: tuple[Product, Product], equity_x18: int, *, only_exits: bool = False
) -> RiskLimits:
    """Raises StartError when the account has nothing to lose; only_exits: any loss is too much then."""
    risk = settings.risk
    if risk.daily_loss_usd is not None:
        loss_x18 = to_x18(risk.daily_loss_usd)
    else:
        loss_x18 = equity_x18 * int(risk.daily_loss_pct * 10_000) // 1_000_000
    if loss_x18 <= 0 and only_exits:
        loss_x18 = 1
    if loss_x18 <= 0:
        raise StartError(f"the account has {show_usd(equity_x18, 2)} USD of equity: nothing to trade with")
    coins = zip(products, (risk.max_first_coins, risk.max_second_coins), strict=True)
    has_windows = risk.maintenance == "on" or (risk.maintenance == "auto" and settings.venue != "sim")
    return RiskLimits(
        max_leg_x18=to_x18(settings.max_leg_usd),
        max_gross_x18=to_x18(settings.max_gross_usd),
        daily_loss_x18=loss_x18,
        max_quote_age_ms=int(risk.max_quote_age_s * 1000),
        max_coins_x18={p.product_id: to_x18(most) for p, most in coins if most is not None},
        max_entry_delta_bps=int(risk.max_entry_delta_pct * 100),
        warn_delta_bps=int(risk.warn_net_delta_pct * 100),
        max_orders_per_min=risk.max_orders_per_min,
        max_builds_per_min=risk.max_builds_per_min,
        max_clock_offset_ms=risk.max_clock_offset_s * 1000,
        max_residual_x18=to_x18(risk.max_residual_usd),
        windows=MaintenanceWindows(margin_s=risk.maintenance_margin_s) if has_windows else None,
    )


def plan_of(settings: Settings, products: tuple[Product, Product], *, is_embedded: bool) -> Plan:
    """A live exchange is never abandoned for its silence; an embedded one that is silent has died."""
    entry, exit_, run_ = settings.entry, settings.exit, settings.run
    return Plan(
        products=products,
        sizing=sizing_of(settings, settings.pair.size_usd),
        cycles=run_.cycles,
        ladder=tuple(sizing_of(settings, size) for size in settings.rollout.ladder_usd),
        ladder_cycles=settings.rollout.ladder_cycles,
        hold_ns=int(run_.hold_s * NS_PER_S),
        max_skips=run_.max_skips,
        ready_timeout_ns=int(run_.ready_timeout_s * NS_PER_S),
        entry_cap_bps=entry.cap_bps,
        entry_mode=EntryMode(entry.mode),
        maker_entry_ms=int(entry.maker_timeout_s * 1000),
        maker_leg_ns=entry.maker_leg_ms * NS_PER_MS,
        maker_leg_x18=to_x18(entry.maker_leg_usd),
        max_residual_x18=to_x18(settings.risk.max_residual_usd),
        max_slippage_bps=entry.max_slippage_bps,
        max_fee_bps=entry.max_fee_bps,
        entry_attempts=entry.attempts,
        hedge_attempts=entry.hedge_attempts,
        leg_deadline_ns=int(entry.leg_deadline_s * NS_PER_S),
        maker_timeout_ms=int(exit_.maker_timeout_s * 1000),
        reprice_ns=exit_.reprice_ms * NS_PER_MS,
        moves_in_one_step=exit_.move_in_one_step,
        exit_cap_bps=exit_.cap_bps,
        exit_deadline_ns=int(exit_.deadline_s * NS_PER_S),
        max_net_delta_bps=int(settings.risk.max_net_delta_pct * 100),
        max_blind_ns=int(settings.risk.max_blind_s * NS_PER_S) if is_embedded else NEVER_NS,
    )


def sizing_of(settings: Settings, size_usd: Decimal) -> SizingRules:
    """How large a leg may be for this budget, and how even the pair has to be."""
    entry = settings.entry
    return SizingRules(to_x18(size_usd), entry.cap_bps, entry.headroom_bps, settings.pair.gap_bps)
