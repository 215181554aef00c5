"""Streams that are of use together: market data, or account events. Each group is refused or live by itself.

A wallet that may not authenticate must not cost anybody the market, and a market stream that is refused must
not cost the account events.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from typing import Any, Final

from . import wire
from .control import ControlChannel
from .errors import ConnectionLost, ExchangeError, NadoError, RequestTimeout

RETRY_BASE_S: Final = 0.5
RETRY_CAP_S: Final = 30.0
_log = logging.getLogger(__name__)


class StreamGroup:
    """Opens its streams on a fresh socket, and again and again while they are refused on a live one.

    sign_in(number): the authenticate message, for groups that need one. on_up() runs inline when every
    stream is acknowledged.
    """

    def __init__(
        self,
        name: str,
        streams: Sequence[dict[str, Any]],
        *,
        sign_in: Callable[[int], bytes] | None = None,
        on_up: Callable[[], None] | None = None,
        retry_base_s: float = RETRY_BASE_S,
        retry_cap_s: float = RETRY_CAP_S,
    ) -> None:
        self.name = name
        self.is_up = False
        self.error: NadoError | None = None
        """Why it is not up, if the exchange said so or did not answer."""
        self.refusals = 0
        self._streams = tuple(streams)
        self._sign_in = sign_in
        self._on_up = on_up
        self._retry_base_s = retry_base_s
        self._retry_cap_s = retry_cap_s
        self._in_a_row = 0
        self._signed_in = False
        self._refused = asyncio.Event()
        self._generation = 0

    @property
    def is_wanted(self) -> bool:
        return bool(self._streams)

    @property
    def reason(self) -> str:
        return "" if self.error is None else str(self.error)

    def withdraw(self) -> None:
        """Do without these streams: another link of the feed carries them."""
        self._streams = ()

    def on_lost(self) -> None:
        """The socket is gone, and what was opened on it."""
        self._generation += 1
        self.is_up = self._signed_in = False
        self._refused.clear()

    async def sign_in(self, control: ControlChannel) -> None:
        """Authenticate, if the group needs it. A refusal is remembered, not raised; ConnectionLost is."""
        if self._sign_in is not None and self._streams and not self._signed_in:
            try:
                await control.request(self._sign_in, "authenticate")
            except (ExchangeError, RequestTimeout) as error:
                self._is_refused(error)
            else:
                self._signed_in = True

    async def open(self, control: ControlChannel) -> bool:
        """Subscribe; whether every stream was acknowledged. Raises ConnectionLost only."""
        if not self._streams or (self._sign_in is not None and not self._signed_in):
            return False
        generation = self._generation
        answers = await asyncio.gather(
            *(self._subscribe(control, stream) for stream in self._streams), return_exceptions=True
        )
        failures = [answer for answer in answers if isinstance(answer, BaseException)]
        for failure in failures:
            if isinstance(failure, ConnectionLost) or not isinstance(failure, ExchangeError | RequestTimeout):
                raise failure
        if generation != self._generation:
            return False
        if failures:
            assert isinstance(failures[0], NadoError)
            self._is_refused(failures[0])
            return False
        self.is_up, self.error, self._in_a_row = True, None, 0
        if self._on_up is not None:
            self._on_up()
        return True

    async def keep_open(self, control: ControlChannel, is_link_live: Callable[[], bool]) -> None:
        """Try again what a live socket refused, with a jittered and growing pause. Runs as a task."""
        while True:
            await self._refused.wait()
            ceiling = min(self._retry_cap_s, self._retry_base_s * 2.0 ** min(self._in_a_row - 1, 30))
            generation = self._generation
            await asyncio.sleep(random.uniform(ceiling / 2, ceiling))
            if generation != self._generation or not is_link_live():
                continue
            self._refused.clear()
            try:
                await self.sign_in(control)
                await self.open(control)
            except NadoError as error:
                _log.info("%s streams: %s", self.name, error)

    async def _subscribe(self, control: ControlChannel, stream: dict[str, Any]) -> None:
        what = f"subscribe {stream['type']} {stream.get('product_id', '')}".rstrip()
        await control.request(lambda number: wire.subscribe(stream, number), what)

    def _is_refused(self, error: NadoError) -> None:
        self.error = error
        self.refusals += 1
        self._in_a_row += 1
        self._refused.set()
        _log.warning("%s streams refused: %s", self.name, error)
