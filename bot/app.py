"""The composition root: builds everything, in this order, and takes it down in the reverse order.

    exchange child → REST: identity, products, account → clock → feed → gateway → gate, clients → pair

Nothing trades before the exchange has proved to be the one it says it is, both books are valid, the account
stream is live, the clock offset is known and the account is flat.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, TypeVar

from nadofast.errors import NadoError
from nadofast.events import FillEvent
from nadofast.feed import Feed
from nadofast.gateway import OrderGateway
from nadofast.orders import OrderTracker
from nadofast.products import Product, to_x18
from nadofast.ratelimit import NadoRateLimiter
from nadofast.rest import Rest
from nadofast.secret import Secret
from nadofast.signing import Signer
from nadofast.timesync import TimeSync

from . import report
from .client import NadoClient
from .config import Settings, SettingsError
from .desk import DeskOrder, OrderDesk
from .exchange_process import ExchangeProcess, ExchangeStartError, Ready, command_line
from .guard import Guard
from .ledger import Ledger
from .logs import EventLog, Output
from .market import Market
from .metrics import TradesCsv
from .model import End, ExitCode, Plan
from .pair import DNPairBot, PairParts
from .reconcile import Reconciler
from .recorder import CycleRecorder
from .risk import RiskGate, RiskLimits
from .shutdown import StopRequest
from .sizing import LegQuote, NoSize, SizingRules, size_pair
from .standing import Standing
from .units import NS_PER_MS, NS_PER_S, show_usd

T = TypeVar("T")
CLOSE_TIMEOUT_S: Final = 3.0
ACTIVE_TIMEOUT_S: Final = 10.0
POLL_S: Final = 0.05


class StartError(Exception):
    """The bot cannot trade on what it found. One line; nothing was ordered."""


@dataclass(frozen=True, slots=True)
class Job:
    """What one run was asked to do."""

    settings: Settings
    seed: int
    key: Secret | None


@dataclass(frozen=True, slots=True)
class Session:
    """A connected, ready and flat bot."""

    bot: DNPairBot
    parts: PairParts
    limits: RiskLimits
    cash_x18: int
    equity_x18: int


async def run(job: Job, output: Output, csv: TradesCsv) -> tuple[ExitCode, str]:
    """One run from start to end. Returns the exit code and, unless it is 0, the reason in one line."""
    log = EventLog(output)
    _report_loop_errors(log)
    with StopRequest() as stop:
        async with AsyncExitStack() as stack:
            exchange = ExchangeProcess(
                command_line(job.settings.exchange, job.seed, _address(job.key)),
                start_timeout_s=job.settings.exchange.start_timeout_s,
                linger_s=job.settings.exchange.linger_s,
            )
            stack.push_async_callback(exchange.stop)
            try:
                session = await _unless_stopped(stop, _start(job, exchange, stop, stack, log, csv))
            except ExchangeStartError as error:
                text = f"the embedded exchange did not start: {error}"
                raise (SettingsError(text) if error.is_usage else StartError(text)) from None
            except NadoError as error:
                raise StartError(exchange.gone_reason or f"start: {error}") from None
            if session is None:
                log.event(f"{stop.by} before trading: nothing was ordered")
                return ExitCode.DONE, ""
            end = await session.bot.run_alternating_strategy(session.cash_x18)
            return _finish(session, end, log, csv)


# ---------------------------------------------------------------------- start


async def _start(
    job: Job,
    exchange: ExchangeProcess,
    stop: StopRequest,
    stack: AsyncExitStack,
    log: EventLog,
    csv: TradesCsv,
) -> Session:
    ready = await exchange.start()
    log.event(f"exchange  pid {exchange.pid}, seed {job.seed}, control {ready.control}")
    signer, subaccount = _account(ready, job.key)
    limiter = NadoRateLimiter()
    rest = await stack.enter_async_context(Rest(ready.network, timeout_s=2.0, limiter=limiter))
    await _prove_identity(rest, ready)
    products = _pair_products(await rest.symbols(), job.settings)
    by_id = {product.product_id: product for product in products}

    timesync, ledger = TimeSync(), Ledger(tuple(by_id))
    feed = Feed(
        ready.network, products=list(by_id), signer=signer, rest=rest, timesync=timesync, limiter=limiter
    )
    gateway = OrderGateway(
        ready.network, signer, products=by_id, timesync=timesync, rest=rest, limiter=limiter
    )
    tracker = gateway.tracker
    market = Market(feed, products)
    guard = Guard(feed, market, rest, timesync, limiter)
    reconciler = Reconciler(rest, gateway, ledger, tracker, subaccount=subaccount, product_ids=tuple(by_id))
    _book_fills(feed, ledger, tracker)
    await guard.measure_clock()
    await _start_and_stop(stack, feed.start, feed.stop)
    await _start_and_stop(stack, gateway.start, gateway.stop)
    if reason := await guard.wait_ready(job.settings.run.ready_timeout_s):
        raise StartError(f"not ready after {job.settings.run.ready_timeout_s:g} s: {reason}")

    info = await reconciler.read()
    await _prove_flat(rest, info.position_x18, subaccount, products)
    limits = _limits(job.settings, info.equity_x18)
    standing = Standing(ledger, market)
    gate = RiskGate(limits, standing.risk_view)
    clients = tuple(
        NadoClient(
            p, market=market, gateway=gateway, gate=gate, timesync=timesync,
            discard_ms=job.settings.entry.discard_ms,
        )
        for p in products
    )  # fmt: skip
    parts = PairParts(
        plan=_plan(job.settings, products),
        feed=feed,
        market=market,
        clients=(clients[0], clients[1]),
        gateway=gateway,
        gate=gate,
        ledger=ledger,
        standing=standing,
        reconciler=reconciler,
        guard=guard,
        recorder=CycleRecorder(products, ledger, market, standing),
        exchange=exchange,
        stop=stop,
        log=log,
        csv=csv,
    )

    def make_desk(on_change: Callable[[DeskOrder], None]) -> OrderDesk:
        return OrderDesk(
            parts.clients, gateway, gate, tracker,
            ask=reconciler.ask, is_stream_live=lambda: feed.account_live, on_change=on_change,
        )  # fmt: skip

    _start_helper(stack, guard.run())
    cash_x18 = (await reconciler.verify(market.marks_x18)).cash_x18
    session = Session(DNPairBot(parts, make_desk), parts, limits, cash_x18, info.equity_x18)
    _announce(session, job, guard, timesync)
    return session


def _account(ready: Ready, key: Secret | None) -> tuple[Signer, str]:
    """Our own key if there is one, else the first account the exchange opened with a key."""
    secret = key or next((a.private_key for a in ready.accounts if a.private_key is not None), None)
    if secret is None:
        raise StartError("the embedded exchange opened no account with a key")
    signer = _signer(secret, ready.network.chain_id, ready.network.endpoint_address)
    subaccount = signer.subaccount()
    if subaccount not in {account.subaccount for account in ready.accounts}:
        raise StartError(f"the embedded exchange did not fund {signer.address}")
    return signer, subaccount


async def _prove_identity(rest: Rest, ready: Ready) -> None:
    """The exchange must answer for the chain and contract we sign for, and be open for trading."""
    said = await rest.contracts()
    if said.chain_id != ready.network.chain_id:
        ours = ready.network.chain_id
        raise StartError(f"chain id mismatch: announced as {ours}, but the exchange verifies {said.chain_id}")
    if said.endpoint_address != ready.network.endpoint_address:
        raise StartError("endpoint contract mismatch: the exchange names another one than it announced")
    deadline = asyncio.get_running_loop().time() + ACTIVE_TIMEOUT_S
    while (status := await rest.status()) != "active":
        if asyncio.get_running_loop().time() >= deadline:
            raise StartError(f"the exchange is not active but {status!r}")
        await asyncio.sleep(POLL_S)


def _pair_products(listed: dict[int, Product], settings: Settings) -> tuple[Product, Product]:
    by_symbol = {product.symbol: product for product in listed.values()}
    found = []
    for key, symbol in (("pair.first", settings.pair.first), ("pair.second", settings.pair.second)):
        product = by_symbol.get(symbol)
        if product is None or not product.is_perp:
            known = ", ".join(sorted(p.symbol for p in listed.values() if p.is_perp))
            raise SettingsError(f"{key}: the exchange has no perpetual {symbol!r}; it has {known}")
        if product.trading_status != "live":
            raise StartError(f"{symbol} is not open for trading: {product.trading_status}")
        found.append(product)
    return found[0], found[1]


async def _prove_flat(
    rest: Rest, position_x18: Callable[[int], int], subaccount: str, products: tuple[Product, Product]
) -> None:
    for product in products:
        if held := position_x18(product.product_id):
            raise StartError(f"the account already holds {held} x18 of {product.symbol}")
        if await rest.subaccount_orders(subaccount, product.product_id):
            raise StartError(f"the account already has orders on {product.symbol}")


def _book_fills(feed: Feed, ledger: Ledger, tracker: OrderTracker) -> None:
    """Fills go to the ledger first: whoever the tracker wakes finds the position up to date."""

    def on_fill(fill: FillEvent) -> None:
        ledger.apply(fill)
        tracker.on_fill(fill)

    feed.on("fill", on_fill)
    feed.on("order_update", tracker.on_order_update)


def _limits(settings: Settings, equity_x18: int) -> RiskLimits:
    if settings.risk.daily_loss_usd is not None:
        loss_x18 = to_x18(settings.risk.daily_loss_usd)
    else:
        loss_x18 = equity_x18 * int(settings.risk.daily_loss_pct * 10_000) // 1_000_000
    return RiskLimits(
        max_leg_x18=to_x18(settings.max_leg_usd),
        max_gross_x18=to_x18(settings.max_gross_usd),
        daily_loss_x18=loss_x18,
        max_quote_age_ms=int(settings.risk.max_quote_age_s * 1000),
    )


def _plan(settings: Settings, products: tuple[Product, Product]) -> Plan:
    entry, exit_, run_ = settings.entry, settings.exit, settings.run
    return Plan(
        products=products,
        sizing=SizingRules(to_x18(settings.pair.size_usd), entry.cap_bps, entry.headroom_bps),
        cycles=run_.cycles,
        hold_ns=int(run_.hold_s * NS_PER_S),
        max_skips=run_.max_skips,
        ready_timeout_ns=int(run_.ready_timeout_s * NS_PER_S),
        entry_cap_bps=entry.cap_bps,
        entry_attempts=entry.attempts,
        hedge_attempts=entry.hedge_attempts,
        leg_deadline_ns=int(entry.leg_deadline_s * NS_PER_S),
        maker_timeout_ms=int(exit_.maker_timeout_s * 1000),
        reprice_ns=exit_.reprice_ms * NS_PER_MS,
        exit_cap_bps=exit_.cap_bps,
        exit_deadline_ns=int(exit_.deadline_s * NS_PER_S),
        max_net_delta_bps=int(settings.risk.max_net_delta_pct * 100),
        max_blind_ns=int(settings.risk.max_blind_s * NS_PER_S),
    )


def _announce(session: Session, job: Job, guard: Guard, timesync: TimeSync) -> None:
    """Limits and the expected cost of a cycle, before any order. SettingsError if no size fits."""
    parts, log = session.parts, session.parts.log
    quotes = [client.quote() for client in parts.clients]
    legs = [LegQuote(p, q.mid_x18) for p, q in zip(parts.plan.products, quotes, strict=True)]
    size = size_pair((legs[0], legs[1]), parts.plan.sizing)
    if isinstance(size, NoSize):
        raise SettingsError(f"pair.size_usd: {size.reason}")
    spreads: tuple[Decimal, Decimal] = (quotes[0].spread_bps, quotes[1].spread_bps)
    log.event(
        f"ready     books valid, account stream live, clock ±{timesync.uncertainty_ms:.1f} ms,"
        f" REST {guard.round_trip_ms:.1f} ms, flat"
    )
    log.block(
        [
            *report.limits_lines(job.settings, session.limits, session.equity_x18),
            *report.cost_lines(parts.plan.products, size, spreads),
        ]
    )


# ---------------------------------------------------------------------- end


def _finish(session: Session, end: End, log: EventLog, csv: TradesCsv) -> tuple[ExitCode, str]:
    """The summary, and the exposure by name if there is one."""
    parts, exposure = session.parts, session.bot.last_exposure
    pnl = parts.standing.pnl()
    extras = [f"trades CSV: {csv.path}"]
    if session.bot.cash_x18 is not None and parts.ledger.is_flat:
        change_x18 = session.bot.cash_x18 - session.cash_x18
        difference_x18 = change_x18 - pnl.net_x18
        verdict = f"off by {difference_x18} x18" if difference_x18 else "equal to the ledger to the last unit"
        extras.insert(0, f"exchange balance {show_usd(change_x18, signed=True)} USD: {verdict}")
    log.context = ""
    log.block(report.summary_lines(parts.recorder.finished, end, pnl, exposure, session.limits, extras))
    if end.code is ExitCode.DONE:
        return end.code, ""
    return end.code, f"{end.reason}; {'flat' if exposure == 'none' else f'exposure: {exposure}'}"


# ---------------------------------------------------------------------- helpers


def _signer(key: Secret, chain_id: int, endpoint_address: str) -> Signer:
    return Signer(key, chain_id=chain_id, endpoint_address=endpoint_address)


def _address(key: Secret | None) -> str | None:
    """The wallet of a key; the domain does not matter for that."""
    return None if key is None else _signer(key, 1, "0x" + "00" * 20).address


async def _unless_stopped(stop: StopRequest, work: Coroutine[Any, Any, T]) -> T | None:
    """The result of `work`, or None if a person asked to stop first."""
    task = asyncio.ensure_future(work)
    asked = asyncio.ensure_future(stop.asked.wait())
    try:
        await asyncio.wait({task, asked}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        return None
    finally:
        for pending in (task, asked):
            pending.cancel()
        await asyncio.gather(task, asked, return_exceptions=True)


async def _start_and_stop(
    stack: AsyncExitStack, start: Callable[[], Awaitable[object]], stop: Callable[[], Awaitable[object]]
) -> None:
    """Start a part and see to it that it is stopped, within a deadline, when the run ends."""

    async def bounded_stop() -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await stop()

    stack.push_async_callback(bounded_stop)
    await start()


def _start_helper(stack: AsyncExitStack, work: Coroutine[Any, Any, None]) -> None:
    task = asyncio.ensure_future(work)

    async def end() -> None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    stack.push_async_callback(end)


def _report_loop_errors(log: EventLog) -> None:
    """What a callback of the loop raised is one line, never a traceback on the terminal."""

    def handler(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        detail = f": {type(error).__name__}: {error}" if error is not None else ""
        log.event(f"warning: {context.get('message', 'loop error')}{detail}")

    asyncio.get_running_loop().set_exception_handler(handler)
