"""Callbacks of a handler: told one after another, each failing alone."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final, Generic, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
_log: Final = logging.getLogger(__name__)


def enlist(members: list[T], member: T) -> Callable[[], None]:
    """Append it. Returns a function that takes it out again, once, however often it is called."""
    members.append(member)
    is_in = True

    def leave() -> None:
        nonlocal is_in
        if is_in:
            is_in = False
            members.remove(member)

    return leave


class Callbacks(Generic[P]):
    """errors: exceptions of callbacks, which are logged and reach nobody else."""

    def __init__(self, first: Callable[P, object] | None = None) -> None:
        self.errors = 0
        self._callbacks: list[Callable[P, object]] = [] if first is None else [first]

    def __bool__(self) -> bool:
        return bool(self._callbacks)

    def add(self, callback: Callable[P, object]) -> Callable[[], None]:
        """Returns a function that ends it."""
        return enlist(self._callbacks, callback)

    def tell(self, *args: P.args, **kwargs: P.kwargs) -> None:
        for callback in tuple(self._callbacks):
            try:
                callback(*args, **kwargs)
            except Exception:
                self.errors += 1
                _log.exception("a callback failed")
