"""A process that trades and keeps a journal, made to be killed:
`sender.py READY.json ACCOUNT JOURNAL SEED COUNT [LIFE_S]`.

It recovers what the former one left, prints `recovered`, then sends COUNT new intents, each in its own task,
and prints `done` when every outcome is known. The journal says which intents were signed before. With LIFE_S
it sends one order that rests for so long instead, prints `resting` and waits.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from pathlib import Path
from typing import Any

from bot.journal import Journal
from bot.recovery import Recovery
from nadofast import (
    Feed,
    GatewayConfig,
    OrderGateway,
    OrderRequest,
    OrderState,
    OrderTracker,
    OrderType,
    OutcomeKind,
    Rest,
    Signer,
    TimeSync,
    custom,
    to_x18,
)

ETH = 4


async def main(
    ready: dict[str, Any], account: int, journal_path: str, seed: int, count: int, life_s: int = 0
) -> None:
    rng = random.Random(seed)
    network = custom("sim", ready)
    signer = Signer(
        ready["accounts"][account]["private_key"],
        chain_id=network.chain_id,
        endpoint_address=network.endpoint_address,
    )
    tracker, timesync = OrderTracker(), TimeSync()
    with Journal(Path(journal_path), account=signer.subaccount()) as journal:
        tracker.on_change(journal.note)
        async with Rest(network, timeout_s=2.0) as rest:
            products = await rest.products([ETH])
            feed = Feed(network, products=[ETH], signer=signer, rest=rest, timesync=timesync)
            feed.on("fill", tracker.on_fill)
            feed.on("order_update", tracker.on_order_update)
            feed.on("boundary", lambda event: tracker.on_gap() if event.what.startswith("link") else None)
            gateway = OrderGateway(
                network, signer, products=products, timesync=timesync, rest=rest, tracker=tracker,
                journal=journal.record_all,
                config=GatewayConfig(
                    reply_timeout_s=0.3
                ),
            )  # fmt: skip
            async with feed, gateway:
                recovery = Recovery(
                    journal.found, journal=journal, tracker=tracker, timesync=timesync, gateway=gateway,
                    rest=rest,
                    subaccount=signer.subaccount(), product_ids=(ETH,),
                )  # fmt: skip
                await recovery.look(timeout_s=20.0)
                await recovery.ask_archive()
                print("recovered", flush=True)
                done = {fields["client_id"] for fields in journal.found.intents.values()}
                first = max(done, default=-1) + 1
                snapshot = await rest.market_liquidity(ETH, depth=1)
                product = products[ETH]
                buy = product.round_price(snapshot.asks[0][0] * 101 // 100, "up")
                sell = product.round_price(snapshot.bids[0][0] * 99 // 100, "down")

                if life_s:
                    price_x18 = product.round_price(snapshot.bids[0][0] * 97 // 100, "down")
                    dies_s = timesync.exchange_now_ms() // 1000 + life_s
                    resting = OrderRequest(
                        ETH,
                        price_x18,
                        to_x18("0.1"),
                        OrderType.POST_ONLY,
                        expiration_s=dies_s,
                        client_id=first,
                    )
                    outcome = await gateway.place(resting)
                    print("resting" if outcome.is_confirmed else outcome, flush=True)
                    await asyncio.Event().wait()

                async def trade(number: int) -> None:
                    side = 1 if number % 2 else -1
                    request = OrderRequest(
                        ETH, buy if side > 0 else sell, side * to_x18("0.05"), OrderType.IOC, client_id=number
                    )
                    outcome = await gateway.place(request)
                    while outcome.kind is OutcomeKind.UNKNOWN:
                        outcome = await gateway.resolve(outcome.digest, ETH)

                tasks = []
                for number in range(first, first + count):
                    tasks.append(asyncio.create_task(trade(number)))
                    await asyncio.sleep(rng.uniform(0, 0.02))
                await asyncio.gather(*tasks)
                for order in list(tracker._orders.values()):
                    while order.state is OrderState.UNKNOWN:  # a recovery asks for so long and no longer
                        await gateway.resolve(order.digest, ETH)
                    if order.was_accepted and not order.is_settled:
                        await gateway.settle(order.digest, ETH, 20.0)
                print("done", flush=True)


if __name__ == "__main__":
    _, ready_path, account, journal_path, *numbers = sys.argv
    asyncio.run(
        main(json.loads(Path(ready_path).read_text()), int(account), journal_path, *map(int, numbers))
    )
