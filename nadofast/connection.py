"""One supervised WebSocket: it connects, is set up, is watched, and comes back when it breaks.

    DISCONNECTED → CONNECTING → AUTHENTICATING → SUBSCRIBING → LIVE → (STALE) → CLOSED → BACKOFF → …

What the link carries is not this file's business: a listener takes the frames, `setup` makes a fresh socket
useful, `probe` tells a quiet peer from a dead one.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import time
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Any, Final, TypeVar

from picows import WSCloseCode, WSError, WSMsgType, WSTransport, ws_connect

from . import wire
from ._feed import MessageListener
from ._frame import text_frames
from ._latency import Histogram
from .errors import ConnectionLost, NadoError, NotConnected, RequestTimeout
from .tap import Tap
from .waiting import wait_event

__all__ = ["Backoff", "LinkConfig", "LinkState", "NadoConnectionManager"]

T = TypeVar("T")
_NS: Final = 1_000_000_000
HISTORY: Final = 64
"""Transitions remembered per link."""
_log = logging.getLogger(__name__)


class LinkState(Enum):
    """Where a link is in its life. Only LIVE carries data that may be used."""

    DISCONNECTED = "disconnected"
    CONNECTING = "connecting"
    AUTHENTICATING = "authenticating"
    SUBSCRIBING = "subscribing"
    LIVE = "live"
    STALE = "stale"
    CLOSED = "closed"
    BACKOFF = "backoff"


_CONNECTED: Final = frozenset(
    {LinkState.AUTHENTICATING, LinkState.SUBSCRIBING, LinkState.LIVE, LinkState.STALE}
)


@dataclass(frozen=True, slots=True)
class LinkConfig:
    """Times of one link, in seconds.

    ping_interval_s: the exchange cuts a socket after 30 s without a ping frame. pong_timeout_s: without a
    pong for that long the link is cut. data_timeout_s: without a data frame for that long the peer is probed;
    None for sockets that are silent by nature. stable_after_s: a link that still carried data after so long
    (or lived so long, if it is silent by nature) resets the back-off. max_frame_size: bytes; text frames of
    up to 4,096 are taken whatever it says. tap: sees every message of the link, both ways.
    """

    handshake_timeout_s: float = 5.0
    setup_timeout_s: float = 10.0
    ping_interval_s: float = 15.0
    pong_timeout_s: float = 10.0
    data_timeout_s: float | None = None
    probe_timeout_s: float = 2.0
    close_timeout_s: float = 1.0
    backoff_base_s: float = 0.1
    backoff_cap_s: float = 10.0
    stable_after_s: float = 5.0
    watch_interval_s: float = 0.1
    max_frame_size: int = 1 << 20
    tap: Tap | None = None


class Backoff:
    """Full jitter: a random wait up to base · 2^n, capped. Reset only by a link that lived."""

    def __init__(self, base_s: float, cap_s: float, rng: random.Random | None = None) -> None:
        self._base_s = base_s
        self._cap_s = cap_s
        self._rng = rng or random.Random()
        self.attempts = 0

    def next_s(self) -> float:
        ceiling = min(self._cap_s, self._base_s * 2.0 ** min(self.attempts, 30))
        self.attempts += 1
        return self._rng.uniform(0.0, ceiling)

    def reset(self) -> None:
        self.attempts = 0


class _Pings:
    """When a ping frame is due, and when its pong is overdue. The first one is due at once."""

    def __init__(self, interval_s: float, pong_timeout_s: float) -> None:
        self._interval_ns = int(interval_s * _NS)
        self._timeout_ns = int(pong_timeout_s * _NS)
        self._sent_ns: int | None = None
        self._is_answered = False

    def is_due(self, now_ns: int, last_pong_ns: int) -> bool:
        """One at a time: a new ping would hide that the last one was never answered."""
        if self._sent_ns is None:
            return True
        return last_pong_ns >= self._sent_ns and now_ns - self._sent_ns >= self._interval_ns

    def sent(self, now_ns: int) -> None:
        self._sent_ns = now_ns
        self._is_answered = False

    def answered(self, last_pong_ns: int) -> int | None:
        """Round trip of the last ping in ns, once, when its pong is there."""
        if self._sent_ns is None or self._is_answered or last_pong_ns < self._sent_ns:
            return None
        self._is_answered = True
        return last_pong_ns - self._sent_ns

    def is_overdue(self, now_ns: int, last_pong_ns: int) -> bool:
        if self._sent_ns is None or last_pong_ns >= self._sent_ns:
            return False
        return now_ns - self._sent_ns >= self._timeout_ns


@dataclass(frozen=True, slots=True)
class Transition:
    """When a link entered a state, on the monotonic clock, and why if there was a reason."""

    monotonic_ns: int
    state: LinkState
    reason: str = ""


ListenerFactory = Callable[[Callable[[object], None]], MessageListener]


class NadoConnectionManager:
    """Keeps one WebSocket up, for ever, until `stop`.

    make_listener(on_disconnected) builds a fresh listener per connection. setup(manager) runs
    on each new socket and must finish before it is LIVE; it raises to give the socket up. probe(manager) runs
    on a stale link: False or no answer in time cuts it. on_lost(reason) runs inline when a socket that had
    been connected is gone, before anything else learns of it; on_live() when the set-up is done.
    """

    def __init__(
        self,
        url: str,
        make_listener: ListenerFactory,
        *,
        name: str,
        config: LinkConfig | None = None,
        setup: Callable[[NadoConnectionManager], Coroutine[Any, Any, None]] | None = None,
        probe: Callable[[NadoConnectionManager], Coroutine[Any, Any, bool]] | None = None,
        on_live: Callable[[], None] | None = None,
        on_lost: Callable[[str], None] | None = None,
    ) -> None:
        self.url = url
        self.name = name
        self.config = config or LinkConfig()
        self.state = LinkState.DISCONNECTED
        self.connects = 0
        self.losses = 0
        self.defects = 0
        self.last_error = ""
        self.ping_round_trip = Histogram()
        self.history: deque[Transition] = deque(maxlen=HISTORY)
        self._make_listener = make_listener
        self._setup = setup
        self._probe = probe
        self._on_live = on_live
        self._on_lost = on_lost
        self._backoff = Backoff(self.config.backoff_base_s, self.config.backoff_cap_s)
        self._listener: MessageListener | None = None
        self._transport: WSTransport | None = None
        self._task: asyncio.Task[None] | None = None
        self._connecting: asyncio.Future[tuple[WSTransport, MessageListener | None]] | None = None
        self._gone = asyncio.Event()
        self._live = asyncio.Event()
        self._first_try = asyncio.Event()
        self._cut_reason = ""
        self._stopping = False
        self._pings = _Pings(self.config.ping_interval_s, self.config.pong_timeout_s)

    # ------------------------------------------------------------------ public

    def get_connection_state(self) -> LinkState:
        """Where in its life the link is."""
        return self.state

    @property
    def is_live(self) -> bool:
        return self.state is LinkState.LIVE

    @property
    def is_connected(self) -> bool:
        """The socket is open and not closing; it may not be set up yet."""
        transport = self._transport
        return (
            transport is not None
            and self.state in _CONNECTED
            and not self._cut_reason
            and not transport.is_disconnected
            and not transport.is_close_frame_sent
        )

    @property
    def last_frame_ns(self) -> int:
        """Monotonic arrival of the last data frame of the current socket, 0 before."""
        return 0 if self._listener is None else self._listener.last_frame_ns

    def start(self) -> None:
        """Begin to connect, in the background. Once; not before a `stop` under way has ended."""
        if self._task is None or (self._stopping and self._task.done()):  # a stop that nobody waited for
            self._stopping = False
            self._first_try.clear()
            self._task = asyncio.get_running_loop().create_task(self._run(), name=f"link {self.name}")

    async def stop(self) -> None:
        """Close the socket and end the supervision; at most about `close_timeout_s` on a healthy link.

        Cancelled, it goes on by itself, and the next one waits for its end.
        """
        task = self._task
        if task is not None:
            if not self._stopping:
                self._stopping = True
                task.cancel()
            await asyncio.wait([task])
            if self._task is task:
                self._task = None
                if not task.cancelled() and task.exception() is not None:
                    _log.error("link %s: supervision had failed", self.name, exc_info=task.exception())
        if self._connecting is not None:
            # A handshake in progress cannot be cut from outside; it ends within its own timeout.
            await asyncio.wait([self._connecting], timeout=self.config.handshake_timeout_s + 1)
        if self._task is None:  # nobody has started it again meanwhile
            self._enter(LinkState.DISCONNECTED)

    async def wait_live(self, timeout_s: float) -> None:
        """Raises RequestTimeout with the last error if the link is not LIVE in time."""
        if not await wait_event(self._live, timeout_s):
            raise RequestTimeout(f"{self.name}: not live in {timeout_s} s: {self.last_error}")

    async def ensure_connected(self, timeout_s: float = 10.0) -> None:
        """Begin to connect if nobody has, and wait until the link is LIVE. Raises RequestTimeout."""
        self.start()
        await self.wait_live(timeout_s)

    async def wait_first_try(self, timeout_s: float) -> bool:
        """Wait until the first attempt is over, one way or the other. True if the link is live."""
        return await wait_event(self._first_try, timeout_s) and self.is_live

    def send(self, message: bytes) -> None:
        """Hand one text message to the transport. Raises ConnectionLost if there is no open socket."""
        if not self.is_connected or self._transport is None:
            raise ConnectionLost(f"{self.name}: not connected")
        if self.config.tap is not None:
            self.config.tap.sent(self.name, message)
        self._transport.send(WSMsgType.TEXT, message)

    def send_all(self, messages: Sequence[bytes]) -> None:
        """Hand text messages to the transport in one write: they leave together, and whoever the first one
        wakes cannot keep the next from following. Raises ConnectionLost: none of them left."""
        if not self.is_connected or self._transport is None:
            raise ConnectionLost(f"{self.name}: not connected")
        if len(messages) == 1:
            self.send(messages[0])
            return
        if self.config.tap is not None:
            for message in messages:
                self.config.tap.sent(self.name, message)
        below = self._transport.underlying_transport
        # Masks keep proxies from taking a payload for a request; what ours say is nobody else's to choose.
        frames = text_frames(messages, random.randbytes(4 * len(messages)))
        if self._transport.is_secure or below.get_write_buffer_size() > 0:
            below.write(frames)
            return
        # The transport would keep them until the loop turns; the socket takes them now.
        try:
            taken = os.write(below.get_extra_info("socket").fileno(), frames)
        except BlockingIOError:
            taken = 0
        except OSError as error:
            self.cut(f"write failed: {error.strerror or error}")
            raise ConnectionLost(f"{self.name}: {error.strerror or error}") from None
        if taken < len(frames):
            below.write(frames[taken:])

    async def send_ping(self) -> None:
        """Send a ping frame now; the supervision does so by itself. Raises ConnectionLost."""
        if not self.is_connected or self._transport is None:
            raise ConnectionLost(f"{self.name}: not connected")
        self._transport.send_ping()
        self._pings.sent(time.monotonic_ns())

    async def handle_pong(self) -> None:
        """Take note of the pong of the last ping, if it has come: its round trip goes to the histogram."""
        if self._listener is not None:
            round_trip_ns = self._pings.answered(self._listener.last_pong_ns)
            if round_trip_ns is not None:
                self.ping_round_trip.record_ns(round_trip_ns)

    def blocked(self) -> str | None:
        """Why a message would not leave at once; None if it would. An order is not sent into a queue."""
        if self._transport is None or not self.is_live:
            return f"link is {self.state.value}"
        if not self.is_connected:
            return "socket is closing"
        if self._transport.underlying_transport.get_write_buffer_size() > 0:
            return "write buffer is not empty"
        return None

    def cut(self, reason: str) -> None:
        """Drop the socket at once, without a closing handshake: for links that are not healthy."""
        if self._transport is not None and not self._cut_reason:
            self._cut_reason = reason
            self._live.clear()
            self._transport.disconnect(graceful=False)

    def enter(self, state: LinkState) -> None:
        """For `setup`: name the step it is in (AUTHENTICATING, SUBSCRIBING)."""
        self._enter(state)

    # ------------------------------------------------------------------ supervision

    async def _run(self) -> None:
        while True:
            reason = await self._one_connection()
            self.last_error = reason
            self._first_try.set()
            self._enter(LinkState.BACKOFF, reason)
            wait_s = self._backoff.next_s()
            _log.info("link %s: %s; next attempt in %.2f s", self.name, reason, wait_s)
            await asyncio.sleep(wait_s)

    async def _one_connection(self) -> str:
        """Connect, set up, watch until the end; why it ended."""
        self._gone.clear()
        self._cut_reason = ""
        self._enter(LinkState.CONNECTING)
        try:
            await self._connect()
            if self._setup is not None:
                await self._until_gone(self._setup(self), self.config.setup_timeout_s, "set-up")
            self._go_live()
            return await self._watch()
        except (NadoError, OSError, WSError) as error:
            return self._give_up(self._reason(str(error) or type(error).__name__))
        except Exception as error:
            # A defect in a callback must not end the supervision: it is logged, counted, and retried.
            self.defects += 1
            _log.exception("link %s: a defect", self.name)
            return self._give_up(f"defect: {type(error).__name__}: {error}")
        finally:
            await self._close()

    async def _connect(self) -> None:
        connecting = asyncio.ensure_future(self._open())
        self._connecting = connecting
        try:
            transport, listener = await asyncio.shield(connecting)
        except asyncio.CancelledError:
            connecting.add_done_callback(_abandon)
            raise
        finally:
            if connecting.done():
                self._connecting = None
        if listener is None:
            raise NotConnected("the peer closed the socket during the handshake")
        self._transport, self._listener = transport, listener
        self.connects += 1
        if transport.is_disconnected:
            raise ConnectionLost("the peer closed the socket after the handshake")
        self._enter(LinkState.SUBSCRIBING)

    async def _open(self) -> tuple[WSTransport, MessageListener | None]:
        try:
            transport, listener = await ws_connect(
                self._new_listener,
                self.url,
                websocket_handshake_timeout=self.config.handshake_timeout_s,
                enable_auto_ping=False,  # its strategies either never ping a busy stream or hide the pongs
                enable_auto_pong=False,  # the listener answers: it must see every frame of a read
                max_frame_size=self.config.max_frame_size,
                max_redirects=0,
                extra_headers={"Sec-WebSocket-Extensions": wire.DEFLATE_OFFER},
                use_aiofastnet=False,
            )
        except WSError as error:
            raise NotConnected(f"handshake refused: {_refusal(error)}") from None
        except (OSError, TimeoutError) as error:
            raise NotConnected(f"no connection: {error or type(error).__name__}") from None
        return transport, listener if isinstance(listener, MessageListener) else None

    def _new_listener(self) -> MessageListener:
        listener = self._make_listener(self._disconnected)
        if self.config.tap is not None:
            listener.tap = partial(self.config.tap.received, self.name)
        return listener

    def _go_live(self) -> None:
        self._enter(LinkState.LIVE)
        self._live.set()
        self._first_try.set()
        _log.info("link %s: live", self.name)
        if self._on_live is not None:
            self._on_live()

    async def _watch(self) -> str:
        """Ping, check pongs and data age until the socket is gone; why it is."""
        config = self.config
        listener = self._listener
        assert listener is not None
        born_ns = quiet_since_ns = time.monotonic_ns()
        pings = self._pings = _Pings(config.ping_interval_s, config.pong_timeout_s)
        while not self._gone.is_set():
            now = time.monotonic_ns()
            proven_ns = now if config.data_timeout_s is None else listener.last_frame_ns
            if self._backoff.attempts and proven_ns - born_ns > config.stable_after_s * _NS:
                self._backoff.reset()
            await self.handle_pong()
            if pings.is_overdue(now, listener.last_pong_ns):
                self.cut(f"no pong for {config.pong_timeout_s} s")
            elif pings.is_due(now, listener.last_pong_ns) and self.is_connected:
                await self.send_ping()
            wait_s = config.watch_interval_s
            if config.data_timeout_s is not None:
                age_s = (now - max(listener.last_frame_ns, quiet_since_ns)) / _NS
                if age_s < config.data_timeout_s:
                    wait_s = min(wait_s, config.data_timeout_s - age_s)  # not a tick later
                elif await self._is_only_quiet():
                    quiet_since_ns = time.monotonic_ns()
                else:
                    self.cut(f"no data for {age_s:.1f} s")
            await wait_event(self._gone, wait_s)
        return self._reason("the peer closed the socket")

    async def _is_only_quiet(self) -> bool:
        """Ask a silent peer whether it is there. Pongs are no answer: they come from a muted stream too."""
        self._enter(LinkState.STALE)
        if self._probe is None:
            return False
        try:
            alive = await self._until_gone(self._probe(self), self.config.probe_timeout_s, "probe")
        except NadoError as error:
            _log.info("link %s: %s", self.name, error)
            return False
        if alive:
            self._enter(LinkState.LIVE)
        return alive

    async def _until_gone(self, work: Coroutine[Any, Any, T], timeout_s: float, what: str) -> T:
        """The result of `work`, unless the socket goes or the time runs out before."""
        task = asyncio.ensure_future(work)
        gone = asyncio.ensure_future(self._gone.wait())
        try:
            await asyncio.wait({task, gone}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
            if task.done() and (task.exception() is not None or not self._gone.is_set()):
                return task.result()
            if self._gone.is_set():
                # Even if the work is done: what it was done for is gone.
                raise ConnectionLost(f"{self.name}: {self._reason('the socket went')} during {what}")
            raise RequestTimeout(f"{self.name}: {what} took longer than {timeout_s} s")
        finally:
            task.cancel()
            gone.cancel()
            await asyncio.gather(task, gone, return_exceptions=True)

    async def _close(self) -> None:
        transport = self._transport
        if transport is not None:
            if self._stopping and self.is_connected:
                self._cut_reason = "stopped"
                transport.send_close(WSCloseCode.OK)
                transport.disconnect()
            else:
                transport.disconnect(graceful=False)
            await self._wait_disconnected(transport)
            self._lost()
        self._transport = self._listener = None

    async def _wait_disconnected(self, transport: WSTransport) -> None:
        for _ in range(2):
            try:
                async with asyncio.timeout(self.config.close_timeout_s):
                    await transport.wait_disconnected()
                return
            except TimeoutError:
                transport.disconnect(graceful=False)
            except Exception as error:
                # picows hands over what broke the socket: a protocol violation, or a failing listener.
                self._cut_reason = self._cut_reason or f"{type(error).__name__}: {error}"
                return

    # ------------------------------------------------------------------ inline

    def _disconnected(self, listener: object) -> None:
        if listener is self._listener:
            self._gone.set()
            self._lost()

    def _lost(self) -> None:
        """Once per connection: tell the owner before anybody can act on what the link carried."""
        if self.state not in _CONNECTED:
            return
        self._live.clear()
        self.losses += 1
        self.last_error = self._reason("the peer closed the socket")
        self._enter(LinkState.CLOSED, self.last_error)
        if self._on_lost is not None:
            self._on_lost(self.last_error)

    def _reason(self, default: str) -> str:
        listener = self._listener
        if self._cut_reason:
            return self._cut_reason
        if listener is not None and listener.failure:
            return listener.failure
        if listener is not None and listener.close_code:
            return f"closed by the peer: {listener.close_code} {listener.close_reason}".rstrip()
        return default

    def _give_up(self, reason: str) -> str:
        """Known before the socket is closed, or it would look as if the peer had done so."""
        self._cut_reason = reason
        return reason

    def _enter(self, state: LinkState, reason: str = "") -> None:
        if state is not self.state:
            self.history.append(Transition(time.monotonic_ns(), state, reason))
        self.state = state


def _abandon(connecting: asyncio.Future[tuple[WSTransport, MessageListener | None]]) -> None:
    if not connecting.cancelled() and connecting.exception() is None:
        connecting.result()[0].disconnect(graceful=False)


def _refusal(error: WSError) -> str:
    body = getattr(error, "raw_body", None) or b""
    return f"{error} {body[:120].decode('utf-8', 'replace')}".strip()
