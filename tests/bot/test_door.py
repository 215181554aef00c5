"""The gate at the gateway's door, over the real wire: what was not approved does not reach the exchange."""

from __future__ import annotations

from simproc import start_sim

from bot.risk import CLIENT_ID_BASE, OrderIntent, Purpose, RiskGate, RiskLimits, RiskView
from nadofast.gateway import OrderGateway, OrderRequest, OutcomeKind
from nadofast.network import custom
from nadofast.products import to_x18
from nadofast.rest import Rest
from nadofast.signing import OrderType, Signer
from nadofast.timesync import TimeSync

LIMITS = RiskLimits(to_x18(150), to_x18(300), to_x18(10), 5_000)
VIEW = RiskView({4: 0, 8: 0}, {4: to_x18(3000), 8: to_x18(140)}, {4: 1, 8: 1}, 0)


def order(amount: str, tag: int | None) -> OrderRequest:
    client_id = None if tag is None else CLIENT_ID_BASE + tag
    return OrderRequest(4, to_x18(3100), to_x18(amount), OrderType.IOC, client_id=client_id)


async def test_only_an_approved_order_reaches_the_exchange_and_only_once() -> None:
    async with start_sim(seed=3) as sim:
        network = custom("sim", sim.ready)
        key = sim.ready["accounts"][0]["private_key"]
        signer = Signer(key, chain_id=network.chain_id, endpoint_address=network.endpoint_address)
        gate = RiskGate(LIMITS, lambda: VIEW)
        async with Rest(network) as rest:
            products = {p.product_id: p for p in (await rest.symbols()).values()}
            gateway = OrderGateway(
                network, signer, products=products, timesync=TimeSync(), rest=rest, before_send=gate.admit
            )
            async with gateway:
                assert gate.check(OrderIntent(1, 0, 4, Purpose.ENTRY, to_x18("0.040"), to_x18(3100)))
                kinds = [
                    (await gateway.place(order(amount, tag))).kind
                    for amount, tag in (
                        ("0.040", None),
                        ("0.040", 2),
                        ("0.400", 1),
                        ("0.040", 1),
                        ("0.040", 1),
                    )
                ]
            denied, confirmed = OutcomeKind.DENIED, OutcomeKind.CONFIRMED
            assert kinds == [denied, denied, denied, confirmed, denied]
            info = await rest.subaccount_info(signer.subaccount())
            assert info.position_x18(4) == to_x18("0.040")
