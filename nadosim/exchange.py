"""The exchange without I/O: requests in, replies and steps out. The door of the core; the rooms are behind.

An order passes two calls, because the exchange holds every order that is not post-only for 30 ms:
validate, wait `delay_ns`, commit. `submit` does the same for any execute by its name.

Simulated participants (`house_*`) trade through the same books and balances, without signature or delay.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from . import truth
from .accounts import ZERO_ADDRESS
from .archive import Archive
from .archive_accounts import AccountArchive
from .archive_fills import FillArchive
from .archive_market import MarketArchive
from .cancels import Cancels
from .clock import Clock
from .config import ExchangeConfig
from .core import ACTIVE, NEVER_S, Core
from .engine import Order, SideName
from .executes import Submission, execute_table
from .funding import HOUR_S, Funding
from .liquidation import Liquidation
from .order_entry import OrderEntry
from .pending import PendingBatch, PendingOrder, PendingReplace
from .products import HEALTH_GROUPS, QUOTE_PRODUCT_ID, TradingStatus
from .queries import Queries
from .requests import OrderType
from .schedule import Schedule
from .settlement import Settlement
from .signatures import check_signer
from .steps import Step
from .wallet import Wallet
from .x18 import NS_PER_S

__all__ = [
    "ACTIVE",
    "NEVER_S",
    "Exchange",
    "PendingBatch",
    "PendingOrder",
    "PendingReplace",
    "Step",
    "Submission",
]

DEFAULT_NAME: Final = b"default".ljust(12, b"\0").hex()


class Exchange:
    """Products, accounts, books, and the rules between them. Single-threaded; nothing here waits.

    on_step is called once per engine step that changed anything, before the request that caused it returns.
    """

    def __init__(self, config: ExchangeConfig, clock: Clock, on_step: Callable[[Step], None]) -> None:
        self._on_step = on_step
        core = self._core = Core(config, clock, lambda step: self._on_step(step))
        self.config = config
        self.clock = clock
        self.products = core.products
        self.books = core.books
        self.accounts = core.accounts
        self.health = core.health
        self.history = core.history
        self.funding = Funding(core)
        self.settlement = Settlement(core)
        self.liquidation = Liquidation(core)
        self._cancels = Cancels(core)
        self._entry = OrderEntry(core, self._cancels)
        self._wallet = Wallet(core, self.liquidation)
        self._queries = Queries(core)
        market = MarketArchive(core, self.funding)
        self._archive = Archive(core.history, FillArchive(config, core.history), market, AccountArchive(core))
        self.schedule = Schedule(
            core,
            self.funding,
            self.settlement,
            take_snapshot=market.take_snapshot,
            protect=self.liquidate_unhealthy,
        )
        self._spot_of = {perp: spot for spot, perp in HEALTH_GROUPS if spot in core.products}
        self._house_orders = 0
        self._executes = execute_table(self._entry, self._cancels, self._wallet)

    # ---- what the status and contracts queries claim

    @property
    def status(self) -> str:
        return self._core.status

    @status.setter
    def status(self, status: str) -> None:
        """Executes are refused unless it is `active`."""
        self._core.status = status

    @property
    def reported_chain_id(self) -> int:
        return self._queries.reported_chain_id

    @reported_chain_id.setter
    def reported_chain_id(self, chain_id: int) -> None:
        self._queries.reported_chain_id = chain_id

    @property
    def last_step_ns(self) -> int:
        return self._core.last_step_ns

    # ---- executes

    @property
    def good_signatures(self) -> int:
        """How many signatures of executes were found good: what tells who has to pay for one."""
        return self._core.checks.good_signatures

    @property
    def execute_names(self) -> tuple[str, ...]:
        return tuple(self._executes)

    def submit(self, name: str, request: object) -> Submission:
        """Entry checks of any execute. Raises ExchangeError; KeyError for a name that is none."""
        return self._executes[name](request)

    def validate_place(self, request: object) -> PendingOrder:
        return self._entry.validate_place(request)

    def commit_place(self, pending: PendingOrder) -> dict[str, Any]:
        return self._entry.commit_place(pending)

    def cancel_orders(self, request: object) -> dict[str, Any]:
        return self._cancels.cancel_orders(request)

    def cancel_product_orders(self, request: object) -> dict[str, Any]:
        return self._cancels.cancel_product_orders(request)

    def validate_cancel_and_place(self, request: object) -> PendingReplace:
        return self._entry.validate_replace(request)

    def commit_cancel_and_place(self, pending: PendingReplace) -> dict[str, Any]:
        return self._entry.commit_replace(pending)

    def link_signer(self, request: object) -> None:
        self._wallet.link_signer(request)

    def authenticate(self, sender_hex: str, expiration_ms: int, signature: str) -> None:
        """Check a StreamAuthentication: signed by the wallet itself, expiring within 100 s.

        Raises ExchangeError.
        """
        checks = self._core.checks
        checks.deadline(expiration_ms)
        sender = sender_hex.lower()
        account = self.accounts.find(sender) if self.config.stream_auth_by_linked_signer else None
        linked = account.linked_signer if account is not None else ZERO_ADDRESS
        check_signer(
            checks.verifier.stream_auth_digest(sender, expiration_ms), signature, sender[:42], linked
        )

    # ---- reading

    def query(self, request: Mapping[str, Any]) -> Any:
        """`data` of a gateway query. Values may be strings or numbers. Raises ExchangeError."""
        self._core.expire()
        return self._queries.answer(request)

    def archive(self, request: Mapping[str, Any], lag_s: float = 0.0) -> Any:
        """Answer of an archive that is lag_s behind in what accounts did. Raises ExchangeError."""
        known_ns = None
        if lag_s:
            known_ns = max(self.clock.now_ns(), self._core.last_step_ns) - int(lag_s * NS_PER_S)
        return self._archive.answer(request, known_ns)

    def bbo(self, product_id: int) -> tuple[int, int, int, int]:
        """(bid price, bid qty, ask price, ask qty) with the wire's sentinels for an empty side."""
        return self.books[product_id].bbo()

    def level(self, product_id: int, side: SideName, price_x18: int) -> int:
        """Total quantity resting at a price."""
        return self.books[product_id].level_x18(side, price_x18)

    def depth(self, product_id: int, levels: int) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        """(bids, asks), each up to `levels` of (price, quantity), best first."""
        book = self.books[product_id]
        return book.depth("bids", levels), book.depth("asks", levels)

    def symbols_list(self) -> list[dict[str, Any]]:
        """Body of `GET /v1/symbols`."""
        return self._queries.symbols_list()

    def orders_state(self) -> list[dict[str, Any]]:
        """Every remembered order of real accounts and how it ended."""
        return truth.orders_state(self.history)

    def fills_state(self) -> list[dict[str, Any]]:
        return truth.fills_state(self.history)

    def balances_state(self) -> dict[str, Any]:
        return truth.balances_state(self.accounts)

    def executes_state(self) -> list[dict[str, Any]]:
        """Every remembered execute as it was received, refused ones included."""
        return truth.executes_state(self.history)

    # ---- operation

    def fund(self, address_or_subaccount: str, amount_x18: int, product_id: int = QUOTE_PRODUCT_ID) -> str:
        """Deposit USDT0, or another token, to a subaccount or to the `default` one of an address.

        Returns the subaccount's id. Raises ValueError for what is neither.
        """
        subaccount = address_or_subaccount.lower()
        if len(subaccount) == 42:
            subaccount += DEFAULT_NAME
        if len(subaccount) != 66 or not subaccount.startswith("0x"):
            raise ValueError("neither an address nor a subaccount")
        bytes.fromhex(subaccount[2:])
        core = self._core
        account = core.accounts.open(subaccount)
        account.created_ns = account.created_ns or core.clock.now_ns()
        with core.step():
            core.writer.next_idx()
            before = core.writer.balance(account, product_id)
            core.accounts.deposit(account, amount_x18, product_id)
            core.writer.changed(account, product_id, before, "deposit_collateral")
        return subaccount

    def set_oracle(self, product_id: int, price_x18: int) -> None:
        """New oracle price, of the spot product on the same asset too; whoever it breaks is liquidated."""
        self.funding.observe(product_id)
        for affected in (product_id, self._spot_of.get(product_id)):
            if affected is not None:
                self.accounts.states[affected].oracle_price_x18 = price_x18
        self.funding.observe(product_id)
        self.liquidate_unhealthy()

    def set_trading_status(self, product_id: int, status: TradingStatus) -> None:
        self.accounts.states[product_id].trading_status = status

    def pay_funding(self, product_id: int, payment_x18: int, dt_s: int = HOUR_S) -> None:
        """Longs pay payment_x18 of quote per unit of base to shorts, whatever the premium is."""
        with self._core.step():
            self.funding.pay(product_id, payment_x18, dt_s, self.funding.daily_rate_x18(product_id))
        self.liquidate_unhealthy()

    def settle_funding(self) -> None:
        """Pay the hour that ends now on every perpetual; `run_due` does it on the hour."""
        self.schedule.pay_hour()

    def settle_pnl(self, subaccount: str) -> int:
        """Settle every position of the subaccount; the sum that reached its USDT0 balance."""
        with self._core.step():
            return self.settlement.settle(self.accounts.open(subaccount))

    def liquidate_unhealthy(self) -> int:
        """Hand accounts with negative maintenance health to the pool; how many there were."""
        if not self.config.auto_liquidation:
            return 0
        sick = [
            account
            for account in self.accounts.real()
            if (account.perps or account.spots) and self.liquidation.is_liquidatable(account)
        ]
        if sick:
            with self._core.step():
                for account in sick:
                    self.liquidation.run(account)
        return len(sick)

    def expire(self) -> None:
        """Take resting orders whose expiration has passed off the books, in a step of their own."""
        self._core.expire()

    def run_due(self) -> None:
        """Everything the exchange does by the clock. Call it several times a second."""
        self.schedule.run_due()

    def publish(self, step: Step) -> None:
        """Hand on a step that did not come from this engine: recorded trades."""
        self._core.last_step_ns = step.timestamp_ns
        self._on_step(step)

    def wipe_orders(self) -> None:
        """Take every resting order of real accounts off the books: a restart that kept balances only."""
        with self._core.step():
            for book in self.books.values():
                self._core.cancel([order for order in book.orders.values() if not order.account.is_house])

    def seize(self, subaccount: str, product_id: int | None = None) -> int:
        """Deleverage an account, healthy or not: the pool takes the whole position; how many it took."""
        account = self.accounts.find(subaccount.lower())
        if account is None or account.is_house:
            return 0
        with self._core.step():
            return self.liquidation.seize(account, product_id)

    # ---- simulated participants

    def house_place(
        self,
        subaccount: str,
        product_id: int,
        price_x18: int,
        amount_x18: int,
        order_type: OrderType | int = OrderType.DEFAULT,
        expiration_s: int = NEVER_S,
    ) -> str:
        """Place for a simulated participant, created on first use; returns the digest.

        Raises ExchangeError 2008, 2031, 2056 as for anyone, ValueError if the subaccount is a real one.
        """
        self._house_orders += 1
        order = Order(
            digest=f"0x{(1 << 255) + self._house_orders:064x}",
            product_id=product_id,
            account=self.accounts.open(subaccount, is_house=True),
            price_x18=price_x18,
            amount_x18=amount_x18,
            remaining_x18=abs(amount_x18),
            order_type=OrderType(order_type),
            reduce_only=False,
            expiration_s=expiration_s,
            nonce=0,
            appendix=1 | int(order_type) << 9,
            placed_ns=self.clock.now_ns(),
        )
        with self._core.step():
            self._core.match(order, order.remaining_x18)
        return order.digest

    def house_cancel(self, subaccount: str, product_id: int, digest: str) -> bool:
        """Whether the order still rested; it does not any more."""
        self._core.expire()
        order = self.books[product_id].orders.get(digest)
        if order is None or order.account.id != subaccount or not order.account.is_house:
            return False
        with self._core.step():
            self._core.cancel([order])
        return True
