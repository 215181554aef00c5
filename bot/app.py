"""The composition root: builds everything, in this order, and takes it down in the reverse order.

    venue → REST: identity, products, account → state directory → clock → feed → gate → gateway → pair

Nothing trades before the exchange has proved to be the one it says it is, both books are valid, the account
stream is live, the clock offset is known, and the account is flat or the operator has said what to do about
what it holds.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Final

from nadofast.errors import NadoError
from nadofast.feed import DEFAULT_STREAMS, Feed
from nadofast.gateway import OrderGateway
from nadofast.models import OpenOrder
from nadofast.order_metrics import order_metrics
from nadofast.orders import OrderTracker, TrackedOrder
from nadofast.products import Product
from nadofast.ratelimit import NadoRateLimiter
from nadofast.rest import Rest, RestConfig
from nadofast.secret import Secret
from nadofast.signing import Signer
from nadofast.timesync import TimeSync
from nadofast.wire import FUNDING_PAYMENT

from . import doctor, keeping, operations, preflight, report, rollout
from .bookkeeping import book_events
from .client import NadoClient
from .config import Settings, SettingsError
from .desk import DeskOrder, OrderDesk
from .exchange_process import ExchangeStartError, Ready
from .guard import Guard
from .inputs import InputLog
from .journal import JournalError
from .keeping import Say
from .latch import KillSwitch
from .ledger import Ledger
from .lifetime import report_loop_errors, start_and_stop, start_helper, unless_stopped
from .logs import EventLog, Output
from .market import Market
from .model import End, ExitCode, PairState, Plan
from .observe import Observer
from .pair import DNPairBot, MakeDesk, PairParts
from .planning import limits_of, plan_of
from .preflight import StartError
from .reconcile import Holdings, Reconciler
from .recorder import CycleRecorder
from .recording import Recording, feed_config, gateway_config
from .recovery import ARCHIVE_TIMEOUT_S, Recovery, take_stock
from .restart import Found, OnOpen, first_state, refusal
from .risk import RiskGate
from .rollout import Task
from .shutdown import StopRequest
from .signals import PairSignals
from .sizing import LegQuote, NoSize, size_pair, smallest_pair
from .standing import Standing
from .tradecsv import TradesCsv
from .units import show_usd
from .venue import Venue, choose

REST_TIMEOUT_S: Final = 2.0
CLEAR_TIMEOUT_S: Final = 5.0
CLEAR_PAUSE_S: Final = 0.1
FLATTEN_READY_S: Final = 3.0
"""A way out needs no stream: prices come over HTTP then."""
FLATTEN_ARCHIVE_S: Final = 2.0
"""Nor does it need to know what former orders cost; what they hold is in the positions."""
ORDERS_UNKNOWN: Final = "journal: what became of former orders is not known"
STREAMS: Final = (*DEFAULT_STREAMS, FUNDING_PAYMENT)


@dataclass(frozen=True, slots=True)
class Job:
    """What one run was asked to do. ends_process: nothing but the last words comes after it. venue: where, as
    `venue.choose` decides it; None = decided at the start. task: what the start is for."""

    settings: Settings
    seed: int
    key: Secret | None
    ends_process: bool = False
    venue: Venue | None = None
    task: Task = Task.TRADE

    @property
    def on_open(self) -> OnOpen:
        """What happens to a pair that is found open."""
        return OnOpen.FLATTEN if self.only_closes else OnOpen(self.settings.run.on_open)

    @property
    def only_closes(self) -> bool:
        """What forbids to trade is no reason to stay exposed: it is said, and the start goes on."""
        return self.task is Task.FLATTEN

    def say_instead(self, log: EventLog) -> Say | None:
        """Where a start that only closes says what would end another one; None: it shall end."""
        if not self.only_closes:
            return None
        return lambda text: log.event(f"warning: {text}; closing all the same")


@dataclass(frozen=True, slots=True)
class Link:
    """What speaks to the exchange, what is kept from it, and the gate that orders have to pass."""

    products: tuple[Product, Product]
    rest: Rest
    feed: Feed
    gate: RiskGate
    gateway: OrderGateway
    timesync: TimeSync
    market: Market
    ledger: Ledger
    standing: Standing
    guard: Guard
    reconciler: Reconciler
    plan: Plan
    equity_x18: int
    state_dir: Path
    spare: Callable[[], OrderGateway]
    signer: Signer


@dataclass(frozen=True, slots=True)
class Session:
    """A connected and ready bot. found: what the account held; start: the state the machine goes on from,
    None from flat."""

    bot: DNPairBot
    parts: PairParts
    cash_x18: int
    equity_x18: int
    found: Found
    link: Link
    start: PairState | None = None


async def run(job: Job, output: Output, csv: TradesCsv, log: EventLog | None = None) -> tuple[ExitCode, str]:
    """One run from start to end. Returns the exit code and, unless it is 0, the reason in one line."""
    settings = job.settings
    log = log or EventLog(output, as_json=settings.output.log_format == "json")
    report_loop_errors(log)
    venue = job.venue or choose(settings, seed=job.seed, key=job.key)
    with StopRequest(
        is_last_word=job.ends_process, drain_deadline_s=settings.run.drain_deadline_s
    ) as stop:  # fmt: skip
        async with AsyncExitStack() as stack:
            exchange = venue.exchange
            stack.push_async_callback(exchange.stop)
            try:
                recording = None if job.only_closes else keeping.open_recording(settings, stack, log)
                starting = _start(job, venue, stop, stack, log, csv, recording)
                session = await unless_stopped(stop, exchange, starting)
            except ExchangeStartError as error:
                text = f"the embedded exchange did not start: {error}"
                raise (SettingsError(text) if error.is_usage else StartError(text)) from None
            except NadoError as error:
                raise StartError(exchange.gone_reason or f"start: {error}") from None
            if session is None and job.only_closes:
                return ExitCode.EXPOSED, f"{stop.by} before anything was closed"
            if session is None:
                log.event(f"{stop.by} before trading: nothing was ordered")
                return ExitCode.DONE, ""
            end = await _carry_out(session, job, stop)
            if job.task is Task.DRY_RUN or not (job.task is Task.TRADE or session.parts.recorder.finished):
                log.event(f"END  {end.reason}")
                return end.code, "" if end.code is ExitCode.DONE else end.reason
            return _finish(session, end, log, csv)


async def _carry_out(session: Session, job: Job, stop: StopRequest) -> End:
    """What the start was for."""
    bot, parts, log = session.bot, session.parts, session.parts.log
    if job.task is Task.DRY_RUN:
        end = await rollout.dry_run(bot, parts)
        why = refusal(session.found, job.on_open)
        return End(ExitCode.ERROR, f"a run would refuse: {why}") if why else end
    if job.only_closes and session.found.is_clean:
        return End(ExitCode.DONE, "nothing is open: no position, no order on the books")
    if job.task is Task.CANARY:
        return await _canary(session, job, stop)
    await unless_stopped(stop, parts.exchange, _warm_up(session, job.settings))
    end = await _trade(session, job.on_open, stop)
    log.context = ""
    return end


async def _canary(session: Session, job: Job, stop: StopRequest) -> End:
    """Checks, one cycle, checks, verdict. Nothing is ordered when something is wrong before."""
    parts, link = session.parts, session.link
    log, feed = parts.log, parts.feed
    before = await doctor.examine(
        doctor.Patient(
            job.settings, link.rest, link.signer, parts.gateway.subaccount, parts.guard.limiter,
            link.timesync, link.products,
        )
    )  # fmt: skip
    if any(finding.mark is doctor.Mark.BAD for finding in before):
        lines, end = rollout.verdict(before, [], End(ExitCode.ERROR, "nothing was ordered"))
        log.block(lines)
        return end
    await unless_stopped(stop, parts.exchange, _warm_up(session, job.settings))
    failovers = feed.get_connection_metrics()["failover_count"]
    end = await _trade(session, job.on_open, stop)
    log.context = ""
    is_proved = session.bot.cash_x18 is not None and parts.ledger.is_flat
    after = rollout.judge(
        rollout.Outcomes(
            cycles=parts.recorder.finished, end=end, exposure=session.bot.last_exposure,
            halt=parts.gate.halt_reason or "", gap_x18=_gap_x18(session) if is_proved else None,
            taken_over=parts.ledger.taken_over.count,
            failovers=feed.get_connection_metrics()["failover_count"] - failovers,
            max_net_delta_bps=parts.plan.max_net_delta_bps, lost=parts.csv.failure or log.failure,
        )
    )  # fmt: skip
    lines, end = rollout.verdict(before, after, end)
    log.block(lines)
    return end


async def _warm_up(session: Session, settings: Settings) -> None:
    """Real money waits until the streams have been stable for a while."""
    log, warmup_s = session.parts.log, settings.warmup_s
    if warmup_s > 0 and session.found.is_clean:
        log.event(f"warm-up   the streams shall be stable for {warmup_s:g} s before the first order")
        await session.parts.guard.wait_stable(
            warmup_s, lambda reason: log.event(f"warm-up   begins again: {reason}")
        )


async def _trade(session: Session, choice: OnOpen, stop: StopRequest) -> End:
    """From what was found at the start to the end of the run."""
    if not session.found.is_clean:
        session.parts.log.event(f"found     {session.found.words()}: {choice}")
    if choice is OnOpen.FLATTEN and not session.found.is_clean:
        return await session.bot.flatten_now("flattened what was open at the start")
    if choice is OnOpen.FINISH and not session.found.is_clean:
        stop.drain("run.on_open = finish")
    return await session.bot.run_alternating_strategy(session.cash_x18, session.start)


# ---------------------------------------------------------------------- start


async def _start(
    job: Job,
    venue: Venue,
    stop: StopRequest,
    stack: AsyncExitStack,
    log: EventLog,
    csv: TradesCsv,
    recording: Recording | None,
) -> Session:
    exchange = venue.exchange
    ready = await exchange.start()
    how = f"pid {exchange.pid}, seed {job.seed}" if venue.is_embedded else f"at {ready.network.gateway_rest}"
    log.event(f"exchange  {how}, control {ready.control or 'none'}")
    link = await _connect(job, venue, ready, stack, log, recording)
    signals = PairSignals(link.feed, link.products)
    stack.callback(signals.stop)
    first, second = (
        NadoClient(
            product, market=link.market, gateway=link.gateway, gate=link.gate, timesync=link.timesync,
            discard_ms=job.settings.entry.discard_ms, feed=link.feed, reconciler=link.reconciler,
        )
        for product in link.products
    )  # fmt: skip
    parts = PairParts(
        plan=link.plan, feed=link.feed, market=link.market,
        clients=(first, second), gateway=link.gateway, gate=link.gate, ledger=link.ledger,
        standing=link.standing, reconciler=link.reconciler, guard=link.guard,
        recorder=CycleRecorder(link.products, link.ledger, link.market, link.standing, signals),
        exchange=exchange, stop=stop, log=log, csv=csv, spare=link.spare, inputs=_inputs(recording),
    )  # fmt: skip
    if recording is not None:
        recording.setup(link.plan, ready.network)
    say = job.say_instead(log)
    found = await _look(link, job.on_open, only_looks=job.task is Task.DRY_RUN, say=say)
    seen = await preflight.answer(lambda: link.reconciler.start(link.market.marks_x18))
    if found.is_clean and not link.ledger.is_flat:
        text = "the account was flat and is not any more: something else trades on it"
        if say is None:
            raise StartError(text)
        say(text)
        found = _found(link, seen, found.resting)
    session = Session(
        DNPairBot(parts, _desk_maker(parts)), parts, seen.cash_x18(p.product_id for p in link.products),
        link.equity_x18, found, link,
        None if job.only_closes else _first_state(link, seen, job.on_open),
    )  # fmt: skip
    if not job.only_closes:
        _announce(session, job, link)
    try:
        await _attach(session, job, link, stack)
    except SettingsError as error:
        if say is None:
            raise
        say(str(error))
    return session


async def _attach(session: Session, job: Job, link: Link, stack: AsyncExitStack) -> None:
    """What stands beside the trading: control socket, metrics, alerts."""
    parts, stop, venue = session.parts, session.parts.stop, job.settings.venue
    alerts = operations.make_alerts(job.settings, f"nadofast {venue}")
    observer = Observer(session.bot, parts, link.timesync, alerts, venue=venue)
    await operations.attach(
        stack, settings=job.settings, state_dir=link.state_dir, status=observer.status,
        recent=observer.recent, families=lambda: order_metrics(parts.gateway),
        commands=operations.commands(stop), alerts=alerts, log=parts.log, watch=observer.watch,
        lag=observer.lag,
    )  # fmt: skip


async def _look(link: Link, choice: OnOpen, *, only_looks: bool, say: Say | None) -> Found:
    """What the account holds. Orders on the books are taken off, unless the choice forbids to go on or this
    start only looks. say: takes what would be refused otherwise."""
    ids = tuple(product.product_id for product in link.products)
    reconciler = link.reconciler
    seen = await preflight.answer(lambda: reconciler.read(with_isolated=True))
    books = [await preflight.answer(partial(reconciler.resting, product_id)) for product_id in ids]
    found = _found(link, seen, tuple(order for book in books for order in book))
    if only_looks:
        return found
    if reason := refusal(found, choice):
        if say is None:
            raise StartError(reason)
        say(reason)
    if found.resting:
        try:
            await _clear_books(link, ids)
        except (StartError, NadoError) as error:
            if say is None:
                raise
            say(str(error))
    return found


def _found(link: Link, seen: Holdings, resting: tuple[OpenOrder, ...]) -> Found:
    first, second = (product.product_id for product in link.products)
    return Found(
        link.products,
        (seen.position_x18(first), seen.position_x18(second)),
        (seen.isolated_x18(first), seen.isolated_x18(second)),
        resting,
    )


async def _clear_books(link: Link, ids: tuple[int, ...]) -> None:
    try:
        async with asyncio.timeout(CLEAR_TIMEOUT_S):
            while await link.reconciler.count_resting():
                await link.gateway.cancel_product(list(ids))
                await asyncio.sleep(CLEAR_PAUSE_S)
    except TimeoutError:
        raise StartError(f"orders still rest {CLEAR_TIMEOUT_S:g} s after their cancel") from None


def _first_state(link: Link, seen: Holdings, choice: OnOpen) -> PairState | None:
    ids = [product.product_id for product in link.products]
    marks = link.market.marks_x18
    return first_state(
        choice, link.products, (seen.position_x18(ids[0]), seen.position_x18(ids[1])),
        (marks[ids[0]], marks[ids[1]]), link.gate.limits,
        max_net_delta_bps=link.plan.max_net_delta_bps, now_ns=time.monotonic_ns(),
    )  # fmt: skip


async def _connect(
    job: Job,
    venue: Venue,
    ready: Ready,
    stack: AsyncExitStack,
    log: EventLog,
    recording: Recording | None,
) -> Link:
    """Everything that speaks to the exchange, proved, started and synchronised."""
    say = job.say_instead(log)
    account, limiter, timesync = job.settings.account, NadoRateLimiter(), TimeSync()
    signer = preflight.choose_signer(ready, venue.key, account.owner_address)
    subaccount = signer.subaccount(account.subaccount)
    rest_config = RestConfig(timeout_s=REST_TIMEOUT_S, tap=recording)
    rest = await stack.enter_async_context(Rest(ready.network, limiter=limiter, config=rest_config))
    await preflight.prove_identity(rest)
    await preflight.prove_signer(rest, signer, subaccount)
    products = await preflight.pair_products(rest, job.settings, say)
    info = await preflight.answer(lambda: rest.subaccount_info(subaccount))
    by_id = {product.product_id: product for product in products}
    state = keeping.open_state(job.settings, subaccount, ready, stack, venue, say)
    feed = Feed(
        ready.network, products=list(by_id), streams=STREAMS, signer=signer, rest=rest, timesync=timesync,
        limiter=limiter, subaccount=account.subaccount, config=feed_config(job.settings, recording),
    )  # fmt: skip
    market, ledger = Market(feed, products), Ledger(tuple(by_id))
    standing = keeping.open_standing(ledger, market, timesync, state, say)
    limits = limits_of(job.settings, products, info.equity_x18, only_exits=job.only_closes)
    gate = RiskGate(limits, standing.risk_view, KillSwitch(state.halt_path))
    tracker = OrderTracker() if recording is None else recording.tracker()
    owner = f"{ready.network.chain_id}:{subaccount}"
    journal = (
        keeping.open_journal(job.settings, state, owner, stack, recording)
        if say is None
        else keeping.journal_if_possible(job.settings, state, owner, stack, say)
    )
    stack.callback(tracker.on_change(journal.note))
    if journal.found.damaged:
        log.event(
            f"warning   damaged lines in the journal: {journal.found.damaged}; orders they told of are not"
            " known, what the exchange holds and has resting is read as ever"
        )

    def before_send(order: TrackedOrder) -> None:
        gate.admit(order)
        if job.task is Task.DRY_RUN:
            rollout.shut(order)

    def write_down(orders: Sequence[TrackedOrder]) -> None:
        try:
            journal.record_all(orders)
        except (OSError, JournalError) as error:
            gate.halt(f"journal: {error}")
            if not all(map(gate.is_exit, orders)):  # a full disk blocks entries, never the way out
                raise

    def make_gateway() -> OrderGateway:
        return OrderGateway(
            ready.network, signer, products=by_id, timesync=timesync, rest=rest, limiter=limiter,
            tracker=tracker, before_send=before_send, journal=write_down, signed_ahead=journal.prepare,
            subaccount=account.subaccount, config=gateway_config(job.settings, recording),
        )  # fmt: skip

    gateway = make_gateway()
    plan = rollout.plan_for(job.task, plan_of(job.settings, products, is_embedded=venue.is_embedded))
    guard = Guard(feed, market, rest, timesync, limiter, cycle_weight=plan.cycle_weight)
    reconciler = Reconciler(
        rest, gateway, ledger, gateway.tracker, subaccount=subaccount, product_ids=tuple(by_id)
    )
    book_events(feed, ledger, gateway.tracker, reconciler)
    await preflight.answer(guard.measure_clock)
    await start_and_stop(stack, feed.start, feed.stop)
    await start_and_stop(stack, gateway.start, gateway.stop)
    recovery = Recovery(
        journal.found, journal=journal, tracker=tracker, timesync=timesync, gateway=gateway, rest=rest,
        subaccount=subaccount, product_ids=tuple(by_id),
        adopt_foreign=job.on_open is not OnOpen.REFUSE and job.task is not Task.DRY_RUN,
    )  # fmt: skip
    archive_timeout_s = FLATTEN_ARCHIVE_S if job.only_closes else ARCHIVE_TIMEOUT_S
    try:
        left = await take_stock(recovery, reconciler, ledger, archive_timeout_s)
    except (NadoError, OSError) as error:
        if say is None:
            raise
        say(f"{ORDERS_UNKNOWN}: {error}")
    else:
        if left is not None:
            start_helper(stack, left, on_failure=lambda error: gate.halt(f"internal error: {error}"))
    start_helper(stack, guard.run(), on_failure=lambda error: gate.halt(f"internal error: {error}"))
    timeout_s = FLATTEN_READY_S if job.only_closes else job.settings.run.ready_timeout_s
    if (reason := await guard.wait_ready(timeout_s)) and not job.only_closes:
        raise StartError(f"not ready after {timeout_s:g} s: {reason}")
    return Link(
        products, rest, feed, gate, gateway, timesync, market, ledger, standing, guard, reconciler, plan,
        info.equity_x18, state.path, make_gateway, signer,
    )  # fmt: skip


def _inputs(recording: Recording | None) -> InputLog:
    if recording is None:
        return InputLog()
    return InputLog(recording.entry, on_decision=recording.decided)


def _desk_maker(parts: PairParts) -> MakeDesk:
    def make_desk(on_change: Callable[[DeskOrder], None]) -> OrderDesk:
        return OrderDesk(
            parts.clients, parts.gateway, parts.gate, parts.gateway.tracker,
            ask=parts.reconciler.ask, is_stream_live=lambda: parts.feed.is_account_streamed,
            on_change=on_change, timesync=parts.feed.timesync,
        )  # fmt: skip

    return make_desk


def _announce(session: Session, job: Job, link: Link) -> None:
    """Limits and the expected cost of a cycle, before any order. SettingsError if no size fits."""
    parts, log = session.parts, session.parts.log
    quotes = [client.quote() for client in parts.clients]
    legs = [LegQuote(p, q.mid_x18) for p, q in zip(parts.plan.products, quotes, strict=True)]
    size = size_pair((legs[0], legs[1]), parts.plan.sizing)
    if isinstance(size, NoSize):
        raise SettingsError(f"pair.size_usd: {size.reason}")
    spreads: tuple[Decimal, Decimal] = (quotes[0].spread_bps, quotes[1].spread_bps)
    for line in report.rest_only_lines(job.settings):
        log.event(line)
    heard = "account stream live" if parts.feed.has_websocket else "account read over REST"
    log.event(
        f"ready     books valid, {heard}, clock ±{link.timesync.uncertainty_ms:.1f} ms,"
        f" REST {link.guard.round_trip_ms:.1f} ms, flat"
    )
    log.block(
        [
            *report.limits_lines(job.settings, session.parts.gate.limits, session.equity_x18),
            *report.cost_lines(parts.plan.products, size, spreads),
            *report.smallest_lines(
                parts.plan.products, smallest_pair((legs[0], legs[1]), parts.plan.sizing), parts.plan.sizing
            ),
        ]
    )


# ---------------------------------------------------------------------- end


def _gap_x18(session: Session) -> int:
    """The exchange's cash less the ledger's, at the last proof of flat."""
    parts, cash_x18 = session.parts, session.bot.cash_x18
    gap_x18 = None if cash_x18 is None else parts.reconciler.cash_gap_x18(cash_x18)
    return (gap_x18 or 0) + parts.reconciler.unexplained_x18


def _finish(session: Session, end: End, log: EventLog, csv: TradesCsv) -> tuple[ExitCode, str]:
    """The summary, and the exposure by name if there is one."""
    parts, exposure = session.parts, session.bot.last_exposure
    pnl = parts.standing.pnl()
    extras = [f"trades CSV: {csv.path}"]
    parts.standing.remember(at_once=True)
    if session.bot.cash_x18 is not None and parts.ledger.is_flat:
        change_x18 = session.bot.cash_x18 - session.cash_x18
        gap_x18 = _gap_x18(session)
        verdict = f"off by {gap_x18} x18" if gap_x18 else "equal to the ledger to the last unit"
        extras.insert(0, f"exchange balance {show_usd(change_x18, signed=True)} USD: {verdict}")
    log.context = ""
    log.block(
        report.summary_lines(
            parts.recorder.finished, parts.recorder.totals, end, pnl, exposure, parts.gate.limits, extras
        )
    )
    if end.code is ExitCode.DONE:
        return end.code, ""
    return end.code, f"{end.reason}; {session.bot.standing_words(end)}"
