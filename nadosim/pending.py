"""Executes that passed the checks of entry and wait out the exchange's delay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from .accounts import Subaccount
from .engine import Order
from .errors import ExchangeError
from .isolated import MARGIN_UNIT_X18
from .records import ExecuteRecord
from .requests import Appendix, PlaceRequest, ReplaceRequest

BUILDER_RATE_UNIT_X18: Final = 10**13  # a tenth of a basis point


@dataclass(frozen=True, slots=True)
class PendingOrder:
    """A valid order on its way to the engine. Wait delay_ns, then commit it."""

    request: PlaceRequest
    appendix: Appendix
    account: Subaccount
    signer: str
    digest: str
    delay_ns: int
    already_filled_x18: int
    record: ExecuteRecord

    def order(self, now_ns: int) -> Order:
        """The engine's order; a digest that comes back counts on from what it had filled."""
        fields, appendix = self.request.order, self.appendix
        brings_margin = appendix.isolated and not appendix.reduce_only and not self.already_filled_x18
        return Order(
            digest=self.digest,
            product_id=self.request.product_id,
            account=self.account,
            price_x18=fields.price_x18,
            amount_x18=fields.amount_x18,
            remaining_x18=abs(fields.amount_x18) - self.already_filled_x18,
            order_type=appendix.order_type,
            reduce_only=appendix.reduce_only,
            expiration_s=fields.expiration_s,
            nonce=fields.nonce,
            appendix=fields.appendix,
            placed_ns=now_ns,
            client_id=self.request.client_id,
            is_isolated=appendix.isolated,
            margin_x18=appendix.value * MARGIN_UNIT_X18 if brings_margin else 0,
            may_borrow=self.request.borrow_margin is not False and self.request.spot_leverage is not False,
            builder_id=appendix.builder_id,
            builder_rate_x18=appendix.builder_fee_rate * BUILDER_RATE_UNIT_X18,
        )


@dataclass(frozen=True, slots=True)
class PendingReplace:
    """A valid cancel_and_place on its way to the engine."""

    request: ReplaceRequest
    place: PendingOrder

    @property
    def digest(self) -> str:
        return self.place.digest

    @property
    def delay_ns(self) -> int:
        return self.place.delay_ns


@dataclass(frozen=True, slots=True)
class PendingBatch:
    """A place_orders request on its way: each entry valid, or already refused."""

    entries: tuple[PendingOrder | ExchangeError, ...]
    stop_on_failure: bool
    delay_ns: int
