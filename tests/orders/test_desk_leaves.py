"""The order desk at its end: nothing of it goes on."""

from __future__ import annotations

from deskkit import ETH, Desk, until

from bot.desk import OrderDesk
from bot.risk import OrderIntent, Purpose
from nadofast.products import to_x18


async def test_a_desk_that_is_left_while_it_sends_watches_nothing(desk: Desk) -> None:
    await desk.stand_still()
    tracker, quote, price = desk.gateway.tracker, desk.eth.quote(), await desk.eth.get_order_price("buy")
    work = OrderDesk(
        (desk.eth, desk.sol), desk.gateway, desk.gate, tracker, ask=desk.eth._books().ask,
        is_stream_live=lambda: True, on_change=lambda _: None,
    )  # fmt: skip
    await desk.faults(lose_reply=1)
    entry = OrderIntent(1, 0, ETH, Purpose.ENTRY, to_x18(1), to_x18(price), 30_000)
    work.send([entry], [quote.mid_x18, 0])
    await until(lambda: len(tracker) == 1, "it is on its way")
    await work.leave(cancel=False)
    assert work._tasks == set()
