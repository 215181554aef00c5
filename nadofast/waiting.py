"""A wait with a deadline that never swallows a cancellation.

`asyncio.wait_for` of Python 3.11 returns normally when it is cancelled in the very turn its wait completes;
a task that loops around it then never ends. `asyncio.timeout` has no such race.
"""

from __future__ import annotations

import asyncio


async def wait_event(event: asyncio.Event, timeout_s: float) -> bool:
    """Wait until the event is set, at most timeout_s; whether it is."""
    try:
        async with asyncio.timeout(timeout_s):
            await event.wait()
    except TimeoutError:
        return False
    return True
