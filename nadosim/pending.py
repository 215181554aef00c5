"""Executes that passed the checks of entry and wait out the exchange's delay."""

from __future__ import annotations

from dataclasses import dataclass

from .accounts import Subaccount
from .engine import Order
from .records import ExecuteRecord
from .requests import Appendix, PlaceRequest, ReplaceRequest


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
        fields = self.request.order
        return Order(
            digest=self.digest,
            product_id=self.request.product_id,
            account=self.account,
            price_x18=fields.price_x18,
            amount_x18=fields.amount_x18,
            remaining_x18=abs(fields.amount_x18) - self.already_filled_x18,
            order_type=self.appendix.order_type,
            reduce_only=self.appendix.reduce_only,
            expiration_s=fields.expiration_s,
            nonce=fields.nonce,
            appendix=fields.appendix,
            placed_ns=now_ns,
            client_id=self.request.client_id,
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
