"""Authenticated subscription sockets per wallet: the exchange allows five, so they are counted here."""

from __future__ import annotations

import weakref
from typing import Final

MAX_PER_WALLET: Final = 5


class AuthSockets:
    """What the feeds of this process hold. A holder that is gone without a word holds nothing."""

    def __init__(self, limit: int = MAX_PER_WALLET) -> None:
        self.limit = limit
        self._held: dict[str, weakref.WeakKeyDictionary[object, int]] = {}

    def in_use(self, wallet: str) -> int:
        return sum(self._held.get(wallet, {}).values())

    def reserve(self, wallet: str, holder: object, wanted: int) -> int:
        """How many of `wanted` sockets `holder` may authenticate; what it held before is given back first."""
        held = self._held.setdefault(wallet, weakref.WeakKeyDictionary())
        held.pop(holder, None)
        granted = min(wanted, max(0, self.limit - self.in_use(wallet)))
        if granted:
            held[holder] = granted
        return granted

    def release(self, wallet: str, holder: object) -> None:
        self._held.get(wallet, weakref.WeakKeyDictionary()).pop(holder, None)


AUTH_SOCKETS: Final = AuthSockets()
"""One wallet, one count, however many feeds this process has."""
