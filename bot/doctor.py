"""`doctor`: is everything as it must be before money is at stake? Lines of green and red, and an exit code.

Each check asks the exchange or computes from its answers; none orders anything. A check that cannot be made
is red: what is not known is not fine.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Final

from rich import box
from rich.table import Table
from rich.text import Text

from nadofast.appendix import OrderType, pack_appendix, unpack_appendix
from nadofast.errors import NadoError
from nadofast.products import Product, mul_x18
from nadofast.ratelimit import NadoRateLimiter
from nadofast.rest import Rest
from nadofast.signing import Signer
from nadofast.timesync import TimeSync

from . import preflight
from .config import Settings
from .credentials import Credentials
from .exchange_process import ExchangeStartError
from .expected import mismatches
from .metrics import expected_cost_x18
from .planning import sizing_of
from .sizing import LegQuote, NoSize, PairSize, size_pair, smallest_budget_x18
from .units import bps_of, show, show_usd
from .venue import choose

ROUND_TRIPS: Final = 5
MAX_CLOCK_MS: Final = 250.0
MAX_GAP_BPS: Final = 100
SLOW_MS: Final = 250.0


class Mark(StrEnum):
    OK = "ok"
    LOOK = "look"
    BAD = "bad"


TWO_SIDES_S: Final = 2.0
TWO_SIDES_PAUSE_S: Final = 0.2
STYLES: Final = {Mark.OK: "bold green", Mark.LOOK: "bold yellow", Mark.BAD: "bold red"}
REST_TIMEOUT_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One line. advice: what to do about it; empty when nothing."""

    name: str
    mark: Mark
    text: str
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Patient:
    """What is examined."""

    settings: Settings
    rest: Rest
    signer: Signer
    subaccount: str
    limiter: NadoRateLimiter
    timesync: TimeSync
    products: tuple[Product, Product]


def ok(name: str, text: str) -> Finding:
    return Finding(name, Mark.OK, text)


def look(name: str, text: str, advice: str) -> Finding:
    return Finding(name, Mark.LOOK, text, advice)


def bad(name: str, text: str, advice: str) -> Finding:
    return Finding(name, Mark.BAD, text, advice)


async def visit(settings: Settings, credentials: Credentials) -> list[Finding]:
    """Reach the exchange of these settings (the embedded one is started for it) and examine. One red line
    if it cannot be reached. Raises SettingsError."""
    seed = settings.exchange.seed or 1
    venue = choose(settings, seed=seed, key=credentials.key, only_looks=True)
    limiter = NadoRateLimiter()
    try:
        ready = await venue.exchange.start()
        signer = preflight.choose_signer(ready, venue.key, credentials.owner_address)
        subaccount = signer.subaccount(settings.account.subaccount)
        async with Rest(ready.network, timeout_s=REST_TIMEOUT_S, limiter=limiter) as rest:
            products = await preflight.listed_pair(rest, settings)
            patient = Patient(settings, rest, signer, subaccount, limiter, TimeSync(), products)
            return [ok("key", credentials.source), *await examine(patient)]
    except (NadoError, ExchangeStartError, preflight.StartError) as error:
        return [bad("exchange", f"cannot be used: {error}", "see whether it runs and can be reached")]
    finally:
        await venue.exchange.stop()


def table(found: Sequence[Finding]) -> Table:
    """For a terminal: green, yellow, red."""
    drawn = Table(box=box.SIMPLE, show_header=False, pad_edge=False)
    for name in ("mark", "name", "text"):
        drawn.add_column(name, no_wrap=name != "text")
    for finding in found:
        text = Text(finding.text)
        if finding.advice:
            text.append(f"\n{finding.advice}", "dim")
        drawn.add_row(Text(finding.mark.value, STYLES[finding.mark]), Text(finding.name), text)
    return drawn


async def examine(patient: Patient) -> list[Finding]:
    """Every check, in the order a trader would ask."""
    checks: tuple[tuple[str, Callable[[Patient], Awaitable[list[Finding]]]], ...] = (
        ("network", _network),
        ("clock", _clock),
        ("signer", _signer),
        ("account", _account),
        ("products", _products),
        ("size", _size),
        ("budget", _budget),
        ("maintenance", _maintenance),
        ("round trip", _round_trip),
        ("builder fee", _builder_fee),
    )
    found: list[Finding] = []
    for name, check in checks:
        try:
            found += await check(patient)
        except NadoError as error:
            found.append(bad(name, f"could not be checked: {error}", "see whether the exchange answers"))
    return found


