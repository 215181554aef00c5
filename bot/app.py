"""The composition root: builds everything, in this order, and takes it down in the reverse order.

    venue → link: everything that speaks to the exchange → what the account holds → pair

Nothing trades before the exchange has proved to be the one it says it is, both books are valid, the account
stream is live, the clock offset is known, and the account is flat or the operator has said what to do about
what it holds.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from decimal import Decimal

from nadofast.errors import NadoError
from nadofast.order_metrics import order_metrics

from . import doctor, keeping, operations, preflight, report, rollout
from .client import NadoClient
from .config import Settings, SettingsError
from .desk import DeskOrder, OrderDesk
from .exchange_process import ExchangeStartError
from .inputs import InputLog
from .job import Job
from .lifetime import report_loop_errors, unless_stopped
from .link import Link, connect
from .logs import EventLog, Output
from .model import End, ExitCode, PairState
from .observe import Observer
from .opening import found_of, look, start_state
from .pair import DNPairBot, MakeDesk, PairParts
from .preflight import StartError
from .recorder import CycleRecorder
from .recording import Recording
from .restart import Found, OnOpen, refusal
from .rollout import Task
from .shutdown import StopRequest
from .signals import PairSignals
from .sizing import LegQuote, NoSize, size_pair, smallest_pair
from .tradecsv import TradesCsv
from .units import show_usd
from .venue import Venue, choose


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
    link = await connect(job, venue, ready, stack, log, recording)
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
    found = await look(link, job.on_open, only_looks=job.task is Task.DRY_RUN, say=say)
    seen = await preflight.answer(lambda: link.reconciler.start(link.market.marks_x18))
    if found.is_clean and not link.ledger.is_flat:
        text = "the account was flat and is not any more: something else trades on it"
        if say is None:
            raise StartError(text)
        say(text)
        found = found_of(link, seen, found.resting)
    session = Session(
        DNPairBot(parts, _desk_maker(parts)), parts, seen.cash_x18(p.product_id for p in link.products),
        link.equity_x18, found, link,
        None if job.only_closes else start_state(link, seen, job.on_open),
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
