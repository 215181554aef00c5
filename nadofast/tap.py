"""What somebody who listens in on a connection is told: every message, both ways, as it passes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol


class Tap(Protocol):
    """Give one to `LinkConfig`, `RestConfig` or both. It runs inline in the receive and the send path: it
    keeps what it is given and returns; it must not raise. Messages hold signatures: never write those down.
    """

    def received(self, link: str, at_ns: int, message: bytes) -> object:
        """A whole message, inflated, before anybody has read it. link: name of the connection, "http" for
        bodies of answers; at_ns: monotonic arrival."""

    def sent(self, link: str, message: bytes) -> object:
        """A message that is about to be handed to the transport."""

    def core_call(self, name: str, arguments: Sequence[Any]) -> object:
        """What changed books and prices of a feed beside its messages: `FeedCore`'s method and arguments,
        "new" with the product ids first of all. Whoever makes the same calls and gives the same messages to
        `receive`, in the order told here, has the same books."""
