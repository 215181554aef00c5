"""No collection of Python's heap at a bad moment."""

from __future__ import annotations

import gc


class NoCollection:
    """Inside it no collection begins; one that was due comes right after.

    For a few microseconds without an await, such as those between a decision and its bytes: a collection of
    the whole heap takes milliseconds.
    """

    __slots__ = ("_was_enabled",)

    def __enter__(self) -> None:
        self._was_enabled = gc.isenabled()
        gc.disable()

    def __exit__(self, *error: object) -> None:
        if self._was_enabled:
            gc.enable()
