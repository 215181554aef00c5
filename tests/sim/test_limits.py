"""Rate limits: weights as published, windows that slide, and who pays for what."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import pytest
from simcore import IOC, POST_ONLY, Trader
from simproc import start_sim
from wireclient import Client

from nadosim.app import SimServer
from nadosim.limits import MAX_KEYS, Budget, archive_weight, execute_weight, query_weight, sender_of


@pytest.mark.parametrize(
    ("request_", "weight"),
    [
        ({"type": "status"}, 1),
        ({"type": "market_liquidity", "product_id": 4, "depth": 100}, 1),
        ({"type": "nonces"}, 2),
        ({"type": "orders", "product_ids": [2, 4, 8]}, 6),
        ({"type": "orders", "product_ids": "[2,4]"}, 4),
        ({"type": "subaccount_orders"}, 2),
        ({"type": "subaccount_info"}, 2),
        ({"type": "subaccount_info", "txns": "[]"}, 10),
        ({"type": "subaccount_info", "txns": "[]", "pre_state": "true"}, 15),
        ({"type": "market_prices", "product_ids": [2, 4, 8]}, 3),
        ({"type": "all_products"}, 5),
        ({"type": "max_order_size"}, 5),
        ({"type": "isolated_positions"}, 10),
        ({"type": "nlp_pool_info"}, 20),
    ],
)
def test_queries_weigh_what_is_published(request_: dict[str, Any], weight: int) -> None:
    assert query_weight(request_) == weight


@pytest.mark.parametrize(
    ("name", "body", "weight"),
    [
        ("place_order", {}, 1),
        ("place_order", {"spot_leverage": False}, 20),
        ("place_orders", {"orders": [{}, {}, {"spot_leverage": False}]}, 22),
        ("place_orders", {"orders": []}, 1),
        ("cancel_orders", {"tx": {"digests": ["0x", "0x"]}}, 2),
        ("cancel_orders", {"tx": {"digests": []}}, 1),
        ("cancel_product_orders", {"tx": {"productIds": [4, 8]}}, 10),
        ("cancel_product_orders", {"tx": {"productIds": []}}, 50),
        ("cancel_and_place", {"cancel_tx": {"digests": ["0x"]}, "place_order": {}}, 2),
        ("link_signer", {}, 30),
        ("withdraw_collateral", {}, 10),
        ("withdraw_collateral", {"spot_leverage": False}, 20),
        ("liquidate_subaccount", {}, 20),
        ("place_order", None, 1),
    ],
)
def test_executes_weigh_what_is_published(name: str, body: Any, weight: int) -> None:
    assert execute_weight(name, body) == weight


@pytest.mark.parametrize(
    ("request_", "weight"),
    [
        ({"orders": {"limit": 100, "subaccounts": ["0x"]}}, 7),
        ({"matches": {"limit": 100, "subaccounts": ["0x", "0x"]}}, 22),
        ({"matches": {"limit": "500", "subaccounts": ["0x"]}}, 52),
        ({"events": {"limit": {"raw": 500}}}, 52),
        ({"events": {"limit": {"txs": "20"}}}, 4),
        ({"candlesticks": {"limit": 500}}, 26),
        ({"products": {}}, 10),
        ({"interest_and_funding": {}}, 5),
        ({"market_snapshots": {"interval": {"count": 300}, "product_ids": [2, 4]}}, 6),
        ({"backlog": {}}, 1),
        ({"funding_rate": {"product_id": 4}}, 2),
        ({}, 2),
    ],
)
def test_archive_requests_weigh_what_is_published(request_: dict[str, Any], weight: int) -> None:
    assert archive_weight(request_) == weight


def test_both_windows_slide() -> None:
    now = [0.0]
    budget = Budget(600, 100, lambda: now[0])
    assert budget.spend("a", 100)
    assert not budget.spend("a", 1)
    assert budget.spend("b", 100)  # somebody else's
    for _ in range(5):
        now[0] += 10.001
        assert budget.spend("a", 100)
    now[0] = 59.9
    assert not budget.spend("a", 1)  # the burst is over, the minute is full
    now[0] = 60.1
    assert budget.spend("a", 50)
    assert budget.refused == 2


def test_what_is_remembered_is_bounded() -> None:
    now = [0.0]
    budget = Budget(600, 100, lambda: now[0])
    for number in range(3 * MAX_KEYS):
        now[0] += 0.001
        budget.spend(str(number), 1)
    assert len(budget._usage) <= MAX_KEYS


def test_the_sender_is_found_in_every_execute() -> None:
    sender = "0x" + "Ab" * 32
    order = {"order": {"sender": sender}}
    assert sender_of("place_order", order) == sender[:42].lower()
    assert sender_of("place_orders", {"orders": [order]}) == sender[:42].lower()
    assert sender_of("cancel_and_place", {"cancel_tx": {"sender": sender}}) == sender[:42].lower()
    assert sender_of("link_signer", {"tx": {"sender": sender}}) == sender[:42].lower()
    for body in (None, [], {}, {"order": 4}, {"order": {"sender": 4}}, {"order": {"sender": "0x"}}):
        assert sender_of("place_order", body) is None


# Over the wire --------------------------------------------------------------------------------------


@pytest.fixture
async def limited() -> AsyncIterator[tuple[Client, SimServer, Trader]]:
    async with start_sim(seed=5, rate=0, rate_limits=True) as server, aiohttp.ClientSession() as session:
        yield Client(session, server.ready), server, Trader(server, deposit=50_000)  # type: ignore[arg-type]


Limited = tuple[Client, SimServer, Trader]
FORGED = "0x" + "11" * 64 + "1b"


async def test_a_wallet_over_its_budget_gets_1000_and_others_do_not(limited: Limited) -> None:
    client, server, trader = limited
    other = Trader(server, 2)  # type: ignore[arg-type]
    for _ in range(2):  # 50 each
        _, reply = await client.post("/execute", {"cancel_product_orders": trader.cancel_products()})
        assert reply["status"] == "success"
    order = trader.order("buy", "2900", "0.1", POST_ONLY)
    status, reply = await client.post("/execute", {"place_order": order})
    assert (status, reply["error_code"], reply["signature"]) == (200, 1000, order["signature"])
    async with client.socket("gateway_ws") as socket:
        await socket.send({"place_order": order})
        assert (await socket.receive())["error_code"] == 1000
    _, reply = await client.post("/execute", {"place_order": other.order("buy", "2900", "0.1", POST_ONLY)})
    assert reply["status"] == "success"
    assert (await client.get("/query", type="status"))[1]["status"] == "success"


async def test_an_address_over_its_budget_gets_1000(limited: Limited) -> None:
    client, _, trader = limited
    asked = {"type": "isolated_positions", "subaccount": trader.sender}
    replies = [(await client.post("/query", asked))[1] for _ in range(41)]
    assert [reply["status"] for reply in replies] == ["success"] * 40 + ["failure"]
    assert replies[-1]["error_code"] == 1000
    status, _ = await client.post("", {"matches": {}}, base="archive")  # a budget of its own
    assert status == 200


async def test_nobody_can_spend_the_budget_of_another(limited: Limited) -> None:
    client, _, trader = limited
    for _ in range(3):
        forged = trader.cancel_products()
        forged["signature"] = FORGED
        assert (await client.post("/execute", {"cancel_product_orders": forged}))[1]["error_code"] in (
            2028,
            2035,
        )
    for _ in range(2):
        _, reply = await client.post("/execute", {"cancel_product_orders": trader.cancel_products()})
        assert reply["status"] == "success"


def _late(sender: str) -> dict[str, Any]:
    return {
        "cancel_product_orders": {
            "tx": {"sender": sender, "productIds": [], "nonce": "1"},
            "signature": FORGED,
        }
    }


def _too_many(sender: str) -> dict[str, Any]:
    fields = {
        "sender": sender,
        "priceX18": "1",
        "amount": "1",
        "expiration": "1",
        "nonce": "1",
        "appendix": "1",
    }
    return {"place_orders": {"orders": [{"product_id": 4, "order": fields, "signature": FORGED}] * 51}}


def _uneven(sender: str) -> dict[str, Any]:
    tx = {"sender": sender, "productIds": [], "digests": ["0x" + "11" * 32] * 51, "nonce": "1"}
    return {"cancel_orders": {"tx": tx, "signature": FORGED}}


def _meaningless(sender: str) -> dict[str, Any]:
    return {"cancel_product_orders": {"tx": {"sender": sender, "productIds": None, "nonce": "1"}}}


@pytest.mark.parametrize(
    ("forge", "code"), [(_late, 2011), (_too_many, 2111), (_uneven, 2039), (_meaningless, 2038)]
)
async def test_what_is_refused_before_its_signature_is_looked_at_costs_no_wallet_anything(
    limited: Limited, forge: Callable[[str], dict[str, Any]], code: int
) -> None:
    client, _, trader = limited
    for _ in range(2):
        assert (await client.post("/execute", forge(trader.sender)))[1]["error_code"] == code
    for _ in range(2):
        _, reply = await client.post("/execute", {"cancel_product_orders": trader.cancel_products()})
        assert reply["status"] == "success"


async def test_a_forged_batch_is_paid_for_by_the_address_it_came_from(limited: Limited) -> None:
    client, _, trader = limited
    order = trader.order("buy", "2900", "0.1", POST_ONLY)
    order["signature"] = FORGED
    for _ in range(8):
        _, reply = await client.post("/execute", {"place_orders": {"orders": [order] * 50}})
        assert {one["digest"] for one in reply["data"]["place_orders"]} == {None}
    _, reply = await client.post("/execute", {"cancel_product_orders": trader.cancel_products()})
    assert reply["status"] == "success"
    assert (await client.get("/query", type="status"))[1]["error_code"] == 1000


async def test_a_batch_with_one_good_signature_is_the_wallets(limited: Limited) -> None:
    client, _, trader = limited
    good = [trader.order("buy", "2900", "0.1", POST_ONLY) for _ in range(2)]
    forged = {**trader.order("buy", "2900", "0.1", POST_ONLY), "signature": FORGED}
    for one in good:
        await client.post("/execute", {"place_orders": {"orders": [one, *[forged] * 49]}})
    _, reply = await client.post("/execute", {"cancel_product_orders": trader.cancel_products()})
    assert reply["error_code"] == 1000


async def test_a_wallet_pays_for_the_links_it_signs(limited: Limited) -> None:
    client, _, trader = limited
    link = {"link_signer": trader.link("0x" + "22" * 20)}
    assert (await client.post("/execute", link))[1]["status"] == "success"
    codes = [(await client.post("/execute", link))[1]["error_code"] for _ in range(3)]
    assert codes == [2022, 2022, 1000]  # thirty each: the fourth is one too many


async def test_the_archive_and_the_display_pages_say_429(limited: Limited) -> None:
    client, _, _ = limited
    statuses = [(await client.post("", {"matches": {"limit": 500}}, base="archive"))[0] for _ in range(8)]
    assert statuses == [200] * 7 + [429]


async def test_the_limit_can_be_told_by_http() -> None:
    async with start_sim(rate=0, rate_limits=True, rate_limit_reply="http") as server:
        trader = Trader(server)  # type: ignore[arg-type]
        async with aiohttp.ClientSession() as session:
            client = Client(session, server.ready)
            for _ in range(2):
                await client.post("/execute", {"cancel_product_orders": trader.cancel_products()})
            order = {"place_order": trader.order("buy", "3010", "0.1", IOC)}
            status, body = await client.post("/execute", order)
            assert (status, body["error_code"]) == (429, 1000)
            async with client.socket("gateway_ws") as socket:  # a socket has no status
                await socket.send({"place_order": {**order["place_order"], "id": 5}})
                refused = await socket.receive()
                assert (refused["error_code"], refused["request_type"]) == (1000, "execute_place_order")
                assert (refused["id"], refused["signature"]) == (5, order["place_order"]["signature"])
