"""Executes that bring orders: place_order, place_orders, cancel_and_place.

Each passes two calls, because the exchange holds what is not post-only: `validate_*` makes the checks of
entry, the caller waits `delay_ns`, `commit_*` matches. A validated order's digest is reserved in between.
"""

from __future__ import annotations

from typing import Any

from .cancels import Cancels
from .core import Core
from .engine import Order
from .errors import ExchangeError
from .expiry import UsedDigests
from .pending import PendingBatch, PendingOrder, PendingReplace
from .records import ExecuteRecord
from .requests import Appendix, OrderType, PlaceRequest, parse_batch, parse_place, parse_replace


class OrderEntry:
    """The way of signed orders into the engine."""

    def __init__(self, core: Core, cancels: Cancels) -> None:
        self._core = core
        self._cancels = cancels
        self._in_flight: set[str] = set()
        self._used_digests = UsedDigests()

    # ---- place_order

    def validate_place(self, request: object) -> PendingOrder:
        """Entry checks of one `place_order` value. Raises ExchangeError."""
        record = self._record("place_order")
        with self._core.outcome(record, is_last=False):
            self._core.require_active()
            return self._validate(parse_place(request), record)

    def commit_place(self, pending: PendingOrder) -> dict[str, Any]:
        """Let a validated order into the engine; reply data. Raises ExchangeError."""
        with self._core.outcome(pending.record, is_last=True):
            self._in_flight.discard(pending.digest)
            with self._core.step():
                self._enter(pending)
        return {"digest": pending.digest}

    # ---- place_orders

    def validate_batch(self, request: object) -> PendingBatch:
        """Entry checks of every order; a refused one does not stop the others unless so asked.

        Raises ExchangeError if the request as a whole is refused.
        """
        whole = self._record("place_orders")
        with self._core.outcome(whole, is_last=False):
            self._core.require_active()
            batch = parse_batch(request)
        whole.is_done = True
        entries: list[PendingOrder | ExchangeError] = []
        for place in batch.orders:
            record = self._record("place_orders")
            try:
                with self._core.outcome(record, is_last=False):
                    entries.append(self._validate(place, record))
            except ExchangeError as error:
                entries.append(error)
                if batch.stop_on_failure:
                    break
        delay_ns = max((e.delay_ns for e in entries if isinstance(e, PendingOrder)), default=0)
        skipped = len(batch.orders) - len(entries)
        entries += [ExchangeError(2050, "An earlier order of the request failed.")] * skipped
        return PendingBatch(
            tuple(entries), batch.stop_on_failure, self._core.config.batch_delay_ns + delay_ns
        )

    def commit_batch(self, pending: PendingBatch) -> Any:
        """One step per order. Reply data names each order's digest or error."""
        results: list[dict[str, str | None]] = []
        stop: ExchangeError | None = None
        for entry in pending.entries:
            try:
                if isinstance(entry, ExchangeError):
                    raise entry
                if stop is not None:
                    self._give_up(entry, stop)
                results.append({"digest": self.commit_place(entry)["digest"], "error": None})
            except ExchangeError as error:
                results.append({"digest": None, "error": error.text})
                if pending.stop_on_failure and stop is None:
                    stop = ExchangeError(2050, "An earlier order of the request failed.")
        return results if self._core.config.place_orders_shape == "array" else {"place_orders": results}

    # ---- cancel_and_place

    def validate_replace(self, request: object) -> PendingReplace:
        """Entry checks of both halves; nothing is cancelled yet. Raises ExchangeError."""
        record = self._record("cancel_and_place")
        with self._core.outcome(record, is_last=False):
            self._core.require_active()
            replace = parse_replace(request)
            signer = self._cancels.check(replace.cancel)
            if replace.cancel.sender != replace.place.order.sender:
                raise ExchangeError(2066)
            frees_room = replace.place.product_id in replace.cancel.product_ids
            place = self._validate(replace.place, record, frees_room=frees_room)
            if signer != place.signer:
                self._in_flight.discard(place.digest)
                raise ExchangeError(2066)
            return PendingReplace(replace, place)

    def commit_replace(self, pending: PendingReplace) -> dict[str, Any]:
        """Cancel, then place, in one step.

        2121: nothing happened. 2120, or a code of the order itself: cancelled, not placed.
        """
        core = self._core
        with core.outcome(pending.place.record, is_last=True):
            self._in_flight.discard(pending.digest)
            with core.step():
                try:
                    found = self._cancels.find(pending.request.cancel)
                except ExchangeError:
                    raise ExchangeError(2121) from None
                asked = pending.request.requires_unfilled
                must_be_whole = core.config.requires_unfilled if asked is None else asked
                is_stopped = must_be_whole and any(order.filled_x18 for order in found)
                if is_stopped and core.config.partly_filled_cancel == "undone":
                    raise ExchangeError(2120)
                core.cancel(found)
                if is_stopped:
                    raise ExchangeError(2120)
                self._enter(pending.place)
        return {"digest": pending.digest}

    # ---- inside

    def _record(self, kind: str) -> ExecuteRecord:
        return self._core.history.executed(self._core.clock.now_ns(), kind)

    def _validate(
        self, request: PlaceRequest, record: ExecuteRecord, *, frees_room: bool = False
    ) -> PendingOrder:
        """frees_room: an order of its market goes before this one comes: they are counted only then."""
        core, order = self._core, request.order
        record.sender = order.sender
        digest = core.checks.verifier.order_digest(request.product_id, order)
        record.digests = (digest,)
        signer = core.checks.envelope(digest, request.signature, order.sender, order.nonce)
        account = core.checks.account(order.sender)
        appendix = Appendix.unpack(order.appendix)
        core.checks.order(request, appendix, account)
        already_filled = self._check_digest(digest, request.product_id)
        if not frees_room:
            core.checks.open_orders(account, request.product_id)
        core.checks.trading_status(request.product_id, appendix)
        self._in_flight.add(digest)
        is_delayed = appendix.order_type is not OrderType.POST_ONLY
        return PendingOrder(
            request=request,
            appendix=appendix,
            account=account,
            signer=signer,
            digest=digest,
            delay_ns=core.config.taker_delay_ns if is_delayed else 0,
            already_filled_x18=already_filled,
            record=record,
        )

    def _check_digest(self, digest: str, product_id: int) -> int:
        """What an order of this digest has filled before; 2013 if it may not come again."""
        core = self._core
        if digest in self._in_flight or digest in core.books[product_id].orders:
            raise ExchangeError(2013)
        if digest not in self._used_digests:
            return 0
        earlier = core.history.order(digest)
        if core.config.dead_digest == "reject" or earlier is None or earlier.order.remaining_x18 == 0:
            raise ExchangeError(2013)
        return earlier.order.filled_x18

    def _enter(self, pending: PendingOrder) -> None:
        """The second half of the entry pipeline: after the delay, inside a step."""
        core = self._core
        fields = pending.request.order
        if core.config.recheck_recv_time:
            core.checks.recv_time(fields.nonce)
        core.checks.expiration(fields.expiration_s)
        core.checks.open_orders(pending.account, pending.request.product_id)
        order = pending.order(core.clock.now_ns())
        quantity = core.quantity_x18(order)
        core.require_means(order, quantity)
        self._check_book(order)
        self._used_digests.add(order.digest, order.nonce >> 20, core.clock.now_ms())
        core.history.opened(order)
        core.match(order, quantity)

    def _check_book(self, order: Order) -> None:
        """Refusals that depend on what rests right now: 2008, 2073."""
        book = self._core.books[order.product_id]
        if order.order_type is OrderType.POST_ONLY and book.crosses(order):
            raise ExchangeError(2008)
        if self._core.config.self_trade == "reject_taker" and book.meets_own(order):
            raise ExchangeError(2073)

    def _give_up(self, pending: PendingOrder, why: ExchangeError) -> None:
        """Drop a validated order of a batch that stopped before it."""
        self._in_flight.discard(pending.digest)
        pending.record.error_code, pending.record.is_done = why.code, True
        raise why
