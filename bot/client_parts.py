"""What every part of a `NadoClient` stands on: one product, the gate, and the way of an approved order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from nadofast.errors import ConfigError
from nadofast.feed import Feed
from nadofast.gateway import OrderGateway, OrderRequest, Outcome
from nadofast.products import Product, from_x18
from nadofast.secret import Secret, parse_private_key
from nadofast.signing import OrderType
from nadofast.timesync import TimeSync

from .market import Market, Quote
from .order_results import OrderUpdate
from .reconcile import Reconciler
from .risk import CLIENT_ID_BASE, ApprovedOrder, Decision, OrderIntent, Purpose, RiskGate

IOC_TTL_S: Final = 60
_ADDRESS_DIGITS: Final = 2 + 40
UpdateHandler = Callable[[OrderUpdate], object]
"""Gets every update of an order; what it returns is awaited if it can be."""


@dataclass(slots=True)
class ClientConfig:
    """What a client is for. contract_id, tick_size and min_size (quote tokens) are what the caller expects;
    None takes over what the exchange states, and `get_contract_attributes` fills it in."""

    ticker: str = ""
    contract_id: int | None = None
    tick_size: Decimal | None = None
    quantity: Decimal | None = None
    min_size: Decimal | None = None
    direction: str = "buy"

    @property
    def close_order_side(self) -> str:
        """The side that ends a position of `direction`."""
        return "sell" if self.direction == "buy" else "buy"


class ClientParts:
    """Quotes and orders of one product. Raises TypeError when built without a risk gate, ConfigError when the
    configuration expects another product than the exchange's.

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
        feed: Feed | None = None,
        reconciler: Reconciler | None = None,
        config: ClientConfig | None = None,
    ) -> None:
        if not isinstance(gate, RiskGate):
            raise TypeError("NadoClient needs a RiskGate: no order leaves without one")
        self.product = product
        self.config = config or ClientConfig()
        self._discard_ms = discard_ms
        self._market = market
        self._gateway = gateway
        self._gate = gate
        self._timesync = timesync
        self._feed = feed
        self._reconciler = reconciler
        self._leave: list[Callable[[], None]] = []
        self._handlers: list[UpdateHandler] = []
        self._validate_config()

    def _validate_config(self, private_key: str | Secret | None = None) -> None:
        """Raises ConfigError where the configuration and the exchange differ, InvalidKey on a key that is
        none (an address, zero, too short), never showing any of it."""
        wanted = self.config
        facts = {
            "contract_id": (wanted.contract_id, self.product.product_id),
            "tick_size": (wanted.tick_size, from_x18(self.product.price_increment_x18)),
            "min_size": (wanted.min_size, from_x18(self.product.min_size_x18)),
        }
        for name, (expected, stated) in facts.items():
            if expected is not None and expected != stated:
                raise ConfigError(f"{self.product.symbol}: {name} is {stated}, not {expected} as configured")
        if wanted.direction not in ("buy", "sell"):
            raise ConfigError(f"direction {wanted.direction!r} is neither buy nor sell")
        if private_key is not None:
            parse_private_key(private_key)

    @property
    def owner_address(self) -> str:
        """The wallet whose orders these are: its own key's, or the one a linked signer signs for."""
        return self._gateway.subaccount[:_ADDRESS_DIGITS]

    def quote(self) -> Quote:
        """Touch and age now, from the stream, or from REST while the stream is down."""
        return self._market.quote(self.product.product_id)

    def approve(self, intent: OrderIntent, replaces: int | None = None) -> Decision:
        """Ask the gate. The decision is falsy with reasons when the order may not leave. replaces: tag of the
        order it takes the place of."""
        if intent.product_id != self.product.product_id:
            return Decision(None, (f"malformed: product {intent.product_id} is not {self.product.symbol}",))
        return self._gate.check(intent, replaces)

    def request(self, order: ApprovedOrder, order_type: OrderType | None = None) -> OrderRequest:
        """An approved order in the gateway's terms. order_type: post-only for one with a time to live, IOC
        for one without, unless told. Raises OrderDenied while the clock offset is unknown."""
        return self.foresee(order.intent, order_type)

    def foresee(self, intent: OrderIntent, order_type: OrderType | None = None) -> OrderRequest:
        """The request an intent would become, for orders signed ahead: it leaves only once it is approved."""
        now_ms = self._timesync.exchange_now_ms()
        # Whole seconds, rounded down: the order never outlives its time to live.
        expiration_s = (now_ms + intent.ttl_ms) // 1000 if intent.ttl_ms else now_ms // 1000 + IOC_TTL_S
        if order_type is None:
            order_type = OrderType.POST_ONLY if intent.ttl_ms else OrderType.IOC
        return OrderRequest(
            product_id=intent.product_id,
            price_x18=intent.price_x18,
            amount_x18=intent.amount_x18,
            order_type=order_type,
            reduce_only=intent.purpose is Purpose.TAKE,
            expiration_s=expiration_s,
            discard_after_ms=self._entry_discard_ms() if intent.discard else None,
            client_id=CLIENT_ID_BASE + intent.tag,
        )

    def _entry_discard_ms(self) -> int:
        """The configured time after which the engine drops an entry, or what the gateway measured."""
        return self._discard_ms or self._gateway.entry_discard_ms

    async def send(self, order: ApprovedOrder, order_type: OrderType | None = None) -> Outcome:
        """Send one approved order."""
        return await self._gateway.place(self.request(order, order_type))

    async def replace(self, digest: str, order: ApprovedOrder) -> Outcome:
        """Put an approved order in the place of another, in one step of the engine, and only while as much of
        that one is unfilled as this one is for. The outcome is the new order's. Raises OrderDenied while the
        clock offset is unknown."""
        request = self.request(order)
        return await self._gateway.cancel_and_place(
            self.product.product_id, digest, request, required_unfilled_x18=request.amount_x18
        )

    async def cancel(self, digest: str) -> Outcome:
        """Ask for the end of one order. Only the exchange ends it: read the outcome."""
        return await self._gateway.cancel(self.product.product_id, digest)

    def _streams(self) -> Feed:
        if self._feed is None:
            raise RuntimeError("this NadoClient was built without a feed")
        return self._feed

    def _books(self) -> Reconciler:
        if self._reconciler is None:
            raise RuntimeError("this NadoClient was built without a reconciler")
        return self._reconciler

    def _is_own(self, contract_id: int | str) -> None:
        """Raises ValueError: an order for another product is never sent for this one."""
        if str(contract_id) != str(self.product.product_id):
            raise ValueError(
                f"contract {contract_id!r} is not {self.product.product_id} ({self.product.symbol})"
            )


def sign_of(direction: str) -> int:
    """1 for buy, -1 for sell. Raises ValueError: a side that is not understood is never guessed."""
    try:
        return {"buy": 1, "sell": -1}[direction.lower()]
    except KeyError:
        raise ValueError(f"direction {direction!r} is neither buy nor sell") from None
