"""Bad days by schedule: the `[[faults]]` tables of the configuration file.

[[faults]]
at_s = 10
every_s = 60            # left out: once
cut = "subscribe"
drop = { kind = "book_depth", product_id = 4 }
"""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import monotonic
from typing import Any, Final

from . import fault_catalog
from .fault_catalog import MAX_SECONDS
from .params import BadFault, Param

log = logging.getLogger(__name__)

_SECONDS: Final = Param("number", 0, 0, MAX_SECONDS)


@dataclass(frozen=True, slots=True)
class Entry:
    """One table. at_s: since the start. every_s: 0 for once. faults: as `POST /sim/faults` takes them."""

    at_s: float
    every_s: float
    faults: Mapping[str, Any]


def parse(value: Any) -> tuple[Entry, ...]:
    """Raises BadFault."""
    if not isinstance(value, list | tuple) or not all(isinstance(table, Mapping) for table in value):
        raise BadFault("faults: expected an array of tables")
    script = []
    for table in value:
        at_s = _SECONDS.check("faults.at_s", table.get("at_s", 0))
        every_s = _SECONDS.check("faults.every_s", table.get("every_s", 0))
        faults = {name: item for name, item in table.items() if name not in ("at_s", "every_s")}
        fault_catalog.check(faults)
        script.append(Entry(at_s, every_s, faults))
    return tuple(script)


async def play(script: tuple[Entry, ...], strike: Callable[[Mapping[str, Any]], None]) -> None:
    """Hand each entry to `strike` when it is due, until none is left; one that is refused is logged."""
    started_s = monotonic()
    due = [(entry.at_s, number) for number, entry in enumerate(script)]
    heapq.heapify(due)
    while due:
        at_s, number = heapq.heappop(due)
        await asyncio.sleep(max(0.0, started_s + at_s - monotonic()))
        try:
            strike(script[number].faults)
        except BadFault as error:
            log.warning("a fault of the schedule is refused: %s", error)
        if script[number].every_s:
            heapq.heappush(due, (at_s + script[number].every_s, number))
