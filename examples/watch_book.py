"""Prints a live book and survives whatever happens to its link.

python examples/watch_book.py testnet 4
python -m nadosim --seed 1 | python examples/watch_book.py - 4     # the embedded exchange's ready line
"""

import asyncio
import contextlib
import json
import sys

import uvloop

import nadofast


def tell(event: nadofast.events.BoundaryEvent) -> None:
    print(f"-- {event.what} (link {event.link}): {event.reason}", flush=True)


async def watch(name: str, product_id: int) -> None:
    network = nadofast.custom("embedded", json.loads(sys.stdin.readline())) if name == "-" else name
    streams = ["best_bid_offer", "book_depth"]
    async with nadofast.Feed(network, products=[product_id], streams=streams, links=2) as feed:
        feed.on("boundary", tell)
        await feed.wait_synced(30)
        book = feed.book(product_id)
        while True:
            if book.is_valid and book.best_bid and book.best_ask:
                bid, bid_qty, ask, ask_qty = map(nadofast.from_x18, book.best_bid + book.best_ask)
                print(f"{bid_qty} @ {bid} | {ask} @ {ask_qty}   {len(book)} levels", flush=True)
            await asyncio.sleep(0.2)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(watch(sys.argv[1], int(sys.argv[2])))
