"""Tags begin anew with every process: the desk takes no order of a former one for its own."""

from __future__ import annotations

from typing import Any

from bot.desk import OrderDesk
from bot.execution import RETRY_PAUSE_MAX_NS, OrderView, too_fast_pause_ns
from bot.risk import CLIENT_ID_BASE, OrderIntent, Purpose
from nadofast.orders import OrderTracker
from nadofast.products import to_x18

FORMER, OURS = "0x" + "0a" * 32, "0x" + "0b" * 32


def restored(tracker: OrderTracker, digest: str, amount: str) -> None:
    tracker.restore(
        digest=digest, product_id=4, sender="0x01", price_x18=to_x18(3_000), amount_x18=to_x18(amount),
        expiration_s=2**62, nonce=1 << 20, appendix=1, client_id=CLIENT_ID_BASE + 1,
    )  # fmt: skip


def test_the_last_word_about_a_former_order_is_none_about_ours() -> None:
    tracker: OrderTracker = OrderTracker()
    nobody: Any = None
    desk = OrderDesk(
        nobody,
        nobody,
        nobody,
        tracker,
        ask=nobody,
        is_stream_live=bool,
        on_change=lambda _: None,
        timesync=nobody,
    )
    restored(tracker, FORMER, "0.05")
    desk.expect(OrderIntent(1, 0, 4, Purpose.TAKE, to_x18("-0.05"), to_x18(3_000)), to_x18(3_000))
    tracker.on_last_word(FORMER, 0)
    assert desk.view(1) == OrderView(1, 0, False)
    restored(tracker, OURS, "-0.05")
    tracker.on_last_word(OURS, 0)
    order = desk.order(1)
    assert order is not None
    assert order.digest == OURS
    assert order.view().is_final
    tracker.on_last_word(FORMER, 0)
    assert order.digest == OURS


def test_too_fast_is_answered_by_a_second_and_a_little_that_differs() -> None:
    pauses_ns = {too_fast_pause_ns(now_us * 1_000) for now_us in range(256)}
    assert len(pauses_ns) == 256
    assert min(pauses_ns) == RETRY_PAUSE_MAX_NS
    assert max(pauses_ns) < 1.25 * RETRY_PAUSE_MAX_NS
