"""What a tap is told: every message of a link, both ways; also orders that leave in one write."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from clientkit import FAST_LINK, Venue

from nadofast import GatewayConfig, OrderRequest, OrderType, to_x18


class Heard:
    """A tap that remembers; what was sent is decoded."""

    def __init__(self) -> None:
        self.came: list[bytes] = []
        self.left: list[dict[str, Any]] = []

    def received(self, link: str, at_ns: int, message: bytes) -> None:
        self.came.append(message)

    def sent(self, link: str, message: bytes) -> None:
        self.left.append(json.loads(message))

    def core_call(self, name: str, arguments: Sequence[Any]) -> None:
        """A gateway has no core."""


async def test_every_order_is_told_whether_it_leaves_alone_or_with_another(venue: Venue) -> None:
    heard = Heard()
    config = GatewayConfig(link=replace(FAST_LINK, tap=heard), min_entry_discard_ms=3_000)
    await venue.rest.sync_time(venue.timesync, 3)
    async with venue.gateway(config=config) as gateway:
        ask = (await venue.rest.market_liquidity(4, depth=1)).asks[0][0]
        price = venue.products[4].round_price(ask * 101 // 100, "up")
        orders = [OrderRequest(4, price, to_x18("0.1"), OrderType.IOC, client_id=n) for n in (1, 2, 3)]
        outcomes = await gateway.place_many(orders[:2]) + [await gateway.place(orders[2])]
        assert [outcome.path for outcome in outcomes] == ["ws"] * 3
        await gateway.cancel(4, outcomes[0].digest)
    told = [message for message in heard.left if "place_order" in message]
    assert [message["place_order"]["order"]["priceX18"] for message in told] == [str(price)] * 3
    assert len({message["place_order"]["signature"] for message in told}) == 3
    assert sum("cancel_orders" in message for message in heard.left) == 1
    answers = [json.loads(message) for message in heard.came]
    assert sum(answer.get("status") == "success" for answer in answers) >= 3
