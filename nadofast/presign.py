"""Orders signed ahead, in idle time, for a decision that may come: what then leaves is already written.

An option, off by default. A leg signed ahead carries a discard time that is up to `slack_ms` later than one
signed at the decision would have: by so much longer may a late leg still be taken. It never carries an
earlier one: signing ahead cannot kill a leg. What does not fit the decision any more is thrown away, unsent.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any, Final

from .errors import OrderDenied
from .order_rules import TAKER_ONLY
from .outcome import OrderRequest
from .preparing import SignedLegs
from .signing import nonce_recv_time_ms

PAUSE_S: Final = 0.02
"""At least so long between two signatures of one wish: a busy market must not cost a core."""
_log = logging.getLogger(__name__)


class Presigner:
    """Keeps the last wish signed. sign(requests, slack_ms) is the gateway's own.

    signed, used, missed: wishes signed, decisions they fitted, decisions they did not. failed: attempts that
    raised what a denied order does not; nothing lies ready then, and the next attempt comes as ever.
    """

    def __init__(self, sign: Callable[[Sequence[OrderRequest], int], SignedLegs], slack_ms: int) -> None:
        self._sign = sign
        self._slack_ms = slack_ms
        self._wish: tuple[OrderRequest, ...] = ()
        self._legs: SignedLegs | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._signed_s = float("-inf")
        self.signed = self.used = self.missed = self.failed = 0
        self._is_failing = False

    def expect(self, requests: Sequence[OrderRequest]) -> None:
        """These may be placed soon: sign them when the loop has time, and again before they grow stale, until
        they were placed or something else is expected. Nothing expected: nothing is kept."""
        if not requests:
            self.forget()
            return
        is_new = len(requests) != len(self._wish) or not all(map(_is_same, self._wish, requests))
        self._wish = tuple(requests)
        if is_new:
            self._legs = None
            self._sign_in(self._signed_s + PAUSE_S - asyncio.get_running_loop().time())

    def forget(self) -> None:
        """Throw away what is signed, and sign nothing more."""
        self._wish, self._legs = (), None
        if self._timer is not None:
            self._timer.cancel()

    def take(self, requests: Sequence[OrderRequest], now_ms: int) -> SignedLegs | None:
        """What was signed for exactly these, once; None if there is nothing, or it is stale. now_ms: the
        exchange's time."""
        legs, self._legs = self._legs, None
        if not self._wish:
            return None
        is_fit = (
            legs is not None
            and len(legs.requests) == len(requests)
            and all(map(_is_same, legs.requests, requests))
            and self._is_in_time(legs, requests, now_ms)
        )
        self.forget()
        self.used += is_fit
        self.missed += not is_fit
        return legs if is_fit else None

    def _is_in_time(self, legs: SignedLegs, requests: Sequence[OrderRequest], now_ms: int) -> bool:
        """Each discard time lies where one signed now would, or later by no more than the slack."""
        for record, request, default_ms in zip(legs.records, requests, legs.discards_ms, strict=True):
            wanted_ms = default_ms if request.discard_after_ms is None else request.discard_after_ms
            late_ms = nonce_recv_time_ms(record.nonce) - now_ms - wanted_ms
            if not 0 <= late_ms <= self._slack_ms:
                return False
        return True

    def _sign_wish(self) -> None:
        """Refreshed at half the slack: what lies ready fits at any time."""
        self._signed_s = asyncio.get_running_loop().time()
        try:
            self._legs = self._sign(self._wish, self._slack_ms)
        except (OrderDenied, OverflowError, ValueError):
            self._legs = None  # it would be denied now; the decision will hear why
        except Exception:
            self._legs = None
            self.failed += 1
            if not self._is_failing:
                _log.exception("nothing can be signed ahead")
            self._is_failing = True
        else:
            self.signed += 1
            self._is_failing = False
        self._sign_in(max(PAUSE_S, self._slack_ms / 2000))

    def _sign_in(self, pause_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(max(0.0, pause_s), self._sign_wish)


def _content(request: OrderRequest) -> tuple[Any, ...]:
    """What the signature and the message say of an order, the times aside."""
    return (
        request.product_id, request.price_x18, request.amount_x18, request.order_type, request.reduce_only,
        request.client_id,
    )  # fmt: skip


def _is_same(signed: OrderRequest, wanted: OrderRequest) -> bool:
    """The same order. An order that cannot rest needs no exact expiration."""
    if signed is wanted:
        return True
    if signed.order_type not in TAKER_ONLY and signed.expiration_s != wanted.expiration_s:
        return False
    return _content(signed) == _content(wanted)
