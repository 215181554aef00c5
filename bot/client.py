"""`NadoClient`: one product's exchange interface. It cannot be built without a gate.

Both clients of the pair are views on one feed and one gateway: two products, one set of sockets.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from nadofast.gateway import OrderGateway, OrderRequest, Outcome
from nadofast.products import Product, from_x18, to_x18
from nadofast.signing import OrderType
from nadofast.timesync import TimeSync

from .market import Market, Quote
from .risk import CLIENT_ID_BASE, ApprovedOrder, Decision, OrderIntent, Purpose, RiskGate

IOC_TTL_S: Final = 60


class NadoClient:
    """Quotes and orders of one product. Raises TypeError when built without a risk gate.

    discard_ms: an entry that reaches the engine later than this is dropped there; 0 = as measured.
    """

    def __init__(
        self,
        product: Product,
        *,
        market: Market,
        gateway: OrderGateway,
        gate: RiskGate,
        timesync: TimeSync,
        discard_ms: int = 0,
    ) -> None:
        if not isinstance(gate, RiskGate):
            raise TypeError("NadoClient needs a RiskGate: no order leaves without one")
        self.product = product
        self._discard_ms = discard_ms
        self._market = market
        self._gateway = gateway
        self._gate = gate
        self._timesync = timesync

    @staticmethod
    def get_exchange_name() -> str:
        return "nado"

    def round_to_tick(self, price: Decimal) -> Decimal:
        """The nearest price on the tick grid; a half goes up."""
        price_x18, tick_x18 = to_x18(price), self.product.price_increment_x18
        return from_x18((price_x18 + tick_x18 // 2) // tick_x18 * tick_x18)

    def quote(self) -> Quote:
        """Touch and age now, from the stream, or from REST while the stream is down."""
        return self._market.quote(self.product.product_id)

    def approve(self, intent: OrderIntent) -> Decision:
        """Ask the gate. The decision is falsy with reasons when the order may not leave."""
        if intent.product_id != self.product.product_id:
            return Decision(None, (f"malformed: product {intent.product_id} is not {self.product.symbol}",))
        return self._gate.check(intent)

    def request(self, order: ApprovedOrder) -> OrderRequest:
        """An approved order in the gateway's terms. Raises OrderDenied while the clock offset is unknown."""
        intent = order.intent
        now_ms = self._timesync.exchange_now_ms()
        rests = intent.purpose is Purpose.REST
        # Whole seconds, rounded down: the order never outlives its time to live.
        expiration_s = (now_ms + intent.ttl_ms) // 1000 if rests else now_ms // 1000 + IOC_TTL_S
        return OrderRequest(
            product_id=intent.product_id,
            price_x18=intent.price_x18,
            amount_x18=intent.amount_x18,
            order_type=OrderType.POST_ONLY if rests else OrderType.IOC,
            reduce_only=intent.purpose is Purpose.TAKE,
            expiration_s=expiration_s,
            discard_after_ms=self._entry_discard_ms() if intent.discard else None,
            client_id=CLIENT_ID_BASE + intent.tag,
        )

    def _entry_discard_ms(self) -> int:
        """The configured time after which the engine drops an entry, or what the gateway measured."""
        return self._discard_ms or self._gateway.entry_discard_ms

    async def send(self, order: ApprovedOrder) -> Outcome:
        """Send one approved order."""
        return await self._gateway.place(self.request(order))

    async def cancel(self, digest: str) -> Outcome:
        """Ask for the end of one order. Only the exchange ends it: read the outcome."""
        return await self._gateway.cancel(self.product.product_id, digest)
