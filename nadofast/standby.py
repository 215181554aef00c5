"""HTTP beside the stream: the market and the account while it is down, and what it missed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from ._core import FeedCore
from .accountsync import AccountSync, AuditConfig
from .backfill import BackfillConfig, FillBackfill
from .errors import NadoError
from .events import FillEvent, OrderUpdateEvent, PositionChangeEvent
from .fallback import ConnectionMode, FallbackConfig, ModeChange, ModeSwitch, RestPoller
from .timesync import TimeSync

if TYPE_CHECKING:
    from .rest import Rest

_NS: Final = 1_000_000_000
_MS: Final = 1_000_000
_S_IN_MS: Final = 1_000
_REST: Final = ConnectionMode.REST
_log = logging.getLogger(__name__)
NO_STANDBY_STATS: Final = {
    "mode_switches": 0,
    "modes": {},
    "rest_s": {},
    "mode_changes": [],
    "fallback_polls": 0,
    "fallback_failures": 0,
    "fills_recovered": 0,
    "orders_recovered": 0,
    "audits": 0,
    "audits_unexplained": 0,
}


class RestStandby:
    """What a feed does with a `Rest`. publish(event): for what HTTP knows and the stream did not tell.

    Market data and account events have a mode each. is_account_up(): the account streams are acknowledged
    on a live link. on_book(product_id): there is no WebSocket at all, and a book was read; None: HTTP only
    stands in for the stream.
    """

    def __init__(
        self,
        core: FeedCore,
        rest: Rest,
        products: Sequence[int],
        subaccount: str | None,
        *,
        publish: Callable[[Any], None],
        is_account_up: Callable[[], bool],
        on_trusted: Callable[[], None],
        timesync: TimeSync,
        fallback: FallbackConfig,
        backfill: BackfillConfig,
        on_book: Callable[[int], None] | None = None,
    ) -> None:
        is_rest_only = on_book is not None
        self.market = ModeSwitch(fallback, "market", is_rest_only=is_rest_only)
        self.poller = RestPoller(
            core,
            rest,
            products,
            subaccount,
            on_position=self._on_position,
            exchange_now_ns=self._exchange_now_ns,
            config=fallback,
            on_book=on_book,
        )
        self.account_switch: ModeSwitch | None = None
        self.backfill: FillBackfill | None = None
        self.account: AccountSync | None = None
        self._products = tuple(products)
        self._publish = publish
        self._timesync = timesync
        self._config = fallback
        if subaccount is None:
            return
        self.account_switch = ModeSwitch(fallback, "account", is_rest_only=is_rest_only)
        self.backfill = FillBackfill(
            rest,
            subaccount,
            products,
            self._on_archived_fill,
            backfill,
            exchange_now_s=self._exchange_now_s,
            clock_steps=lambda: timesync.steps,
        )
        self.account = AccountSync(
            rest,
            subaccount,
            products,
            publish,
            backfill=self.backfill,
            poller=self.poller,
            is_stream_up=is_account_up,
            on_trusted=on_trusted,
            exchange_now_ns=self._exchange_now_ns,
            config=AuditConfig(audit_s=fallback.audit_s),
        )

    @property
    def is_account_trusted(self) -> bool:
        """Since the account streams are back, everything in between was told."""
        return self.account is not None and self.account.is_trusted

    def is_market_read(self, product_id: int, now_ns: int) -> bool:
        """The product's market was read over HTTP lately enough to be acted on."""
        return _is_young(self.poller.market_asked_ns.get(product_id, 0), self._config.market_age_s, now_ns)

    def is_account_read(self, now_ns: int) -> bool:
        """So were positions and resting orders, and the archive once: what it shows from here on is news.
        True without an account."""
        if self.account is None or self.backfill is None:
            return True
        if not self.backfill.knows_history:
            return False
        oldest_ns = min(self.poller.account_asked_ns, self.account.looked_ns)
        return _is_young(oldest_ns, self._config.account_age_s, now_ns)

    # ------------------------------------------------------------------ what the stream tells, inline

    def is_news(self, event: Any) -> bool:
        """Take note of an event of the stream. False: HTTP had told it before."""
        account, backfill = self.account, self.backfill
        if account is None or backfill is None:
            return True
        if isinstance(event, FillEvent):
            if not backfill.note(event):
                return False
            account.on_fill(event)
        elif isinstance(event, PositionChangeEvent):
            self.poller.on_stream_position(event)
            account.on_position(event)
        elif isinstance(event, OrderUpdateEvent):
            return account.on_order_update(event)
        return True

    def on_account_up(self) -> None:
        if self.backfill is not None and self.account is not None:
            self.backfill.request()
            self.account.on_up()

    def on_lost(self) -> None:
        if self.backfill is not None and self.account is not None:
            self.backfill.on_lost()
            self.account.on_lost()

    def on_gap(self) -> None:
        """The stream lost market messages; account events travel the same way."""
        if self.account is not None:
            self.account.want_audit()

    # ------------------------------------------------------------------ tasks

    def begin(self) -> None:
        """The session starts: fills from before are history."""
        if self.backfill is not None:
            self.backfill.request()

    def update_modes(
        self, is_market_up: bool, is_account_up: bool, now_ns: int, why: Callable[[str], str]
    ) -> list[ModeChange]:
        """Switches due now. why(function): what is wrong with its stream."""
        changes = [self.market.update(is_market_up, now_ns, why("market"))]
        if self.account_switch is not None and self.backfill is not None:
            change = self.account_switch.update(is_account_up, now_ns, why("account"))
            if change is not None and change.mode is _REST:
                self.backfill.request()
            changes.append(change)
        return [change for change in changes if change is not None]

    def tasks(self) -> list[tuple[Coroutine[Any, Any, None], str]]:
        """What has to run while the feed does, with a name each."""
        poller, config = self.poller, self._config
        tasks = [
            (
                self._while_on_rest(self.market, partial(poller.poll_market, product_id)),
                f"fallback market {product_id}",
            )
            for product_id in self._products
        ]
        if self.backfill is not None and self.account is not None and self.account_switch is not None:
            look = partial(self._look_at_orders, self.account)
            tasks += [
                (self.backfill.run(), "backfill"),
                (self.account.run(), "account audit"),
                (
                    self._while_on_rest(self.account_switch, poller.poll_account, config.positions_every),
                    "fallback positions",
                ),
                (self._while_on_rest(self.account_switch, look, config.orders_every), "fallback orders"),
            ]
        return tasks

    async def _while_on_rest(
        self, switch: ModeSwitch, ask: Callable[[], Coroutine[Any, Any, None]], pauses: int = 1
    ) -> None:
        """Each question has a task of its own: an answer that one waits for holds up no other."""
        while True:
            market, account = self._on_rest()
            await asyncio.sleep(self.poller.pause_s(market=market, account=account) * pauses)
            if switch.mode is _REST:
                await ask()

    async def _look_at_orders(self, account: AccountSync) -> None:
        try:
            await account.look_while_down()
        except NadoError as error:
            self.poller.failures += 1
            _log.info("fallback look at orders: %s", error)

    def stats(self, now_ns: int) -> dict[str, Any]:
        """Modes, switches and recoveries, for the feed's own."""
        switches = [switch for switch in (self.market, self.account_switch) if switch is not None]
        return {
            "mode_switches": sum(switch.switches for switch in switches),
            "modes": {switch.function: switch.mode.value for switch in switches},
            "rest_s": {switch.function: switch.rest_total_s(now_ns) for switch in switches},
            "mode_changes": [change for switch in switches for change in switch.changes],
            "fallback_polls": self.poller.polls,
            "fallback_failures": self.poller.failures,
            "fills_recovered": 0 if self.backfill is None else self.backfill.recovered,
            "orders_recovered": 0 if self.account is None else self.account.orders_recovered,
            "audits": 0 if self.account is None else self.account.audits,
            "audits_unexplained": 0 if self.account is None else self.account.unexplained,
        }

    def _on_rest(self) -> tuple[bool, bool]:
        account = self.account_switch
        return self.market.mode is _REST, account is not None and account.mode is _REST

    def _on_position(self, event: PositionChangeEvent) -> None:
        self._publish(event)
        if self.backfill is not None:
            self.backfill.request()

    def _on_archived_fill(self, fill: FillEvent) -> None:
        if self.account is not None:
            self.account.on_fill(fill)
        self._publish(fill)

    def _exchange_now_ns(self) -> int:
        return self._exchange_now_ms() * _MS

    def _exchange_now_s(self) -> int:
        """The earliest second it may be there."""
        now_ms = self._exchange_now_ms()
        return int(now_ms - min(self._timesync.uncertainty_ms, _S_IN_MS)) // _S_IN_MS if now_ms else 0

    def _exchange_now_ms(self) -> int:
        """0 while the exchange's clock is unknown."""
        return self._timesync.exchange_now_ms() if self._timesync.is_known else 0


def _is_young(asked_ns: int, age_s: float, now_ns: int) -> bool:
    return asked_ns > 0 and now_ns - asked_ns <= age_s * _NS
