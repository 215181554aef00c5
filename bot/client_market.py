"""The market and the account of a `NadoClient` by their historical names. Decimals in and out.

What is not known raises (`BookInvalid`, `InsufficientDepth`): no number here means "no data" and reads as
"fine". The one exception is the `(0, 0)` of `fetch_bbo_prices`, which callers of old know.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final

from nadofast.depthsignals import NadoBookDepthHandler
from nadofast.errors import NadoError
from nadofast.products import X18, from_x18, to_x18
from nadofast.signals import NadoBBOHandler

from .client_parts import ClientParts, sign_of
from .execution import entry_price_x18, rest_price_x18
from .order_results import query_retry

BBO_ATTEMPTS: Final = 3
MAX_BBO_AGE_MS: Final = 2_000
"""A stream that was silent for longer is not asked for a price; REST is."""
EXIT_SLIPPAGE_BPS: Final = 20
LIQUIDITY_LEVELS: Final = 20


class MarketNames(ClientParts):
    """Prices, liquidity, positions."""

    _bbo_handler: NadoBBOHandler | None = None
    _depth_handler: NadoBookDepthHandler | None = None

    @staticmethod
    def get_exchange_name() -> str:
        return "nado"

    def round_to_tick(self, price: Decimal) -> Decimal:
        """The nearest price on the tick grid; a half goes up."""
        price_x18, tick_x18 = to_x18(price), self.product.price_increment_x18
        return from_x18((price_x18 + tick_x18 // 2) // tick_x18 * tick_x18)

    async def get_contract_attributes(self) -> tuple[int, Decimal]:
        """(product id, tick size), as the exchange states them; the configuration is filled with them."""
        product, config = self.product, self.config
        config.ticker = config.ticker or product.symbol.removesuffix("-PERP")
        config.contract_id = product.product_id
        config.tick_size = from_x18(product.price_increment_x18)
        config.min_size = from_x18(product.min_size_x18)
        return config.contract_id, config.tick_size

    # ------------------------------------------------------------------ prices

    async def fetch_bbo_prices(self, contract_id: int | str) -> tuple[Decimal, Decimal]:
        """(bid, ask) from the stream while it is fresh, else from REST; (0, 0) after three failures there: no
        price to size by."""
        self._is_own(contract_id)
        quote = self.quote()
        if quote.is_two_sided and quote.age_ms <= MAX_BBO_AGE_MS:
            return from_x18(quote.bid_x18), from_x18(quote.ask_x18)
        return await self._bbo_over_rest()

    @query_retry((Decimal(0), Decimal(0)), NadoError, BBO_ATTEMPTS, 0.1, 1.0)
    async def _bbo_over_rest(self) -> tuple[Decimal, Decimal]:
        price = await self._books().rest.market_price(self.product.product_id)
        return from_x18(price.bid_x18 or 0), from_x18(price.ask_x18 or 0)

    async def get_order_price(self, direction: str) -> Decimal:
        """Where an order of this direction would rest now. Raises ValueError without two sides."""
        return from_x18(self._resting_price_x18(sign_of(direction)))

    def _resting_price_x18(self, side: int) -> int:
        quote = self.quote()
        if not quote.is_two_sided:
            raise ValueError(f"{self.product.symbol}: no price on one side")
        return rest_price_x18(self.product, side, quote.bid_x18, quote.ask_x18)

    # ------------------------------------------------------------------ signals and liquidity

    def get_bbo_handler(self) -> NadoBBOHandler | None:
        """Signals of the best bid and offer; None before `connect` and while the stream is down."""
        return self._bbo_handler if self._streams().is_live else None

    def get_bookdepth_handler(self) -> NadoBookDepthHandler | None:
        """Signals of the book; None before `connect` and while the stream is down."""
        return self._depth_handler if self._streams().is_live else None

    def has_ws_market_data(self) -> bool:
        """The stream is live, the book valid, and the best bid and offer came over the stream."""
        feed, product_id = self._streams(), self.product.product_id
        return feed.is_live and feed.book(product_id).is_valid and feed.bbo(product_id).source == "stream"

    async def estimate_slippage(self, side: str, quantity: Decimal) -> Decimal:
        """What taking `quantity` now costs against the best price, in bps. Raises InsufficientDepth where the
        known book does not hold that much, BookInvalid while there is none."""
        return self._depth().estimate_slippage(side, quantity)

    async def get_available_liquidity(self, side: str, max_depth: int = LIQUIDITY_LEVELS) -> Decimal:
        """Quantity an order of `side` would find on the best levels. Raises BookInvalid."""
        return self._depth().get_available_liquidity(side, max_depth)

    async def check_exit_capacity(
        self, position: Decimal, max_slippage_bps: int = EXIT_SLIPPAGE_BPS
    ) -> tuple[bool, Decimal]:
        """(whether the whole signed position could leave at an average price so near to the best one, how
        much of it could). Raises BookInvalid, and InsufficientDepth where the known book ends before that is
        certain: a book that is not there is neither deep nor thin."""
        return self._depth().estimate_exit_capacity(position, max_slippage_bps)

    def _depth(self) -> NadoBookDepthHandler:
        """A reader of the live book."""
        return NadoBookDepthHandler(self._streams().book(self.product.product_id))

    def _cap_x18(self, side: int, cap_bps: int) -> int:
        """Worst price of an order of this side, from the mid now. Raises ValueError without two sides."""
        quote = self.quote()
        if not quote.is_two_sided:
            raise ValueError(f"{self.product.symbol}: no price on one side")
        return entry_price_x18(self.product, side, quote.mid_x18, cap_bps)

    def _inside_cap_x18(self, side: int, price_x18: int) -> int:
        """Known quantity at this price or better. Raises BookInvalid."""
        book = self._streams().book(self.product.product_id)
        book.liquidity_x18("buy", 1)  # raises while the book may not be read
        bids, asks = book.known_levels
        levels = book.asks(asks) if side > 0 else book.bids(bids)
        return sum(qty for price, qty in levels if (price_x18 - price) * side >= 0)

    # ------------------------------------------------------------------ account

    async def get_account_positions(self) -> Decimal:
        """The exchange's own signed position. Raises what REST raises."""
        return from_x18(await self._books().position_x18(self.product.product_id))

    async def verify_leverage(self) -> dict[str, Any]:
        """equity and notional (quote tokens, oracle prices), leverage of the account, max_leverage of this
        product, and whether the one is within the other. Raises what REST raises."""
        info = await self._books().rest.subaccount_info(self._gateway.subaccount)
        notional_x18 = sum(
            abs(balance.amount_x18) * info.oracle_x18.get(product_id, 0) // X18
            for product_id, balance in info.perp.items()
        )
        equity_x18 = info.equity_x18
        leverage = Decimal(notional_x18) / Decimal(equity_x18) if equity_x18 > 0 else None
        highest = Decimal(X18) / Decimal(X18 - self.product.long_weight_initial_x18)
        return {
            "equity": from_x18(equity_x18),
            "notional": from_x18(notional_x18),
            "leverage": leverage,
            "max_leverage": highest,
            "is_within": notional_x18 == 0 or (leverage is not None and leverage <= highest),
        }
