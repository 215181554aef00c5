"""Every code the reference names is produced by its cause, over the wire, or has a reason not to be."""

from __future__ import annotations

import aiohttp
import errorcases  # noqa: F401 - registers its cases
import errorcases_money  # noqa: F401
import pytest
from errorenv import CASES, Case, Env
from simproc import start_sim
from wireclient import Client

from nadosim.errors import TEXTS

TRIGGER = "rule of the trigger service, which is not part of this exchange"
POOL = "rule of the liquidity pool's shares, which are not offered (4001)"
INTERNAL = "of the exchange's own parts among each other; no request of a client leads to it"
SCREENING = "screening of addresses and places, which a local exchange has no use for"

# The codes of the reference that no test produces, and why.
EXCEPTIONS: dict[int, str] = {
    **dict.fromkeys((1001, 1002, 1003, 2021, 2023), SCREENING),
    2003: "the older form of 2094",
    2010: "a taker is judged (2006) in the step that matches it, so it cannot fail later",
    2037: "legacy",
    **dict.fromkeys((2041, 2049, 2051, 2052, 2053, 2063, 2072, 2074, 2075, 2076, 2093), INTERNAL),
    2054: "no execute carries a slippage limit",
    2071: "lending has no utilisation limit here",
    **dict.fromkeys((2057, 2058, 2059, *range(2097, 2111), 2126), TRIGGER),
    2084: "trigger bits are refused as such (2009) before isolation is looked at",
    2086: "every margin the field can hold is valid; one that is not enough is 2006",
    **dict.fromkeys((2090, 2092, 2096, 2112, 2113, 2116), POOL),
    **dict.fromkeys((3004, 3005), "withdrawals settle at once and leave no signature to ask for"),
    **dict.fromkeys((4000, 5000), "a defect of the exchange"),
    **dict.fromkeys((4003, 4004), "there is no contract behind this exchange"),
}
DOCUMENTED = frozenset(
    {1000, 1001, 1002, 1003, 1004, 1015, *range(2000, 2127), *range(3000, 3006), 4000, 4001, 4003, 4004, 5000}
)


@pytest.mark.parametrize("case", CASES, ids=str)
async def test_a_refusal_by_its_cause(case: Case) -> None:
    timeout = aiohttp.ClientTimeout(total=5)
    async with start_sim(seed=5, rate=0, **case.options) as server:
        async with aiohttp.ClientSession(timeout=timeout) as session:
            env = Env(server, Client(session, server.ready))
            assert await case.cause(env) == case.code
            assert server.exchange.accounts.totals().quote_x18 == 0


def test_every_documented_code_has_a_cause_or_a_reason() -> None:
    produced = {case.code for case in CASES}
    assert not produced & EXCEPTIONS.keys()
    assert produced | EXCEPTIONS.keys() == DOCUMENTED
    assert produced <= TEXTS.keys()
