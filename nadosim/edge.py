"""`/v1/edge/query`: a cache for display, up to half a second behind. Not for trading decisions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from struct import Struct
from typing import Any, Final

from .errors import ExchangeError
from .exchange import Exchange

REFRESH_MS: Final = 500
HISTORY: Final = 1_200  # samples a product: ten minutes
MALFORMED: Final = 2038
MAX_DIGITS: Final = 18  # what is repeated in a reply has to fit 64 bits

_CACHED: Final[Mapping[str, dict[str, Any]]] = {
    "cached_status": {"type": "status"},
    "cached_symbols": {"type": "symbols"},
    "cached_all_products": {"type": "all_products"},
}


class EdgeCache:
    """Answers from what it knew at the last beat of half a second. `refresh()` is that beat."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._replies: dict[str, Any] = {}
        self._prices: dict[int, dict[str, Any]] = {}
        self._history = {product_id: _Samples() for product_id in exchange.books}
        self._answers: dict[str, Callable[[Mapping[str, Any]], Any]] = {
            "cached_prices": self._cached_prices,
            "cached_bbo_history": self._bbo_history,
        }
        self.refresh()

    def refresh(self) -> None:
        now_ms = self._exchange.clock.now_ms()
        self._replies = {name: self._exchange.query(query) for name, query in _CACHED.items()}
        for product_id in self._exchange.books:
            bid, _, ask, _ = self._exchange.bbo(product_id)
            self._prices[product_id] = {"product_id": product_id, "bid_x18": str(bid), "ask_x18": str(ask)}
            self._history[product_id].add(now_ms, bid, ask)

    def answer(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """The whole reply, failures included."""
        kind = str(request.get("type"))
        echo = {"id": request["id"]} if isinstance(request.get("id"), int | str) else {}
        if kind == "ping" and not isinstance(request.get("client_time", 0), int | float | str | None):
            error = ExchangeError(MALFORMED, "client_time")
            return {"status": "failure", "error": error.text, "error_code": error.code, **echo}
        if kind in ("ping", "time"):
            return {"status": "success", **self._clock(kind, request), **echo}
        request_type = f"query_{kind}"
        try:
            data = self._cached(kind, request)
        except ExchangeError as error:
            failure = {"status": "failure", "error": error.text, "error_code": error.code}
            return {**failure, "request_type": request_type, **echo}
        return {"status": "success", "data": data, "request_type": request_type, **echo}

    def _clock(self, kind: str, request: Mapping[str, Any]) -> dict[str, Any]:
        reply = {"method": "pong" if kind == "ping" else "time"}
        reply["server_time"] = str(self._exchange.clock.now_ms())
        if kind == "ping" and request.get("client_time") is not None:
            reply["client_time"] = request["client_time"]
        return reply

    def _cached(self, kind: str, request: Mapping[str, Any]) -> Any:
        if kind in self._replies:
            return self._replies[kind]
        if kind not in self._answers:
            raise ExchangeError(MALFORMED, "unknown query")
        return self._answers[kind](request)

    def _cached_prices(self, request: Mapping[str, Any]) -> dict[str, Any]:
        return {"market_prices": [self._prices[product_id] for product_id in self._wanted(request)]}

    def _bbo_history(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Newest first, one sample per interval and product, none after max_time_ms."""
        interval_ms = max(REFRESH_MS, _integer(request, "interval_ms", REFRESH_MS))
        limit = min(HISTORY, _integer(request, "limit", 100))
        max_time_ms = _integer(request, "max_time_ms", self._exchange.clock.now_ms())
        history: list[dict[str, Any]] = []
        for product_id in self._wanted(request):
            last_ms: int | None = None
            taken = 0
            for at_ms, bid, ask in self._history[product_id].newest_first():
                is_spaced = last_ms is None or last_ms - at_ms >= interval_ms - REFRESH_MS // 2
                if at_ms <= max_time_ms and is_spaced and taken < limit:
                    history.append(_sample(product_id, at_ms, bid, ask))
                    last_ms = at_ms
                    taken += 1
        return {"interval_ms": interval_ms, "limit": limit, "history": history}

    def _wanted(self, request: Mapping[str, Any]) -> list[int]:
        """Products asked for, all if none is named. Raises ExchangeError 2016 for one that is not listed."""
        value = request.get("product_ids")
        if value is None:
            return list(self._exchange.books)
        if isinstance(value, str):
            value = [part for part in value.strip("[]").split(",") if part.strip()]
        if not isinstance(value, list):
            raise ExchangeError(MALFORMED, "product_ids")
        # Each once: a list that repeats an id would otherwise be as much work as it is long.
        wanted = list(dict.fromkeys(_integer({"product_ids": item}, "product_ids", -1) for item in value))
        if any(product_id not in self._exchange.books for product_id in wanted):
            raise ExchangeError(2016)
        return wanted


class _Samples:
    """The newest HISTORY samples of one product, in memory that is taken once: it does not grow in use."""

    _ENTRY: Final = Struct("<q16s16s")  # ms, bid, ask

    def __init__(self) -> None:
        self._bytes = bytearray(b"\1" * (HISTORY * self._ENTRY.size))
        self._added = 0

    def add(self, at_ms: int, bid_x18: int, ask_x18: int) -> None:
        prices = (price.to_bytes(16, "little") for price in (bid_x18, ask_x18))
        self._ENTRY.pack_into(self._bytes, self._added % HISTORY * self._ENTRY.size, at_ms, *prices)
        self._added += 1

    def newest_first(self) -> Iterator[tuple[int, int, int]]:
        """(ms, bid x18, ask x18)"""
        for number in range(self._added - 1, max(-1, self._added - 1 - HISTORY), -1):
            at_ms, bid, ask = self._ENTRY.unpack_from(self._bytes, number % HISTORY * self._ENTRY.size)
            yield at_ms, int.from_bytes(bid, "little"), int.from_bytes(ask, "little")


def _sample(product_id: int, at_ms: int, bid: int, ask: int) -> dict[str, Any]:
    return {"product_id": product_id, "timestamp": str(at_ms), "bid": str(bid), "ask": str(ask)}


def _integer(request: Mapping[str, Any], name: str, default: int) -> int:
    value = request.get(name, default)
    if isinstance(value, str) and value.strip().isdecimal() and len(value) <= MAX_DIGITS:
        return int(value)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ExchangeError(MALFORMED, name)
    return value
