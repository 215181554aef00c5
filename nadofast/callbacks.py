"""Callbacks of a handler: told one after another, each failing alone."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final, Generic, ParamSpec

P = ParamSpec("P")
_log: Final = logging.getLogger(__name__)


class Callbacks(Generic[P]):
    """errors: exceptions of callbacks, which are logged and reach nobody else."""

    def __init__(self, first: Callable[P, object] | None = None) -> None:
        self.errors = 0
        self._callbacks: list[Callable[P, object]] = [] if first is None else [first]

    def __bool__(self) -> bool:
        return bool(self._callbacks)

    def add(self, callback: Callable[P, object]) -> Callable[[], None]:
        """Returns a function that ends it."""
        self._callbacks.append(callback)
        return lambda: self._callbacks.remove(callback) if callback in self._callbacks else None

    def tell(self, *args: P.args, **kwargs: P.kwargs) -> None:
        for callback in tuple(self._callbacks):
            try:
                callback(*args, **kwargs)
            except Exception:
                self.errors += 1
                _log.exception("a callback failed")
