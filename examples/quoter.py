"""A two-sided quoter with inventory skew, on the embedded exchange: the fast book in, signed orders out.

python -m nadosim --seed 1 | python examples/quoter.py 4 20       # product, seconds

It joins both sides of the book, leans against its inventory, moves a quote only when the market has left it,
and takes everything off at the end. Quotes die by themselves after ten seconds. It shows how the pieces fit;
it is no way to earn money.
"""

import asyncio
import json
import sys
import time
from contextlib import AsyncExitStack

import uvloop

import nadofast
from nadofast import (
    Feed,
    OrderGateway,
    OrderRequest,
    OrderTracker,
    OrderType,
    Product,
    Rest,
    Signer,
    TimeSync,
)
from nadofast.events import FillEvent

SIZE_USD = 150
MOST_LOTS = 3  # inventory, in quotes of one side, at which that side is no longer quoted
SKEW_TICKS = 2  # how far both quotes move away from a full inventory
LIFE_S = 10
PAUSE_S = 0.25


class Quoter:
    def __init__(self, product: Product, feed: Feed, gateway: OrderGateway) -> None:
        self.product = product
        self.book = feed.book(product.product_id)
        self.gateway = gateway
        self.inventory_x18 = 0
        self.cash_x18 = 0
        self.fills = 0
        self.quotes: dict[int, str] = {}  # side → digest of the quote that rests there
        feed.on("fill", self.on_fill)

    def on_fill(self, fill: FillEvent) -> None:
        side = 1 if fill.is_bid else -1
        self.inventory_x18 += side * fill.filled_qty_x18
        self.cash_x18 -= side * fill.filled_qty_x18 * fill.price_x18 // 10**18 + fill.fee_x18
        self.fills += 1
        print(
            f"fill {'buy' if fill.is_bid else 'sell'} {nadofast.from_x18(fill.filled_qty_x18):.4f}",
            flush=True,
        )

    def wanted(self) -> dict[int, tuple[int, int]]:
        """side → (price, size) of the quotes that should rest now; empty while the book may not be used."""
        if not self.book.is_valid or self.book.best_bid is None or self.book.best_ask is None:
            return {}
        tick, (bid, _), (ask, _) = self.product.price_increment_x18, self.book.best_bid, self.book.best_ask
        size = self.product.round_size(SIZE_USD * 10**36 // bid)
        lots = self.inventory_x18 / size
        lean = round(-SKEW_TICKS * lots / MOST_LOTS) * tick
        quotes = {1: (min(bid + lean, ask - tick), size), -1: (max(ask + lean, bid + tick), size)}
        return {side: quote for side, quote in quotes.items() if side * lots < MOST_LOTS}

    async def step(self) -> None:
        """Cancel what should not rest any more, place what should. Both sides at once."""
        wanted, tracker = self.wanted(), self.gateway.tracker
        for side, digest in list(self.quotes.items()):
            order = tracker.get(digest)
            if order is None or order.is_terminal:
                del self.quotes[side]
            elif (
                side not in wanted
                or abs(order.price_x18 - wanted[side][0]) > self.product.price_increment_x18
            ):
                await self.gateway.cancel(self.product.product_id, digest)
        requests = [
            OrderRequest(
                self.product.product_id, price, side * size, OrderType.POST_ONLY,
                expiration_s=int(time.time()) + LIFE_S,
            )
            for side, (price, size) in wanted.items()
            if side not in self.quotes
        ]  # fmt: skip
        for request, outcome in zip(requests, await self.gateway.place_many(requests), strict=True):
            if outcome.digest:
                self.quotes[1 if request.amount_x18 > 0 else -1] = outcome.digest


async def main(product_id: int, seconds: float) -> None:
    ready = json.loads(sys.stdin.readline())
    network = nadofast.custom("embedded", ready)
    signer = Signer(
        ready["accounts"][0]["private_key"],
        chain_id=network.chain_id,
        endpoint_address=network.endpoint_address,
    )
    async with AsyncExitStack() as stack:
        rest = await stack.enter_async_context(Rest(network))
        products, clock, tracker = await rest.symbols(), TimeSync(), OrderTracker()
        await rest.sync_time(clock)
        feed = Feed(network, products=[product_id], signer=signer, rest=rest, timesync=clock)
        feed.on("fill", tracker.on_fill)
        feed.on("order_update", tracker.on_order_update)
        await stack.enter_async_context(feed)
        gateway = OrderGateway(network, signer, products=products, timesync=clock, rest=rest, tracker=tracker)
        await stack.enter_async_context(gateway)
        await feed.wait_synced(30)
        quoter, end = Quoter(products[product_id], feed, gateway), time.monotonic() + seconds
        try:
            while time.monotonic() < end:
                await quoter.step()
                await asyncio.sleep(PAUSE_S)
        finally:
            await gateway.cancel_product([product_id])
        mid_x18 = feed.book(product_id).mid_x18 or 0
        worth_x18 = quoter.cash_x18 + quoter.inventory_x18 * mid_x18 // 10**18
        print(
            f"{quoter.fills} fills, inventory {nadofast.from_x18(quoter.inventory_x18):.4f},"
            f" result {float(nadofast.from_x18(worth_x18)):+.4f} USD at the mid"
        )


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), float(sys.argv[2])))
