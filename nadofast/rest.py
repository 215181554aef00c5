"""The exchange over HTTP: queries, executes and the archive.

aiohttp is imported when a Rest is built, so that the books and the streams need no HTTP client.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

import orjson

from . import envelope, models, wire
from ._latency import Histogram
from ._version import __version__
from .errors import (
    BadResponse,
    ConfigError,
    ConnectionLost,
    ExchangeError,
    NotConnected,
    OrderDenied,
    RequestTimeout,
)
from .network import Network, resolve
from .products import Product, parse_symbols
from .ratelimit import NadoRateLimiter, Scope
from .secret import excerpt
from .tap import Tap
from .timesync import TimeSample, TimeSync

if TYPE_CHECKING:
    import aiohttp

_HTTP_FORBIDDEN: Final = 403
_HTTP_UNPROCESSABLE: Final = 422
_HTTP_TOO_MANY: Final = 429


@dataclass(frozen=True, slots=True)
class RestConfig:
    """timeout_s: whole request. connect_timeout_s: until the connection stands. max_body: bytes of an
    answer, inflated. max_connections: sockets kept. limiter_wait_s: longest wait for query weight. tap: sees
    every body, both ways."""

    timeout_s: float = 5.0
    connect_timeout_s: float = 3.0
    max_body: int = 16 << 20
    max_connections: int = 8
    limiter_wait_s: float = 10.0
    user_agent: str = f"nadofast/{__version__}"
    tap: Tap | None = None


class Rest:
    """Async HTTP client of one exchange; use it as a context manager, or `start` and `stop`.

    Every method raises ExchangeError (the exchange refused), RequestTimeout, ConnectionLost (NotConnected if
    nothing was sent), BadResponse (not the exchange's protocol) or, with a limiter, OrderDenied (no weight).
    """

    def __init__(
        self,
        network: str | Network,
        *,
        timeout_s: float = 5.0,
        limiter: NadoRateLimiter | None = None,
        config: RestConfig | None = None,
    ) -> None:
        try:
            import aiohttp
        except ImportError:
            raise ConfigError("REST needs aiohttp: install nadofast[rest]") from None
        self._aiohttp = aiohttp
        self.network = resolve(network)
        self.limiter = limiter
        self.round_trip = Histogram()
        """Request sent → answer read."""
        self._config = config or RestConfig(timeout_s=timeout_s)
        self._session: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        """Open the session; no connection is made before the first request."""
        if self._session is not None:
            return
        aiohttp = self._aiohttp
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._config.max_connections),
            timeout=aiohttp.ClientTimeout(
                total=self._config.timeout_s, sock_connect=self._config.connect_timeout_s
            ),
            headers={
                "Accept-Encoding": wire.ACCEPT_ENCODING,
                "Content-Type": wire.CONTENT_TYPE,
                "User-Agent": self._config.user_agent,
            },
        )

    async def stop(self) -> None:
        """Close the session and its connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()

    # ------------------------------------------------------------------ exchange

    async def contracts(self) -> models.Contracts:
        """Chain id and endpoint address the exchange verifies signatures with."""
        return models.decode("contracts", models.contracts, await self.query(wire.query("contracts")))

    async def status(self) -> str:
        """State of the engine; "active" is the only one to trade in."""
        data = await self.query(wire.query("status"))
        if not isinstance(data, str):
            raise BadResponse("status: not a string")
        return data

    async def server_time_ms(self) -> int:
        """The exchange's clock, ms since the epoch."""
        data = await self._request("GET", self.network.gateway_rest + wire.TIME_PATH, None, "time")
        if isinstance(data, dict):
            data = data.get("server_time")
        return models.decode("time", wire.clock_ms, data)

    async def sync_time(self, timesync: TimeSync, samples: int = 3) -> None:
        """Measure the clock offset with `samples` requests, one after another."""
        for _ in range(samples):
            timesync.notice_jumps()  # a sleep that is over says nothing against this answer
            sent_ns = time.monotonic_ns()
            server_ms = await self.server_time_ms()
            timesync.update(TimeSample(sent_ns, time.monotonic_ns(), server_ms))

    async def symbols(self) -> dict[int, Product]:
        """Trading rules of every product, by product id."""
        return parse_symbols(await self.query(wire.query("symbols")))

    async def products(self, product_ids: Sequence[int]) -> dict[int, Product]:
        """Trading rules of these products. Raises ConfigError if the exchange does not list one."""
        listed = await self.symbols()
        missing = [product_id for product_id in product_ids if product_id not in listed]
        if missing:
            raise ConfigError(f"the exchange does not list product {', '.join(map(str, missing))}")
        return {product_id: listed[product_id] for product_id in product_ids}

    async def all_products(self) -> dict[int, models.PerpProduct]:
        """Risk and state of every perp, by product id."""
        return models.decode(
            "all_products", models.perp_products, await self.query(wire.query("all_products"))
        )

    # ------------------------------------------------------------------ market

    async def market_price(self, product_id: int) -> models.MarketPrice:
        """Best bid and ask; a side without orders is None."""
        data = await self.query(wire.query("market_price", product_id=product_id))
        return models.decode("market_price", models.market_price, data)

    async def market_liquidity(
        self, product_id: int, depth: int = wire.MAX_SNAPSHOT_LEVELS
    ) -> models.Snapshot:
        """Book snapshot, at most 100 levels a side."""
        data = await self.query(wire.market_liquidity(product_id, depth))
        return models.decode("market_liquidity", lambda row: models.snapshot(row, product_id), data)

    # ------------------------------------------------------------------ account

    async def nonces(self, address: str) -> models.Nonces:
        """The next nonces of a wallet."""
        data = await self.query(wire.query("nonces", address=address))
        return models.decode("nonces", models.nonces, data)

    async def subaccount_info(self, subaccount: str) -> models.SubaccountInfo:
        """Balances and health. Cross margin only: see `isolated_positions`."""
        data = await self.query(wire.query("subaccount_info", subaccount=subaccount))
        return models.decode("subaccount_info", models.subaccount_info, data)

    async def isolated_positions(self, subaccount: str) -> list[models.IsolatedPosition]:
        """Positions with a margin of their own; they are in no balance of the subaccount."""
        data = await self.query(wire.query("isolated_positions", subaccount=subaccount))
        return models.decode("isolated_positions", models.isolated_positions, data)

    async def subaccount_orders(self, subaccount: str, product_id: int) -> list[models.OpenOrder]:
        """Live orders of one product; finished ones are not in it."""
        data = await self.query(wire.query("subaccount_orders", sender=subaccount, product_id=product_id))
        return models.decode("subaccount_orders", models.open_orders, data)

    async def order(self, product_id: int, digest: str) -> models.OpenOrder:
        """A resting order. ExchangeError 2020 once it does not rest: filled, cancelled or never seen."""
        data = await self.query(wire.query("order", product_id=product_id, digest=digest))
        return models.decode("order", models.open_order, data)

    async def fee_rates(self, subaccount: str) -> models.FeeRates:
        """Maker and taker rates of a subaccount, x18."""
        data = await self.query(wire.query("fee_rates", sender=subaccount))
        return models.decode("fee_rates", models.fee_rates, data)

    async def linked_signer(self, subaccount: str) -> str:
        """Address of the linked signer; the zero address if there is none."""
        data = await self.query(wire.query("linked_signer", subaccount=subaccount))
        return models.decode("linked_signer", lambda row: str(row["linked_signer"]).lower(), data)

    # ------------------------------------------------------------------ archive

    async def archive_orders(self, digests: Sequence[str]) -> list[models.ArchivedOrder]:
        """Orders by digest, at most 500. Only those with a fill, and only once indexed (seconds)."""
        data = await self.archive(wire.archive_orders(digests))
        return models.decode("archive orders", models.archived_orders, data)

    async def archive_matches(
        self,
        subaccount: str,
        product_ids: Sequence[int],
        *,
        limit: int = 100,
        max_submission_idx: int | None = None,
    ) -> list[models.ArchivedMatch]:
        """Matches, newest first; `backfill.next_top` of one page is max_submission_idx of the next."""
        request = wire.archive_matches([subaccount], product_ids, limit, max_submission_idx)
        return models.decode("archive matches", models.archived_matches, await self.archive(request))

    async def archive_newest_s(self) -> int:
        """Time of the newest match of anybody the archive knows, whole seconds; 0 if it knows none."""
        data = await self.archive(wire.archive_newest())
        return models.decode(
            "archive matches",
            lambda row: max((int(tx["timestamp"]) for tx in row.get("txs", ())), default=0),
            data,
        )

    # ------------------------------------------------------------------ envelopes

    async def query(self, request: dict[str, Any]) -> Any:
        """`data` of any gateway query. request: {"type": ..., fields}."""
        kind = str(request.get("type", "query"))
        await self._spend("query", wire.query_weight(request))
        url = self.network.gateway_rest + wire.QUERY_PATH
        with self._watched("query"):
            return envelope.unwrap(await self._request("POST", url, orjson.dumps(request), kind), kind)

    async def execute(self, request: dict[str, Any] | bytes) -> dict[str, Any]:
        """Send a signed execute as it is; the whole envelope of a success.

        The caller keeps its weight, and tells the limiter of rate errors.
        """
        body = request if isinstance(request, bytes) else orjson.dumps(request)
        url = self.network.gateway_rest + wire.EXECUTE_PATH
        answer = await self._request("POST", url, body, "execute")
        envelope.unwrap(answer, "execute")
        assert isinstance(answer, dict)
        return answer

    async def archive(self, request: dict[str, Any]) -> Any:
        """The answer to any archive request."""
        kind = "archive " + next(iter(request), "")
        await self._spend("archive", wire.archive_weight(request))
        with self._watched("archive"):
            answer = await self._request("POST", self.network.archive, orjson.dumps(request), kind)
            if isinstance(answer, dict) and ("error" in answer or "error_code" in answer):
                raise envelope.refusal(answer, kind)
            return answer

    def _watched(self, scope: Scope) -> AbstractContextManager[None]:
        return nullcontext() if self.limiter is None else self.limiter.watch(scope)

    async def _spend(self, scope: Scope, weight: int) -> None:
        if self.limiter is None:
            return
        if not await self.limiter.acquire(scope, weight, timeout_s=self._config.limiter_wait_s):
            raise OrderDenied("rate_limit", f"{scope} weight {weight} is not free")

    async def _request(self, method: str, url: str, body: bytes | None, kind: str) -> Any:
        session = self._session
        if session is None:
            raise NotConnected(f"{kind}: Rest is not started")
        aiohttp = self._aiohttp
        began_ns, tap = time.monotonic_ns(), self._config.tap
        if tap is not None:
            tap.sent("http", body or kind.encode())
        try:
            async with session.request(method, url, data=body, allow_redirects=False) as response:
                body_read = await self._read_body(response)
                now_ns = time.monotonic_ns()
                self.round_trip.record_ns(now_ns - began_ns)
                if tap is not None:
                    tap.received("http", now_ns, body_read)
                return self._read_status(response.status, body_read, kind)
        except asyncio.CancelledError:
            # What waits for a connection when the session is closed is cancelled, too: nobody has left. Most
            # likely nothing was sent, but only the connector knows.
            task = asyncio.current_task()
            if not session.closed or task is None or task.cancelling():
                raise
            raise ConnectionLost(f"{kind}: Rest was stopped") from None
        except aiohttp.ConnectionTimeoutError:
            raise NotConnected(f"{kind}: no connection within {self._config.connect_timeout_s} s") from None
        except TimeoutError:
            raise RequestTimeout(f"{kind}: no answer within {self._config.timeout_s} s") from None
        except aiohttp.ClientConnectorError as error:
            raise NotConnected(f"{kind}: {error}") from None
        except aiohttp.ContentTypeError as error:
            raise BadResponse(f"{kind}: {error.message}") from None
        except aiohttp.ClientPayloadError as error:
            raise ConnectionLost(f"{kind}: the answer broke off: {error}") from None
        except aiohttp.ClientError as error:
            raise ConnectionLost(f"{kind}: {type(error).__name__}: {error}") from None

    async def _read_body(self, response: aiohttp.ClientResponse) -> bytes:
        chunks: list[bytes] = []
        size = 0
        async for chunk in response.content.iter_any():
            size += len(chunk)
            if size > self._config.max_body:
                raise BadResponse(f"answer is larger than {self._config.max_body} bytes")
            chunks.append(chunk)
        return b"".join(chunks)

    def _read_status(self, status: int, body: bytes, kind: str) -> Any:
        """Decoded JSON of a 200; everything else is a refusal by the edge or not the protocol."""
        shown = excerpt(body)
        if status == _HTTP_TOO_MANY:
            raise ExchangeError(wire.Code.TOO_MANY_REQUESTS, f"HTTP 429 {shown}", kind)
        if status == _HTTP_FORBIDDEN:
            raise ExchangeError(wire.Code.LOCATION_BLOCKED, f"HTTP 403 {shown}", kind)
        if status == _HTTP_UNPROCESSABLE:
            raise ExchangeError(wire.Code.INVALID_MESSAGE, f"HTTP 422 {shown}", kind)
        try:
            answer = orjson.loads(body)
        except orjson.JSONDecodeError:
            raise BadResponse(f"{kind}: HTTP {status}, not JSON: {shown!r}") from None
        if status >= 400 and not (isinstance(answer, dict) and "error_code" in answer):
            raise BadResponse(f"{kind}: HTTP {status}: {shown!r}")
        return answer
