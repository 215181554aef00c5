"""The exchange without I/O: requests in, replies and steps out.

An order passes two calls, because the exchange holds every order that is not post-only for 30 ms:
`validate_place` makes the checks of entry, the caller waits `pending.delay_ns`, `commit_place` matches.
The caller must commit what it has validated: the digest is reserved in between.

Simulated participants (`house_*`) trade through the same books and balances, without signature or delay.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from . import truth
from .accounts import ZERO_ADDRESS, Accounts
from .archive import Archive
from .clock import Clock
from .config import ExchangeConfig
from .engine import Book, Order, SideName
from .entry import EntryChecks
from .errors import ExchangeError
from .expiry import Expiries, UsedDigests
from .health import Change, HealthRules, Margin
from .pending import PendingOrder, PendingReplace
from .products import Product
from .queries import Queries, order_view
from .records import ExecuteRecord, History
from .requests import (
    Appendix,
    CancelRequest,
    OrderType,
    PlaceRequest,
    parse_cancel,
    parse_cancel_products,
    parse_link_signer,
    parse_place,
    parse_replace,
)
from .signatures import check_signer
from .steps import Step, StepWriter
from .x18 import NS_PER_S, ONE, mul_x18

__all__ = ["ACTIVE", "NEVER_S", "Exchange", "PendingOrder", "PendingReplace", "Step"]

DEFAULT_NAME: Final = b"default".ljust(12, b"\0").hex()
NEVER_S: Final = (1 << 32) - 1
ACTIVE: Final = "active"
LINK_SIGNER_MIN_X18: Final = 5 * ONE


class Exchange:
    """Products, accounts, books, and the rules between them. Single-threaded; nothing here waits.

    on_step is called once per engine step that changed anything, before the request that caused it returns.
    status, reported_chain_id: what the `status` and `contracts` queries claim; executes are refused (1004)
    unless the status is `active`.
    """

    def __init__(self, config: ExchangeConfig, clock: Clock, on_step: Callable[[Step], None]) -> None:
        self.config = config
        self.clock = clock
        self.status = ACTIVE
        self.reported_chain_id = config.chain_id
        self.products: dict[int, Product] = {p.product_id: p for p in config.products}
        self.books: dict[int, Book] = {p.product_id: Book(p.product_id) for p in config.products if p.is_perp}
        self.accounts = Accounts(config.products)
        self.health = HealthRules(self.products, self.accounts)
        self.history = History(config.history_limit)
        self.last_step_ns = clock.step_ns()
        self._on_step = on_step
        self._checks = EntryChecks(config, clock, self.products, self.books, self.accounts)
        self._writer = StepWriter(self.products, self.books, self.accounts, self.health, self.history)
        self._queries = Queries(self)
        self._archive = Archive(self.history)
        self._in_flight: set[str] = set()
        self._used_digests = UsedDigests()
        self._expiries = Expiries()
        self._house_orders = 0

    # ---- executes

    def validate_place(self, request: object) -> PendingOrder:
        """Entry checks of one `place_order` value. Raises ExchangeError."""
        record = self.history.executed(self.clock.now_ns(), "place_order")
        with _outcome(record, is_last=False):
            self._require_active()
            return self._validate(parse_place(request), record)

    def commit_place(self, pending: PendingOrder) -> dict[str, Any]:
        """Let a validated order into the engine; reply data. Raises ExchangeError."""
        with _outcome(pending.record, is_last=True), self._step():
            self._enter(pending)
        return {"digest": pending.digest}

    def cancel_orders(self, request: object) -> dict[str, Any]:
        """All of the named orders or none: 2020 if one does not rest, 2124 if one has traded since."""
        record = self.history.executed(self.clock.now_ns(), "cancel_orders")
        with _outcome(record, is_last=True):
            self._require_active()
            cancel = parse_cancel(request)
            record.sender, record.digests = cancel.sender, cancel.digests
            self._check_cancel(cancel)
            with self._step():
                return {"cancelled_orders": self._cancel(self._find_cancels(cancel))}

    def cancel_product_orders(self, request: object) -> dict[str, Any]:
        """Every resting order of the sender in these products, in all products if none is named."""
        record = self.history.executed(self.clock.now_ns(), "cancel_product_orders")
        with _outcome(record, is_last=True):
            self._require_active()
            cancel = parse_cancel_products(request)
            record.sender = cancel.sender
            self._checks.recv_time(cancel.nonce)
            digest = self._checks.verifier.cancel_products_digest(cancel)
            self._checks.signer(digest, cancel.signature, cancel.sender)
            self._checks.product_ids(cancel.product_ids)
            with self._step():
                product_ids = dict.fromkeys(cancel.product_ids or self.books)
                found = [o for pid in product_ids for o in self.books[pid].of_account(cancel.sender)]
                return {"cancelled_orders": self._cancel(found)}

    def validate_cancel_and_place(self, request: object) -> PendingReplace:
        """Entry checks of both halves; nothing is cancelled yet. Raises ExchangeError."""
        record = self.history.executed(self.clock.now_ns(), "cancel_and_place")
        with _outcome(record, is_last=False):
            self._require_active()
            replace = parse_replace(request)
            signer = self._check_cancel(replace.cancel)
            if replace.cancel.sender != replace.place.order.sender:
                raise ExchangeError(2066)
            place = self._validate(replace.place, record)
            if signer != place.signer:
                self._in_flight.discard(place.digest)
                raise ExchangeError(2066)
            return PendingReplace(replace, place)

    def commit_cancel_and_place(self, pending: PendingReplace) -> dict[str, Any]:
        """Cancel, then place, in one step.

        2121: nothing happened. 2120, or a code of the order itself: cancelled, not placed.
        """
        with _outcome(pending.place.record, is_last=True), self._step():
            self._in_flight.discard(pending.digest)
            try:
                found = self._find_cancels(pending.request.cancel)
            except ExchangeError:
                raise ExchangeError(2121) from None
            self._cancel(found)
            if pending.request.requires_unfilled and any(order.filled_x18 for order in found):
                raise ExchangeError(2120)
            self._enter(pending.place)
        return {"digest": pending.digest}

    def link_signer(self, request: object) -> None:
        """Let another key sign for a subaccount; zero bytes revoke. Only the wallet itself may do it."""
        record = self.history.executed(self.clock.now_ns(), "link_signer")
        with _outcome(record, is_last=True):
            self._require_active()
            link = parse_link_signer(request)
            record.sender = link.sender
            check_signer(self._checks.verifier.link_signer_digest(link), link.signature, link.sender[:42])
            account = self._checks.account(link.sender)
            if link.nonce != self.accounts.tx_nonces.get(account.address, 0):
                raise ExchangeError(2022)
            signer = link.signer[:42]
            if signer != ZERO_ADDRESS and signer == account.linked_signer:
                raise ExchangeError(2026)
            if self.health.health_x18(account, Margin.UNWEIGHTED) < LINK_SIGNER_MIN_X18:
                raise ExchangeError(2025)
            account.linked_signer = signer
            self.accounts.tx_nonces[account.address] = link.nonce + 1

    def authenticate(self, sender_hex: str, expiration_ms: int, signature: str) -> None:
        """Check a StreamAuthentication: signed by the wallet itself, expiring within 100 s.

        Raises ExchangeError.
        """
        self._checks.deadline(expiration_ms)
        sender = sender_hex.lower()
        check_signer(self._checks.verifier.stream_auth_digest(sender, expiration_ms), signature, sender[:42])

    # ---- reading

    def query(self, request: Mapping[str, Any]) -> Any:
        """`data` of a gateway query. Values may be strings or numbers. Raises ExchangeError."""
        self.expire()
        return self._queries.answer(request)

    def archive(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Answer of the archive to `orders` or `matches`. Raises ExchangeError."""
        return self._archive.answer(request)

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

    def fund(self, address_or_subaccount: str, amount_x18: int) -> str:
        """Deposit USDT0 to a subaccount, or to the `default` one of an address; returns its id."""
        subaccount = address_or_subaccount.lower()
        if len(subaccount) == 42:
            subaccount += DEFAULT_NAME
        if len(subaccount) != 66 or not subaccount.startswith("0x"):
            raise ValueError("neither an address nor a subaccount")
        bytes.fromhex(subaccount[2:])
        account = self.accounts.open(subaccount)
        with self._step():
            self.accounts.deposit(account, amount_x18)
            self._writer.deposited(account)
        return subaccount

    def set_oracle(self, product_id: int, price_x18: int) -> None:
        self.accounts.states[product_id].oracle_price_x18 = price_x18

    def pay_funding(self, product_id: int, payment_x18: int) -> None:
        """Longs pay payment_x18 of quote per unit of base to shorts."""
        self.accounts.pay_funding(product_id, payment_x18)

    def expire(self) -> None:
        """Take resting orders whose expiration has passed off the books, in a step of their own."""
        now_s = self.clock.now_ns() // NS_PER_S
        if not self._expiries.is_due(now_s):
            return
        self._begin()
        for order in self._expiries.pop_due(now_s):
            self.books[order.product_id].remove(order)
            self._writer.ended(order, "expired")
        self._publish()

    def publish(self, step: Step) -> None:
        """Hand on a step that did not come from this engine: recorded trades."""
        self.last_step_ns = step.timestamp_ns
        self._on_step(step)

    def wipe_orders(self) -> None:
        """Take every resting order of real accounts off the books: a restart that kept balances only."""
        with self._step():
            for book in self.books.values():
                self._cancel([order for order in book.orders.values() if not order.account.is_house])

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
        with self._step():
            self._match(order, order.remaining_x18)
        return order.digest

    def house_cancel(self, subaccount: str, product_id: int, digest: str) -> bool:
        """Whether the order still rested; it does not any more."""
        self.expire()
        order = self.books[product_id].orders.get(digest)
        if order is None or order.account.id != subaccount or not order.account.is_house:
            return False
        with self._step():
            self._cancel([order])
        return True

    # ---- inside

    def _require_active(self) -> None:
        if self.status != ACTIVE:
            raise ExchangeError(1004)

    def _validate(self, request: PlaceRequest, record: ExecuteRecord) -> PendingOrder:
        order = request.order
        record.sender = order.sender
        self._checks.recv_time(order.nonce)
        digest = self._checks.verifier.order_digest(request.product_id, order)
        record.digests = (digest,)
        signer = self._checks.signer(digest, request.signature, order.sender)
        account = self._checks.account(order.sender)
        appendix = Appendix.unpack(order.appendix)
        self._checks.order(request, appendix)
        already_filled = self._check_digest(digest, request.product_id)
        self._checks.open_orders(account, request.product_id)
        self._in_flight.add(digest)
        is_delayed = appendix.order_type is not OrderType.POST_ONLY
        return PendingOrder(
            request=request,
            appendix=appendix,
            account=account,
            signer=signer,
            digest=digest,
            delay_ns=self.config.taker_delay_ns if is_delayed else 0,
            already_filled_x18=already_filled,
            record=record,
        )

    def _check_digest(self, digest: str, product_id: int) -> int:
        """What an order of this digest has filled before; 2013 if it may not come again."""
        if digest in self._in_flight or digest in self.books[product_id].orders:
            raise ExchangeError(2013)
        if digest not in self._used_digests:
            return 0
        earlier = self.history.order(digest)
        if self.config.dead_digest == "reject" or earlier is None or earlier.order.remaining_x18 == 0:
            raise ExchangeError(2013)
        return earlier.order.filled_x18

    def _check_cancel(self, cancel: CancelRequest) -> str:
        """Checks of a cancel that need no book; returns the signer."""
        if len(cancel.product_ids) != len(cancel.digests):
            raise ExchangeError(2039)
        self._checks.recv_time(cancel.nonce)
        digest = self._checks.verifier.cancel_digest(cancel)
        signer = self._checks.signer(digest, cancel.signature, cancel.sender)
        self._checks.product_ids(cancel.product_ids)
        if cancel.required_unfilled_x18 is not None and len(cancel.digests) != 1:
            raise ExchangeError(2123)
        return signer

    def _find_cancels(self, cancel: CancelRequest) -> list[Order]:
        found: dict[str, Order] = {}
        for product_id, digest in zip(cancel.product_ids, cancel.digests, strict=True):
            order = self.books[product_id].orders.get(digest)
            if order is None or digest in found:
                raise ExchangeError(2020)
            if order.account.id != cancel.sender:
                raise ExchangeError(2014)
            if cancel.required_unfilled_x18 not in (None, order.unfilled_x18):
                raise ExchangeError(2124)
            found[digest] = order
        return list(found.values())

    def _cancel(self, orders: list[Order]) -> list[dict[str, Any]]:
        for order in orders:
            self.books[order.product_id].remove(order)
            self._writer.ended(order, "cancelled")
        return [order_view(order) for order in orders if not order.account.is_house]

    def _enter(self, pending: PendingOrder) -> None:
        """The second half of the entry pipeline: after the delay, inside a step."""
        self._in_flight.discard(pending.digest)
        self._checks.expiration(pending.request.order.expiration_s)
        order = pending.order(self.clock.now_ns())
        quantity = self._quantity(order)
        self._require_health(order, quantity)
        if order.order_type is OrderType.POST_ONLY and self.books[order.product_id].crosses(order):
            raise ExchangeError(2008)
        self._used_digests.add(order.digest, order.nonce >> 20, self.clock.now_ms())
        self.history.opened(order)
        self._match(order, quantity)

    def _quantity(self, order: Order) -> int:
        """What the order may trade now: all of it, or for reduce-only no more than the opposite position."""
        if not order.reduce_only:
            return order.remaining_x18
        position = self.accounts.position_x18(order.account, order.product_id)
        if position == 0 or (position > 0) == order.is_buy:
            raise ExchangeError(2064)
        step = self.products[order.product_id].size_increment_x18
        return min(order.remaining_x18, abs(position) // step * step)

    def _require_health(self, order: Order, quantity_x18: int) -> None:
        """Initial health as if the order filled at its own price, the worst it can get."""
        base = quantity_x18 if order.is_buy else -quantity_x18
        change = Change(base, -mul_x18(base, order.price_x18))
        if not self.health.allows(order.account, order.product_id, change):
            raise ExchangeError(2006)

    def _match(self, order: Order, quantity_x18: int) -> None:
        """Order type rules: trade, rest, or die. Raises ExchangeError when nothing of it came to be."""
        book = self.books[order.product_id]
        start_x18 = order.remaining_x18
        failure: int | None = None
        if order.order_type is OrderType.POST_ONLY:
            if book.crosses(order):
                raise ExchangeError(2008)
        elif order.order_type is OrderType.FOK and not book.can_fill(order, quantity_x18, self._writer):
            failure = 2031
        else:
            book.take(order, quantity_x18, self._writer)
        if order.remaining_x18 == 0:
            return
        if not order.order_type.is_taker:
            book.rest(order)
            self._writer.placed(order)
            if not order.account.is_house or order.expiration_s < NEVER_S:
                self._expiries.add(order)
            return
        if order.remaining_x18 == start_x18:
            failure = failure or 2056
        self._kill(order, failure)

    def _kill(self, order: Order, failure: int | None) -> None:
        """End a taker order with something left. failure: code if none of it traded."""
        why = {None: "remainder", 2031: "not_fillable", 2056: "no_cross"}[failure]
        answer = self.config.kill_answer if failure is not None else "event"
        self._writer.ended(order, why, is_told=answer != "failure")
        if failure is not None and answer != "event":
            raise ExchangeError(failure)

    @contextmanager
    def _step(self) -> Iterator[None]:
        """One engine step: expiries first, then the body; published even if the body ends in a refusal."""
        self.expire()
        self._begin()
        try:
            yield
        finally:
            self._publish()

    def _begin(self) -> None:
        self._writer.begin(self.clock.step_ns())

    def _publish(self) -> None:
        step = self._writer.finish()
        if not step.is_empty:
            self.last_step_ns = step.timestamp_ns
            self._on_step(step)


@contextmanager
def _outcome(record: ExecuteRecord, *, is_last: bool) -> Iterator[None]:
    """Note how an execute ended."""
    try:
        yield
    except ExchangeError as error:
        record.error_code = error.code
        record.is_done = True
        raise
    if is_last:
        record.is_done = True