async def _network(patient: Patient) -> list[Finding]:
    ours, theirs = patient.rest.network, await patient.rest.contracts()
    if (theirs.chain_id, theirs.endpoint_address) != (ours.chain_id, ours.endpoint_address):
        text = f"we sign for chain {ours.chain_id}, the exchange verifies chain {theirs.chain_id}"
        return [bad("network", text, "check venue and endpoints: such orders are worthless there")]
    status = await patient.rest.status()
    found = [ok("network", f"{ours.name}, chain id {ours.chain_id}, contract {ours.endpoint_address}")]
    if status != "active":
        found.append(bad("status", f"the exchange is {status!r}", "wait until it is active"))
    else:
        found.append(ok("status", "active"))
    return found


async def _clock(patient: Patient) -> list[Finding]:
    await patient.rest.sync_time(patient.timesync, ROUND_TRIPS)
    offset, doubt = patient.timesync.offset_ms, patient.timesync.uncertainty_ms
    text = f"exchange {offset:+.1f} ms ± {doubt:.1f} ms from ours"
    if doubt > MAX_CLOCK_MS:
        return [
            bad("clock", text, "the path is too slow to know the exchange's time: orders would be refused")
        ]
    if abs(offset) > MAX_CLOCK_MS:
        return [look("clock", text, "orders are corrected for it, but run a time service on this machine")]
    return [ok("clock", text)]


async def _signer(patient: Patient) -> list[Finding]:
    signer = patient.signer
    if signer.owner_address == signer.address:
        advice = "a linked signer can be revoked and cannot withdraw: recommended on real networks"
        found = look("signer", f"the wallet's own key, {signer.address}", advice)
        return [found if patient.settings.venue != "sim" else ok("signer", found.text)]
    linked = await patient.rest.linked_signer(patient.subaccount)
    if linked.lower() != signer.address.lower():
        text = f"{signer.address} is not the linked signer of {signer.owner_address} ({linked})"
        return [bad("signer", text, "link it in the exchange's own interface, or use the right key")]
    return [ok("signer", f"linked signer {signer.address} for {signer.owner_address}")]


async def _account(patient: Patient) -> list[Finding]:
    info = await patient.rest.subaccount_info(patient.subaccount)
    if not info.exists:
        return [bad("account", f"{patient.subaccount} does not exist", "deposit first")]
    found = [
        ok("account", f"equity {show_usd(info.equity_x18, 2)} USD, quote {show_usd(info.quote_x18, 2)} USD")
    ]
    need_x18 = _margin_need_x18(patient)
    free_x18 = info.healths_x18[0]
    text = f"free {show_usd(free_x18, 2)} USD, both legs need about {show_usd(need_x18, 2)} USD"
    if free_x18 < need_x18:
        found.append(bad("margin", text, "deposit more or trade smaller"))
    else:
        found.append(ok("margin", text))
    isolated = await patient.rest.isolated_positions(patient.subaccount)
    for product in patient.products:
        held = info.position_x18(product.product_id) + sum(
            p.amount_x18 for p in isolated if p.product_id == product.product_id
        )
        if held:
            found.append(
                look("position", f"{show(held, signed=True)} {product.symbol} is open", "see `flatten`")
            )
    return found


def _margin_need_x18(patient: Patient) -> int:
    size_x18 = int(patient.settings.pair.size_usd * 10**18)
    return sum(mul_x18(size_x18, 10**18 - p.long_weight_initial_x18) for p in patient.products)


async def _products(patient: Patient) -> list[Finding]:
    found = [
        ok(
            "product",
            f"{p.symbol} id {p.product_id}, tick {show(p.price_increment_x18)},"
            f" step {show(p.size_increment_x18)}, minimum {show_usd(p.min_size_x18, 0)} USD,"
            f" fees maker {bps_of(p.maker_fee_rate_x18, 10**18):.2f},"
            f" taker {bps_of(p.taker_fee_rate_x18, 10**18):.2f} bps",
        )
        for p in patient.products
    ]
    found += [
        bad("open", text, "no pair is opened on it; what is open may be closed")
        for text in preflight.not_open(patient.products)
    ]
    wrong = mismatches(patient.products, patient.settings.expect)
    return found + [bad("expected", text, "correct [expect], or find out why") for text in wrong]


async def _touches(patient: Patient) -> list[tuple[int, int]] | None:
    """Bid and ask of both legs; asked again for a while, because a side may be empty for a moment."""
    deadline = time.monotonic() + TWO_SIDES_S
    while True:
        prices = [await patient.rest.market_price(p.product_id) for p in patient.products]
        touches = [(p.bid_x18 or 0, p.ask_x18 or 0) for p in prices]
        if all(0 < bid < ask for bid, ask in touches):
            return touches
        if time.monotonic() >= deadline:
            return None
        await asyncio.sleep(TWO_SIDES_PAUSE_S)


