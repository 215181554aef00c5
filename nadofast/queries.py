"""Gateway queries over the serial socket, for those who have no HTTP client or want no new connection.

The serial gateway answers in order and a query carries no id, so one request is in flight at a time and a
missing answer costs the socket.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import orjson

from . import models, wire
from ._feed import TextListener
from .connection import LinkConfig, NadoConnectionManager
from .errors import BadResponse, ConnectionLost, ExchangeError, OrderDenied, RequestTimeout
from .network import Network
from .ratelimit import NadoRateLimiter


class GatewayQueries:
    """One socket to the serial gateway, kept warm."""

    def __init__(
        self,
        network: Network,
        *,
        limiter: NadoRateLimiter | None = None,
        config: LinkConfig | None = None,
        timeout_s: float = 3.0,
    ) -> None:
        self._limiter = limiter
        self._timeout_s = timeout_s
        self._lock = asyncio.Lock()
        self._answer: asyncio.Future[bytes] | None = None
        self.link = NadoConnectionManager(
            network.gateway_ws_v1,
            self._make_listener,
            name="queries",
            config=config,
            on_lost=self._on_lost,
        )

    @property
    def is_live(self) -> bool:
        return self.link.is_live

    def start(self) -> None:
        self.link.start()

    async def stop(self) -> None:
        await self.link.stop()

    async def query(self, request: dict[str, Any]) -> Any:
        """`data` of the answer. Raises ExchangeError, a TransportError, or OrderDenied by the rate budget."""
        kind = str(request.get("type"))
        deadline_ns = time.monotonic_ns() + int(self._timeout_s * 1e9)
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._lock.acquire()
        except TimeoutError:
            raise RequestTimeout(f"{kind}: the query socket is busy") from None
        try:
            if self._limiter is not None and not self._limiter.try_acquire(
                "query", wire.query_weight(request)
            ):
                raise OrderDenied("rate_limit", f"no query weight left for {kind}")
            answer = await self._exchange(request, kind, (deadline_ns - time.monotonic_ns()) / 1e9)
        finally:
            self._lock.release()
        return _unwrap(answer, kind)

    async def market_liquidity(
        self, product_id: int, depth: int = wire.MAX_SNAPSHOT_LEVELS
    ) -> models.Snapshot:
        """Book snapshot, at most 100 levels a side."""
        data = await self.query(wire.market_liquidity(product_id, depth))
        return models.decode("market_liquidity", lambda row: models.snapshot(row, product_id), data)

    async def _exchange(self, request: dict[str, Any], kind: str, timeout_s: float) -> bytes:
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._answer = answer
        try:
            self.link.send(orjson.dumps(request))
            await asyncio.wait([answer], timeout=max(timeout_s, 0.0))
        finally:
            self._answer = None
            if not answer.done():
                # A late answer would be taken for the next question's: this socket is of no use any more.
                self.link.cut(f"no answer to {kind}")
        if not answer.done():
            raise RequestTimeout(f"{kind}: no answer within {self._timeout_s} s")
        return answer.result()

    def _make_listener(self, on_disconnected: Any) -> TextListener:
        return TextListener(self._on_text, on_disconnected=on_disconnected)

    def _on_text(self, message: bytes) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(message)

    def _on_lost(self, reason: str) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionLost(f"queries: {reason}"))


def _unwrap(answer: bytes, kind: str) -> Any:
    try:
        envelope = orjson.loads(answer)
    except orjson.JSONDecodeError:
        raise BadResponse(f"{kind}: not JSON: {answer[:120]!r}") from None
    status = envelope.get("status") if isinstance(envelope, dict) else None
    if status == wire.STATUS_FAILURE:
        raise refusal(envelope, kind)
    if status != wire.STATUS_SUCCESS:
        raise BadResponse(f"{kind}: answer has no status: {answer[:120]!r}")
    asked, answered = f"query_{kind}", envelope.get("request_type", f"query_{kind}")
    if answered != asked:
        raise BadResponse(f"asked {asked}, got {answered}")
    return envelope.get("data")


def refusal(envelope: dict[str, Any], kind: str) -> ExchangeError:
    """The ExchangeError of a failure envelope; a missing or odd code becomes None."""
    try:
        code = wire.integer(envelope["error_code"])
    except (KeyError, ValueError):
        code = None
    return ExchangeError(code, str(envelope.get("error", "")), str(envelope.get("request_type") or kind))
