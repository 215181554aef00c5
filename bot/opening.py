"""What a start finds on the account, and the state of the pair it goes on from."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import Final

from nadofast.errors import NadoError
from nadofast.models import OpenOrder

from . import preflight
from .keeping import Say
from .link import Link
from .model import PairState
from .preflight import StartError
from .reconcile import Holdings
from .restart import Found, OnOpen, first_state, refusal

CLEAR_TIMEOUT_S: Final = 5.0
CLEAR_PAUSE_S: Final = 0.1


async def look(link: Link, choice: OnOpen, *, only_looks: bool, say: Say | None) -> Found:
    """What the account holds. Orders on the books are taken off, unless the choice forbids to go on or this
    start only looks. say: takes what would be refused otherwise."""
    ids = tuple(product.product_id for product in link.products)
    reconciler = link.reconciler
    seen = await preflight.answer(lambda: reconciler.read(with_isolated=True))
    books = [await preflight.answer(partial(reconciler.resting, product_id)) for product_id in ids]
    found = found_of(link, seen, tuple(order for book in books for order in book))
    if only_looks:
        return found
    if reason := refusal(found, choice):
        if say is None:
            raise StartError(reason)
        say(reason)
    if found.resting:
        try:
            await _clear_books(link, ids)
        except (StartError, NadoError) as error:
            if say is None:
                raise
            say(str(error))
    return found


def found_of(link: Link, seen: Holdings, resting: tuple[OpenOrder, ...]) -> Found:
    first, second = (product.product_id for product in link.products)
    return Found(
        link.products,
        (seen.position_x18(first), seen.position_x18(second)),
        (seen.isolated_x18(first), seen.isolated_x18(second)),
        resting,
    )


async def _clear_books(link: Link, ids: tuple[int, ...]) -> None:
    try:
        async with asyncio.timeout(CLEAR_TIMEOUT_S):
            while await link.reconciler.count_resting():
                await link.gateway.cancel_product(list(ids))
                await asyncio.sleep(CLEAR_PAUSE_S)
    except TimeoutError:
        raise StartError(f"orders still rest {CLEAR_TIMEOUT_S:g} s after their cancel") from None


def start_state(link: Link, seen: Holdings, choice: OnOpen) -> PairState | None:
    ids = [product.product_id for product in link.products]
    marks = link.market.marks_x18
    return first_state(
        choice, link.products, (seen.position_x18(ids[0]), seen.position_x18(ids[1])),
        (marks[ids[0]], marks[ids[1]]), link.gate.limits,
        max_net_delta_bps=link.plan.max_net_delta_bps, now_ns=time.monotonic_ns(),
    )  # fmt: skip