async def _size(patient: Patient) -> list[Finding]:
    settings = patient.settings
    rules = sizing_of(settings, settings.pair.size_usd)
    touches = await _touches(patient)
    if touches is None:
        return [bad("size", "a product has no two-sided market now", "wait for one")]
    mids = [(bid + ask) // 2 for bid, ask in touches]
    legs = (LegQuote(patient.products[0], mids[0]), LegQuote(patient.products[1], mids[1]))
    size = size_pair(legs, rules)
    if isinstance(size, NoSize):
        least = show_usd(smallest_budget_x18(legs, rules), 2)
        return [bad("size", size.reason, f"pair.size_usd of at least {least}")]
    found = [_gap(patient, size)]
    spreads = [bps_of(ask - bid, mid) for (bid, ask), mid in zip(touches, mids, strict=True)]
    found.append(_break_even(patient, size, (spreads[0], spreads[1])))
    return found


def _gap(patient: Patient, size: PairSize) -> Finding:
    legs = ", ".join(
        f"{show(s)} {p.symbol} ({show_usd(n, 2)} USD)"
        for p, s, n in zip(patient.products, size.sizes_x18, size.notionals_x18, strict=True)
    )
    gap_bps = bps_of(size.gap_x18, sum(size.notionals_x18))
    text = f"{legs}; residual delta {gap_bps / 100:.3f} % of gross"
    if gap_bps > MAX_GAP_BPS:
        return look("size", text, "a larger pair.size_usd leaves a smaller gap")
    return ok("size", text)


def _break_even(patient: Patient, size: PairSize, spreads: tuple[Decimal, Decimal]) -> Finding:
    """What a cycle costs, and how far one leg has to move against the other to pay for it."""
    taker = (patient.products[0].taker_fee_rate_x18, patient.products[1].taker_fee_rate_x18)
    maker = (patient.products[0].maker_fee_rate_x18, patient.products[1].maker_fee_rate_x18)
    # A taker order pays the fee of at least the minimum notional.
    paid = tuple(max(n, p.min_size_x18) for n, p in zip(size.notionals_x18, patient.products, strict=True))
    best, worst = expected_cost_x18((paid[0], paid[1]), taker, maker, spreads)
    leg_x18 = max(size.notionals_x18)
    text = (
        f"a cycle costs {show_usd(best)} USD (exits as maker) to {show_usd(worst)} USD (as taker):"
        f" break-even move {bps_of(best, leg_x18):.2f} to {bps_of(worst, leg_x18):.2f} bps of a leg"
    )
    floor = [
        p.symbol for p, n in zip(patient.products, size.notionals_x18, strict=True) if n < p.min_size_x18
    ]
    if floor:
        return look("cost", text, f"below the fee floor on {', '.join(floor)}: a larger size costs the same")
    return ok("cost", text)


async def _budget(patient: Patient) -> list[Finding]:
    left, urgent = patient.limiter.left("execute"), patient.limiter.left("execute", urgent=True)
    text = f"order weight free now {left}, {urgent} with the reserve for cancels and unwinds"
    return [ok("budget", text)]


def next_maintenance(now: datetime) -> datetime:
    """The exchange's fixed windows: Mondays and Thursdays 14:00 UTC (limits section of the API)."""
    day = now.replace(hour=14, minute=0, second=0, microsecond=0)
    for ahead in range(8):
        candidate = day + timedelta(days=ahead)
        if candidate.weekday() in (0, 3) and candidate + timedelta(minutes=15) > now:
            return candidate
    raise AssertionError("a week has a Monday")


async def _maintenance(patient: Patient) -> list[Finding]:
    now = datetime.now(UTC)
    begins = next_maintenance(now)
    minutes = (begins - now).total_seconds() / 60
    text = f"next window {begins:%A %H:%M} UTC"
    if minutes < 30:
        return [look("maintenance", f"{text}, in {max(0, minutes):.0f} min", "no new pair is opened near it")]
    return [ok("maintenance", text)]


async def _round_trip(patient: Patient) -> list[Finding]:
    times = []
    for _ in range(ROUND_TRIPS):
        began = time.monotonic_ns()
        await patient.rest.server_time_ms()
        times.append((time.monotonic_ns() - began) / 1e6)
    times.sort()
    text = f"REST {times[len(times) // 2]:.1f} ms median, {times[-1]:.1f} ms worst of {ROUND_TRIPS}"
    if times[len(times) // 2] > SLOW_MS:
        return [look("round trip", text, "a leg deadline needs several of these: run nearer to the exchange")]
    return [ok("round trip", text)]


async def _builder_fee(patient: Patient) -> list[Finding]:
    sent = [unpack_appendix(pack_appendix(kind)) for kind in OrderType]
    if any(appendix.builder_id or appendix.builder_fee_raw for appendix in sent):
        return [bad("builder fee", "orders carry one", "do not trade with this build")]
    return [ok("builder fee", "none: nobody earns on our orders but the exchange")]
