"""The v2 market data of gateway and archive: plain decimal numbers for people, never for signing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from .errors import ExchangeError
from .exchange import Exchange
from .products import QUOTE_PRODUCT_ID, Product
from .tape import Bar, Tape
from .x18 import ONE

MAX_DEPTH: Final = 100
MAX_TRADES: Final = 500
NAMES: Final[Mapping[str, str]] = {
    "BTC-PERP": "Bitcoin Perp",
    "ETH-PERP": "Ethereum Perp",
    "SOL-PERP": "Solana Perp",
}

Params = Mapping[str, str]


class Display:
    """Answers by the last part of the path."""

    def __init__(self, exchange: Exchange, tape: Tape) -> None:
        self._exchange = exchange
        self._tape = tape
        self._gateway: dict[str, Callable[[Params], Any]] = {
            "orderbook": self._orderbook,
            "pairs": self._pairs,
            "assets": self._assets,
            "apr": self._apr,
        }
        self._archive: dict[str, Callable[[Params], Any]] = {
            "tickers": self._tickers,
            "contracts": self._contracts,
            "trades": self._trades,
            "symbols": self._symbols,
        }

    def gateway(self, name: str, params: Params) -> Any:
        """None if there is no such page. Raises ExchangeError for bad parameters."""
        handler = self._gateway.get(name)
        return None if handler is None else handler(params)

    def archive(self, name: str, params: Params) -> Any:
        """Likewise."""
        handler = self._archive.get(name)
        return None if handler is None else handler(params)

    # Gateway ----------------------------------------------------------------------------------

    def _orderbook(self, params: Params) -> dict[str, Any]:
        product = self._named(params)
        depth = _integer(params, "depth", MAX_DEPTH, MAX_DEPTH) or 0
        bids, asks = self._exchange.depth(product.product_id, depth)
        return {
            "product_id": product.product_id,
            "ticker_id": _ticker_id(product),
            "bids": [[_plain(price), _plain(quantity)] for price, quantity in bids],
            "asks": [[_plain(price), _plain(quantity)] for price, quantity in asks],
            "timestamp": self._exchange.clock.now_ms(),
        }

    def _pairs(self, params: Params) -> list[dict[str, Any]]:
        return [
            {
                "product_id": product.product_id,
                "ticker_id": _ticker_id(product),
                "base": product.symbol,
                "quote": "USDT0",
            }
            for product in self._markets(params)
        ]

    def _assets(self, params: Params) -> list[dict[str, Any]]:
        return [
            {
                "product_id": product.product_id,
                "ticker_id": _ticker_id(product) if product.product_id != QUOTE_PRODUCT_ID else None,
                "market_type": product.kind if product.product_id != QUOTE_PRODUCT_ID else None,
                "name": NAMES.get(product.symbol, product.symbol),
                "symbol": product.symbol,
                "maker_fee": _plain(product.maker_fee_rate_x18),
                "taker_fee": _plain(product.taker_fee_rate_x18),
                "can_withdraw": not product.is_perp,
                "can_deposit": not product.is_perp,
            }
            for product in self._exchange.products.values()
        ]

    def _apr(self, params: Params) -> list[dict[str, Any]]:
        """USDT0 lends at no interest here."""
        held = sum(account.quote_x18 for account in self._exchange.accounts if not account.is_house)
        return [
            {
                "product_id": QUOTE_PRODUCT_ID,
                "name": "USDT0",
                "symbol": "USDT0",
                "deposit_apr": 0.0,
                "borrow_apr": 0.0,
                "tvl": _plain(held),
            }
        ]

    # Archive ----------------------------------------------------------------------------------

    def _tickers(self, params: Params) -> dict[str, Any]:
        return {_ticker_id(product): self._ticker(product) for product in self._markets(params)}

    def _contracts(self, params: Params) -> dict[str, Any]:
        perps = [product for product in self._markets(params) if product.is_perp]
        return {_ticker_id(product): self._contract(product) for product in perps}

    def _ticker(self, product: Product) -> dict[str, Any]:
        day = self._tape.day(product.product_id, self._exchange.clock.now_ms() // 1000)
        last_x18 = day.close_x18 if day is not None else self._mark_x18(product)
        return {
            "product_id": product.product_id,
            "ticker_id": _ticker_id(product),
            "base_currency": product.symbol,
            "quote_currency": "USDT0",
            "last_price": _plain(last_x18),
            "base_volume": _plain(day.volume_x18) if day is not None else 0.0,
            "quote_volume": _plain(day.quote_x18) if day is not None else 0.0,
            "price_change_percent_24h": _change_percent(day),
        }

    def _contract(self, product: Product) -> dict[str, Any]:
        state = self._exchange.accounts.states[product.product_id]
        ticker = self._ticker(product)
        open_interest = _plain(state.open_interest_x18)
        return {
            **ticker,
            "product_type": "perpetual",
            "contract_price": ticker["last_price"],
            "contract_price_currency": "USD",
            "open_interest": open_interest,
            "open_interest_usd": open_interest * _plain(state.oracle_price_x18),
            "index_price": _plain(state.oracle_price_x18),
            "mark_price": _plain(self._mark_x18(product)),
            "funding_rate": _plain(self._exchange.funding.daily_rate_x18(product.product_id)),
            "next_funding_rate_timestamp": self._exchange.schedule.next_hour_s(),
        }

    def _trades(self, params: Params) -> list[dict[str, Any]]:
        product = self._named(params)
        limit = _integer(params, "limit", MAX_TRADES, MAX_TRADES)
        newest = _integer(params, "max_trade_id", None, None)
        return [
            {
                "product_id": product.product_id,
                "ticker_id": _ticker_id(product),
                "trade_id": trade.trade_id,
                "price": _plain(trade.price_x18),
                "base_filled": _plain(trade.base_x18),
                "quote_filled": _plain(trade.quote_x18),
                "timestamp": trade.timestamp_s,
                "trade_type": "buy" if trade.base_x18 > 0 else "sell",
            }
            for trade in self._tape.trades(product.product_id, limit or 0, newest)
        ]

    def _symbols(self, params: Params) -> dict[str, Any]:
        """As the `symbols` query, by symbol, with market hours (none: always open)."""
        query: dict[str, Any] = {"type": "symbols"}
        query.update({name: params[name] for name in ("product_type", "product_ids") if name in params})
        symbols: dict[str, Any] = self._exchange.query(query)["symbols"]
        return {symbol: {**entry, "market_hours": None} for symbol, entry in symbols.items()}

    # ------------------------------------------------------------------------------------------

    def _markets(self, params: Params) -> list[Product]:
        """Products with a book, of the market asked for."""
        market = params.get("market")
        if market not in (None, "spot", "perp"):
            raise ExchangeError(2038, "market")
        listed = self._exchange.books
        products = self._exchange.products
        return [products[product_id] for product_id in listed if market in (None, products[product_id].kind)]

    def _named(self, params: Params) -> Product:
        for product in self._markets({}):
            if _ticker_id(product) == params.get("ticker_id"):
                return product
        raise ExchangeError(2015)

    def _mark_x18(self, product: Product) -> int:
        """The mark of perpetuals; tokens have none but the oracle's price."""
        if product.is_perp:
            return self._exchange.funding.mark_x18(product.product_id)
        return self._exchange.accounts.states[product.product_id].oracle_price_x18


def _ticker_id(product: Product) -> str:
    return f"{product.symbol}_USDT0"


def _plain(value_x18: int) -> float:
    return value_x18 / ONE


def _change_percent(day: Bar | None) -> float:
    return round((day.close_x18 / day.open_x18 - 1.0) * 100.0, 4) if day is not None else 0.0


def _integer(params: Params, name: str, default: int | None, most: int | None) -> int | None:
    text = params.get(name)
    if text is None:
        return default
    if not text.isdecimal() or len(text) > 18:
        raise ExchangeError(2038, name)
    return min(int(text), most) if most is not None else int(text)
