"""The sockets orders leave by: the concurrent one, and two serial ones while that one is refused.

A serial socket works one request off before it looks at the next, so it carries one at a time: two legs get a
socket each, and whatever finds both taken goes another way.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from ._feed import TextListener
from .connection import LinkConfig, NadoConnectionManager
from .errors import RequestTimeout
from .waiting import wait_event

SERIAL_LANES: Final = 2
_UP_POLL_S: Final = 0.1  # a serial socket is free again without being up anew
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LanesConfig:
    """serial_after_s: how long a concurrent socket that had been up may be gone before the serial ones open;
    one that is refused opens them at once."""

    serial_after_s: float = 0.5


class Lane:
    """One socket for requests. under_way: its requests without an answer; idle: set while there are none."""

    def __init__(
        self,
        url: str,
        *,
        name: str,
        path: str,
        is_serial: bool,
        on_text: Callable[[Lane, bytes], None],
        on_lost: Callable[[Lane, str], None],
        on_live: Callable[[], None],
        config: LinkConfig,
    ) -> None:
        self.path = path
        self.is_serial = is_serial
        self.under_way = 0
        self.idle = asyncio.Event()
        self.idle.set()
        self._on_text = on_text
        self.link = NadoConnectionManager(
            url,
            self._make_listener,
            name=name,
            config=config,
            on_live=on_live,
            on_lost=lambda reason: on_lost(self, reason),
        )

    def _make_listener(self, on_disconnected: Callable[[object], None]) -> TextListener:
        return TextListener(lambda message: self._on_text(self, message), on_disconnected=on_disconnected)

    def took(self) -> None:
        """A request has left."""
        self.under_way += 1
        self.idle.clear()

    def gave(self) -> None:
        """Its answer is in, or nobody waits for it any more."""
        self.under_way -= 1
        if not self.under_way:
            self.idle.set()

    def blocked(self) -> str | None:
        """Why a request would not leave, or not be looked at, at once; None if it would."""
        if self.is_serial and self.under_way:
            return "a request is under way"
        return self.link.blocked()


class Lanes:
    """Keeps the concurrent socket up, and the serial ones only while it is not."""

    def __init__(
        self,
        concurrent_url: str,
        serial_url: str,
        *,
        on_text: Callable[[Lane, bytes], None],
        on_lost: Callable[[Lane, str], None],
        link_config: LinkConfig,
        config: LanesConfig,
    ) -> None:
        self._config = config
        self._link_config = link_config
        self._on_lost = on_lost
        self._changed = asyncio.Event()
        self._up = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.is_held = False
        """Told to send nothing by any socket."""
        self.fallbacks = 0
        """How often the serial sockets were opened."""

        def lane(url: str, name: str, path: str, *, is_serial: bool) -> Lane:
            return Lane(
                url, name=name, path=path, is_serial=is_serial, on_text=on_text, on_lost=self._lost,
                on_live=self._is_up, config=link_config,
            )  # fmt: skip

        self.concurrent = lane(concurrent_url, "orders", "ws", is_serial=False)
        self.serial = tuple(
            lane(serial_url, f"orders v1 {number}", "ws_v1", is_serial=True)
            for number in range(1, SERIAL_LANES + 1)
        )

    def pick(self) -> Lane | None:
        """The socket the next request should leave by; None if every one is down, taken or held."""
        if self.is_held:
            return None
        if self.concurrent.blocked() is None:
            return self.concurrent
        return next((lane for lane in self.serial if lane.blocked() is None), None)

    def blocked(self) -> str | None:
        """Why nothing could leave by any socket; None if something could."""
        if self.pick() is not None:
            return None
        return "held" if self.is_held else self.concurrent.blocked()

    async def wait_idle(self) -> None:
        """Until no request is under way on any socket."""
        for lane in (self.concurrent, *self.serial):
            await lane.idle.wait()

    async def wait_up(self, timeout_s: float) -> bool:
        """Wait until a socket would take a request. False: not in time."""
        try:
            async with asyncio.timeout(timeout_s):
                while self.pick() is None:
                    await wait_event(self._up, _UP_POLL_S)
                    self._up.clear()
        except TimeoutError:
            return False
        return True

    def start(self) -> None:
        """Begin to connect, in the background."""
        self.concurrent.link.start()
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._supervise(), name="order sockets")

    async def wait_first_try(self, timeout_s: float) -> bool:
        """Wait until the concurrent socket, or else a serial one, is up. False: none came up in time."""
        try:
            async with asyncio.timeout(timeout_s):
                if await self.concurrent.link.wait_first_try(timeout_s):
                    return True
                for lane in self.serial:
                    lane.link.start()
                tries = [lane.link.wait_first_try(timeout_s) for lane in self.serial]
                return any(await asyncio.gather(*tries))
        except TimeoutError:
            return False

    async def stop(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await asyncio.gather(*(lane.link.stop() for lane in (self.concurrent, *self.serial)))

    def _is_up(self) -> None:
        self._changed.set()
        self._up.set()

    def _lost(self, lane: Lane, reason: str) -> None:
        self._changed.set()
        self._on_lost(lane, reason)

    async def _supervise(self) -> None:
        """Open the serial sockets when the concurrent one is refused or stays away; close them, once their
        answers are in, when it is back."""
        while True:
            self._changed.clear()
            if self.concurrent.link.is_live:
                await self._retire()
            elif not await self._comes_up():
                if self.serial[0].link.state.value == "disconnected":
                    self.fallbacks += 1
                    _log.warning("orders go over /v1/ws: %s", self.concurrent.link.last_error)
                for lane in self.serial:
                    lane.link.start()
            else:
                continue
            await self._changed.wait()

    async def _comes_up(self) -> bool:
        link = self.concurrent.link
        if link.connects == 0:
            return await link.wait_first_try(self._link_config.handshake_timeout_s)
        try:
            await link.wait_live(self._config.serial_after_s)
        except RequestTimeout:
            return False
        return True

    async def _retire(self) -> None:
        for lane in self.serial:
            # Each request has a deadline, so this ends; new ones leave by the concurrent socket meanwhile.
            await lane.idle.wait()
            if self.concurrent.link.is_live:
                await lane.link.stop()
