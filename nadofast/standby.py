"""HTTP beside the stream: the market and the positions while it is down, and the fills it missed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from ._core import FeedCore
from .backfill import BackfillConfig, FillBackfill
from .events import FillEvent, PositionChangeEvent
from .fallback import FallbackConfig, ModeSwitch, NadoConnectionMode, RestPoller
from .timesync import TimeSync

if TYPE_CHECKING:
    from .rest import Rest

_MS: Final = 1_000_000
_S_IN_MS: Final = 1_000


class RestStandby:
    """What a feed does with a `Rest`. publish(event): for what HTTP knows and the stream did not tell."""

    def __init__(
        self,
        core: FeedCore,
        rest: Rest,
        products: Sequence[int],
        subaccount: str | None,
        *,
        publish: Callable[[Any], None],
        timesync: TimeSync,
        fallback: FallbackConfig,
        backfill: BackfillConfig,
    ) -> None:
        self.switch = ModeSwitch(fallback)
        self.poller = RestPoller(
            core,
            rest,
            products,
            subaccount,
            on_position=self._on_position,
            exchange_now_ns=lambda: self._exchange_now_ms() * _MS,
            config=fallback,
        )
        self.backfill: FillBackfill | None = None
        if subaccount is not None:
            self.backfill = FillBackfill(
                rest,
                subaccount,
                products,
                publish,
                backfill,
                exchange_now_s=lambda: self._exchange_now_ms() // _S_IN_MS,
            )
        self._publish = publish
        self._timesync = timesync
        self._poll_s = fallback.poll_s

    # ------------------------------------------------------------------ what the stream tells, inline

    def is_new_fill(self, fill: FillEvent) -> bool:
        """Take note of a fill of the stream. False: the archive had told it before."""
        return self.backfill is None or self.backfill.note(fill)

    def on_live(self) -> None:
        if self.backfill is not None:
            self.backfill.request()

    def on_lost(self) -> None:
        if self.backfill is not None:
            self.backfill.checkpoint()

    # ------------------------------------------------------------------ tasks

    def update_mode(self, is_stream_up: bool, now_ns: int) -> bool:
        """True if the mode changed now."""
        if not self.switch.update(is_stream_up, now_ns):
            return False
        if self.switch.mode is NadoConnectionMode.REST and self.backfill is not None:
            self.backfill.request()
        return True

    async def poll_while_down(self) -> None:
        while True:
            await asyncio.sleep(self._poll_s)
            if self.switch.mode is NadoConnectionMode.REST:
                await self.poller.poll()

    def _on_position(self, event: PositionChangeEvent) -> None:
        self._publish(event)
        if self.backfill is not None:
            self.backfill.request()

    def _exchange_now_ms(self) -> int:
        """0 while the exchange's clock is unknown."""
        return self._timesync.exchange_now_ms() if self._timesync.is_known else 0
