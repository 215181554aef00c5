"""Everything that speaks to the exchange, proved, started and synchronised, in this order:

    REST: identity, products, account → state directory → feed → gate → journal → gateway → clock → streams

`connect` returns when orders may be decided: both books valid, the account stream live, the clock's offset
known, and what became of former orders asked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from nadofast.errors import NadoError
from nadofast.feed import DEFAULT_STREAMS, Feed
from nadofast.gateway import OrderGateway
from nadofast.orders import OrderTracker, TrackedOrder
from nadofast.products import Product
from nadofast.ratelimit import NadoRateLimiter
from nadofast.rest import Rest, RestConfig
from nadofast.signing import Signer
from nadofast.timesync import TimeSync
from nadofast.wire import FUNDING_PAYMENT

from . import keeping, preflight, rollout
from .bookkeeping import book_events
from .exchange_process import Ready
from .guard import Guard
from .job import Job
from .journal import Journal, JournalError
from .latch import KillSwitch
from .ledger import Ledger
from .lifetime import start_and_stop, start_helper
from .logs import EventLog
from .market import Market
from .model import Plan
from .planning import limits_of, plan_of
from .preflight import StartError
from .reconcile import Reconciler
from .recording import Recording, feed_config, gateway_config
from .recovery import ARCHIVE_TIMEOUT_S, Recovery, take_stock
from .restart import OnOpen
from .risk import RiskGate
from .rollout import Task
from .standing import Standing
from .statedir import StateDir
from .venue import Venue

REST_TIMEOUT_S: Final = 2.0
FLATTEN_READY_S: Final = 3.0
"""A way out needs no stream: prices come over HTTP then."""
FLATTEN_ARCHIVE_S: Final = 2.0
"""Nor does it need to know what former orders cost; what they hold is in the positions."""
ORDERS_UNKNOWN: Final = "journal: what became of former orders is not known"
STREAMS: Final = (*DEFAULT_STREAMS, FUNDING_PAYMENT)


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
class _Proved:
    """An exchange that is the one it says it is, and an account that we may sign for."""

    signer: Signer
    subaccount: str
    rest: Rest
    products: tuple[Product, Product]
    equity_x18: int


async def connect(
    job: Job,
    venue: Venue,
    ready: Ready,
    stack: AsyncExitStack,
    log: EventLog,
    recording: Recording | None,
) -> Link:
    """Raises StartError and SettingsError, each one line for a person, and NadoError. The stack closes what
    was opened."""
    say, limiter, timesync = job.say_instead(log), NadoRateLimiter(), TimeSync()
    proved = await _prove(job, venue, ready, stack, limiter, say, recording)
    signer, subaccount, rest, products = proved.signer, proved.subaccount, proved.rest, proved.products
    product_ids = tuple(product.product_id for product in products)
    state = keeping.open_state(job.settings, subaccount, ready, stack, venue, say)
    feed = Feed(
        ready.network, products=list(product_ids), streams=STREAMS, signer=signer, rest=rest,
        timesync=timesync, limiter=limiter, subaccount=job.settings.account.subaccount,
        config=feed_config(job.settings, recording),
    )  # fmt: skip
    market, ledger = Market(feed, products), Ledger(product_ids)
    standing = keeping.open_standing(ledger, market, timesync, state, say)
    limits = limits_of(job.settings, products, proved.equity_x18, only_exits=job.only_closes)
    gate = RiskGate(limits, standing.risk_view, KillSwitch(state.halt_path))
    tracker = OrderTracker() if recording is None else recording.tracker()
    journal = _open_journal(job, state, f"{ready.network.chain_id}:{subaccount}", stack, log, recording)
    stack.callback(tracker.on_change(journal.note))
    make_gateway = _gateways(job, ready, proved, timesync, limiter, gate, tracker, journal, recording)
    gateway = make_gateway()
    plan = rollout.plan_for(job.task, plan_of(job.settings, products, is_embedded=venue.is_embedded))
    guard = Guard(feed, market, rest, timesync, limiter, cycle_weight=plan.cycle_weight)
    reconciler = Reconciler(rest, gateway, ledger, tracker, subaccount=subaccount, product_ids=product_ids)
    book_events(feed, ledger, tracker, reconciler)
    link = Link(
        products, rest, feed, gate, gateway, timesync, market, ledger, standing, guard, reconciler, plan,
        proved.equity_x18, state.path, make_gateway, signer,
    )  # fmt: skip
    await _synchronise(link, job, journal, stack, say)
    return link


async def _prove(
    job: Job,
    venue: Venue,
    ready: Ready,
    stack: AsyncExitStack,
    limiter: NadoRateLimiter,
    say: keeping.Say | None,
    recording: Recording | None,
) -> _Proved:
    account = job.settings.account
    signer = preflight.choose_signer(ready, venue.key, account.owner_address)
    subaccount = signer.subaccount(account.subaccount)
    config = RestConfig(timeout_s=REST_TIMEOUT_S, tap=recording)
    rest = await stack.enter_async_context(Rest(ready.network, limiter=limiter, config=config))
    await preflight.prove_identity(rest)
    await preflight.prove_signer(rest, signer, subaccount)
    products = await preflight.pair_products(rest, job.settings, say)
    info = await preflight.answer(lambda: rest.subaccount_info(subaccount))
    return _Proved(signer, subaccount, rest, products, info.equity_x18)


def _open_journal(
    job: Job,
    state: StateDir,
    owner: str,
    stack: AsyncExitStack,
    log: EventLog,
    recording: Recording | None,
) -> Journal:
    say = job.say_instead(log)
    journal = (
        keeping.open_journal(job.settings, state, owner, stack, recording)
        if say is None
        else keeping.journal_if_possible(job.settings, state, owner, stack, say)
    )
    if journal.found.damaged:
        log.event(
            f"warning   damaged lines in the journal: {journal.found.damaged}; orders they told of are not"
            " known, what the exchange holds and has resting is read as ever"
        )
    return journal


def _gateways(
    job: Job,
    ready: Ready,
    proved: _Proved,
    timesync: TimeSync,
    limiter: NadoRateLimiter,
    gate: RiskGate,
    tracker: OrderTracker,
    journal: Journal,
    recording: Recording | None,
) -> Callable[[], OrderGateway]:
    """Makes gateways that share gate, tracker and journal: one for the run, and spare ones for a way out."""

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

    def make() -> OrderGateway:
        return OrderGateway(
            ready.network, proved.signer,
            products={product.product_id: product for product in proved.products}, timesync=timesync,
            rest=proved.rest, limiter=limiter, tracker=tracker, before_send=before_send, journal=write_down,
            signed_ahead=journal.prepare, subaccount=job.settings.account.subaccount,
            config=gateway_config(job.settings, recording),
        )  # fmt: skip

    return make


async def _synchronise(
    link: Link, job: Job, journal: Journal, stack: AsyncExitStack, say: keeping.Say | None
) -> None:
    """Clock, streams and lanes, then what became of former orders, then everything is fresh at once."""
    gate, guard, gateway, reconciler = link.gate, link.guard, link.gateway, link.reconciler

    def halt(error: str) -> None:
        gate.halt(f"internal error: {error}")

    await preflight.answer(guard.measure_clock)
    await start_and_stop(stack, link.feed.start, link.feed.stop)
    await start_and_stop(stack, gateway.start, gateway.stop)
    recovery = Recovery(
        journal.found, journal=journal, tracker=gateway.tracker, timesync=link.timesync, gateway=gateway,
        rest=link.rest, subaccount=gateway.subaccount,
        product_ids=tuple(product.product_id for product in link.products),
        adopt_foreign=job.on_open is not OnOpen.REFUSE and job.task is not Task.DRY_RUN,
    )  # fmt: skip
    try:
        left = await take_stock(
            recovery, reconciler, link.ledger, FLATTEN_ARCHIVE_S if job.only_closes else ARCHIVE_TIMEOUT_S
        )
    except (NadoError, OSError) as error:
        if say is None:
            raise
        say(f"{ORDERS_UNKNOWN}: {error}")
    else:
        if left is not None:
            start_helper(stack, left, on_failure=halt)
    start_helper(stack, guard.run(), on_failure=halt)
    timeout_s = FLATTEN_READY_S if job.only_closes else job.settings.run.ready_timeout_s
    if (reason := await guard.wait_ready(timeout_s)) and not job.only_closes:
        raise StartError(f"not ready after {timeout_s:g} s: {reason}")
