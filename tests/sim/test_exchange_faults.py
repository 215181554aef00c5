"""Every fault, and what it does to a client that did not expect it."""

from __future__ import annotations

import aiohttp
import faultcases  # noqa: F401 - registers its cases
import faultcases_exchange  # noqa: F401
import pytest
from faultenv import WAYS, Way, publish
from simcore import ETH, POST_ONLY, SOL, Trader
from simproc import start_sim
from wireclient import Client, Socket

from nadosim.app import SimServer
from nadosim.fault_catalog import CATALOG
from nadosim.switches import PARAMS as SWITCHES


def test_every_fault_is_tested() -> None:
    assert set(WAYS) == set(CATALOG) - set(SWITCHES)  # those are thrown in test_switches_at_run_time


@pytest.mark.parametrize(
    ("name", "suffer"), [pytest.param(name, one, id=one.__name__[1:]) for name in WAYS for one in WAYS[name]]
)
async def test_a_client_suffers(
    name: str, suffer: Way, client: Client, server: SimServer, trader: Trader
) -> None:
    await suffer(client, server, trader)
    assert server.faults.counts[name] >= 1
    assert name in CATALOG


@pytest.mark.parametrize(("answer", "code"), [("reject", 2013), ("fill_remainder", 0)])
async def test_a_dead_digest_may_come_back(answer: str, code: int) -> None:
    async with start_sim(rate=0, switches={"dead_digest": answer}) as server:
        trader = Trader(server)  # type: ignore[arg-type]
        order = trader.order("buy", "2900", "0.1", POST_ONLY)
        digest = server.exchange.commit_place(server.exchange.validate_place(order))["digest"]
        server.exchange.cancel_orders(trader.cancel(digest))
        async with aiohttp.ClientSession() as session:
            reply = (await Client(session, server.ready).post("/execute", {"place_order": order}))[1]
        assert reply.get("error_code", 0) == code


async def test_faults_of_one_product_leave_the_other_alone(
    client: Client, server: SimServer, trader: Trader
) -> None:
    async with client.socket("subscribe") as socket:
        for product_id in (ETH, SOL):
            await socket.ask("subscribe", stream={"type": "trade", "product_id": product_id})
        await client.fault(drop={"product_id": ETH, "count": 1})
        for product_id in (ETH, SOL):
            publish(server, product_id, product_id)
        assert (await socket.until("trade"))[0]["product_id"] == SOL
    assert server.faults.counts["drop"] == 1
    assert isinstance(socket, Socket)


@pytest.mark.parametrize("size", [70_000, 3_000_000])
async def test_an_oversized_frame_breaks_a_reader_with_a_limit(
    client: Client, server: SimServer, trader: Trader, size: int
) -> None:
    async with client.socket("subscribe", max_msg_size=1 << 20) as socket:
        await socket.ask("subscribe", stream={"type": "trade", "product_id": ETH})
        await client.fault(oversized_frame=size)
        publish(server, 1)
        message = await socket.ws.receive(timeout=5)
        assert (message.type is aiohttp.WSMsgType.TEXT) is (size < 1 << 20)
