"""Prints every change of the best bid and offer.

python examples/print_bbo.py testnet 4 8
python -m nadosim --seed 1 | python examples/print_bbo.py - 4 8     # the embedded exchange's ready line
"""

import asyncio
import contextlib
import json
import sys

import uvloop

import nadofast


def show(bbo: nadofast.Bbo) -> None:
    if bbo.has_bid and bbo.has_ask:
        bid, ask = nadofast.from_x18(bbo.bid_price_x18), nadofast.from_x18(bbo.ask_price_x18)
        print(f"{bbo.product_id:>4}  {bid:.4f} | {ask:.4f}", flush=True)


async def main(name: str, products: list[int]) -> None:
    network = nadofast.custom("embedded", json.loads(sys.stdin.readline())) if name == "-" else name
    async with nadofast.Feed(network, products=products, streams=["best_bid_offer"]) as feed:
        feed.on("best_bid_offer", show)
        await asyncio.Event().wait()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(main(sys.argv[1], [int(product) for product in sys.argv[2:]]))
