"""One subscription socket with its messages as they come: for those who keep their own state.

    async with NadoWebSocketClient(network) as client:
        await client.subscribe(["trade"], [4])
        async for message in client.get_messages(): ...

`Feed` is the one that keeps books and accounts right; this one keeps a connection up, and its streams on it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from types import TracebackType
from typing import Any, Final, Self

import orjson

from . import wire
from ._feed import TextListener
from ._parse import parse
from .authsockets import AUTH_SOCKETS
from .connection import LinkConfig, LinkState, NadoConnectionManager
from .control import ControlChannel
from .errors import ConfigError, NotConnected, ParseError
from .events import ControlReply
from .kinds import BOUNDARY, UNKNOWN, Priority
from .messagequeue import NadoMessageQueue, QueueLimits
from .network import Network, resolve
from .signing import NadoWebSocketAuth, Signer
from .timesync import TimeSync

MAX_WAITING: Final = 50_000
WAITING_AGE_S: Final = 30.0
CLOCK_SAMPLES: Final = 1
Message = dict[str, Any]


class NadoWebSocketClient:
    """A supervised connection to the subscription endpoint: after a loss it is back with all its streams.

    signer: for account streams, which are authenticated; such a client counts as one of the wallet's five
    authenticated sockets. max_waiting: messages that may wait for `get_messages`.
    """

    def __init__(
        self,
        network: str | Network,
        *,
        signer: Signer | None = None,
        subaccount: str = "default",
        config: LinkConfig | None = None,
        ack_timeout_s: float = 3.0,
        max_waiting: int = MAX_WAITING,
    ) -> None:
        self.network = resolve(network)
        self._auth = None if signer is None else NadoWebSocketAuth(signer, subaccount=subaccount)
        self._timesync = TimeSync()
        self._limits = QueueLimits(max_facts=max_waiting, fact_age_s=WAITING_AGE_S)
        self._streams: list[dict[str, Any]] = []
        self._changing = asyncio.Lock()  # two callers at once ask for a stream once
        self._is_signed_in = False
        self.bad_messages = 0
        """Messages that were no JSON objects, or answers that cannot be read."""
        self.manager = NadoConnectionManager(
            self.network.subscribe,
            self._make_listener,
            name="client",
            config=config,
            setup=self._set_up,
            on_live=self._on_live,
            on_lost=self._on_lost,
        )
        self._control = ControlChannel(self.manager.send, ack_timeout_s)
        self._queue = self._new_queue()

    # ------------------------------------------------------------------ life

    async def connect(self, timeout_s: float = 10.0) -> None:
        """Open the connection and keep it up. Raises NotConnected if it is not there in time, and stops then;
        ConfigError if the wallet has no authenticated socket left."""
        if self._auth is not None and not AUTH_SOCKETS.reserve(self._wallet, self, 1):
            raise ConfigError(f"all {AUTH_SOCKETS.limit} authenticated sockets of the wallet are in use")
        if self._queue.is_closed:
            self._queue = self._new_queue()
        try:
            await self.manager.ensure_connected(timeout_s)
        except BaseException as error:
            await self.disconnect()
            if isinstance(error, Exception):
                raise NotConnected(str(error)) from None
            raise

    async def disconnect(self) -> None:
        """Close the connection; `get_messages` ends after what has come. The streams are remembered."""
        self._queue.close()  # first: a break that was asked for is no news
        await self.manager.stop()
        if self._auth is not None:
            AUTH_SOCKETS.release(self._wallet, self)

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.disconnect()

    @property
    def is_connected(self) -> bool:
        """Set up, with every stream acknowledged."""
        return self.manager.is_live

    @property
    def subscriptions(self) -> tuple[dict[str, Any], ...]:
        """Stream objects that are on the connection, and will be on the next one."""
        return tuple(self._streams)

    # ------------------------------------------------------------------ streams

    async def subscribe(self, streams: Sequence[str], product_ids: Sequence[int]) -> None:
        """Add streams by their wire names; those of one product for each of product_ids.

        Returns when all are acknowledged. Raises ConfigError on a name that does not exist and on account
        streams without a signer, ConnectionLost, and ExchangeError or RequestTimeout: what was acknowledged
        by then stays.
        """
        if self._auth is None and (private := wire.PRIVATE_STREAMS.intersection(streams)):
            raise ConfigError(f"{', '.join(sorted(private))}: account streams need a signer")
        subaccount = None if self._auth is None else self._auth.subaccount
        try:
            wanted = wire.stream_objects(streams, product_ids, subaccount)
        except ValueError as error:
            raise ConfigError(str(error)) from None
        async with self._changing:
            if any(stream["type"] in wire.PRIVATE_STREAMS for stream in wanted):
                await self._sign_in()
            for stream in wanted:
                if stream not in self._streams:
                    await self._ask(wire.subscribe, stream)
                    self._streams.append(stream)

    async def unsubscribe(self, streams: Sequence[str]) -> None:
        """Take streams of these names off, for every product. Raises as `subscribe`."""
        unknown = set(streams) - wire.STREAMS
        if unknown:
            raise ConfigError(f"unknown streams: {', '.join(sorted(unknown))}")
        async with self._changing:
            for stream in [stream for stream in self._streams if stream["type"] in streams]:
                await self._ask(wire.unsubscribe, stream)
                self._streams.remove(stream)

    async def get_messages(self) -> AsyncIterator[Message]:
        """Every message of the streams, decoded, in order. Ends with `disconnect`.

        A break is a message too: {"type": "boundary", "what": "link_lost" | "link_up", "reason": …}; nothing
        is replayed after one. Raises EventOverflow if the reader fell behind: the connection was replaced
        then, and a new call goes on behind what was lost.
        """
        async for message in self._queue:
            yield message

    # ------------------------------------------------------------------ parts

    @property
    def _wallet(self) -> str:
        assert self._auth is not None
        return f"{self.network.subscribe} {self._auth.wallet}"

    def _new_queue(self) -> NadoMessageQueue:
        return NadoMessageQueue(
            limits=self._limits,
            name="messages",
            on_overflow=lambda: self.manager.cut("the reader of the messages is too slow"),
        )

    async def _set_up(self, link: NadoConnectionManager) -> None:
        self._is_signed_in = False
        if any(stream["type"] in wire.PRIVATE_STREAMS for stream in self._streams):
            link.enter(LinkState.AUTHENTICATING)
            await self._sign_in()
        link.enter(LinkState.SUBSCRIBING)
        await asyncio.gather(*(self._ask(wire.subscribe, stream) for stream in self._streams))

    async def _sign_in(self) -> None:
        auth = self._auth
        if auth is None or self._is_signed_in:
            return
        await self._control.sync_time(self._timesync, CLOCK_SAMPLES)
        now_ms = self._timesync.exchange_now_ms()
        await self._control.request(lambda number: auth.message(number, now_ms), "authenticate")
        self._is_signed_in = True

    async def _ask(self, build: Callable[[dict[str, Any], int], bytes], stream: dict[str, Any]) -> None:
        what = f"{build.__name__} {stream['type']}"
        await self._control.request(lambda number: build(stream, number), what)

    def _make_listener(self, on_disconnected: Callable[[object], None]) -> TextListener:
        return TextListener(self._on_text, on_disconnected=on_disconnected)

    # ------------------------------------------------------------------ inline

    def _on_text(self, text: bytes) -> None:
        try:
            message = orjson.loads(text)
        except orjson.JSONDecodeError:
            message = None
        if not isinstance(message, dict):
            self.bad_messages += 1
        elif "type" in message:
            self._deliver(message)
        else:
            self._on_reply(text)

    def _on_reply(self, text: bytes) -> None:
        try:
            reply = parse(text)
        except ParseError:
            reply = None
        if isinstance(reply, ControlReply):
            self._control.on_reply(reply)
        else:
            self.bad_messages += 1

    def _on_live(self) -> None:
        if self.manager.connects > 1:
            self._tell("link_up", f"connection {self.manager.connects}")

    def _on_lost(self, reason: str) -> None:
        self._control.fail_all(reason)
        self._tell("link_lost", reason)

    def _tell(self, what: str, reason: str) -> None:
        self._deliver({"type": BOUNDARY, "what": what, "reason": reason})

    def _deliver(self, message: Message) -> None:
        # Deltas of a book build on one another, so no message may give way to another.
        self._queue.put(UNKNOWN, message, Priority.ACCOUNT)
