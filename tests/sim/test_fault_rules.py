"""Rules of faults: how a request for one is read, which one strikes, and when it is forgotten."""

from __future__ import annotations

import time
import zlib
from typing import Any

import pytest
from simcore import ETH
from simproc import start_sim
from wireclient import eventually

from nadosim import fault_catalog
from nadosim.distortion import Form, Outgoing, raw_frame
from nadosim.fault_catalog import CATALOG, read
from nadosim.fault_script import parse
from nadosim.faults import Faults, Rule
from nadosim.params import BadFault
from nadosim.switches import PARAMS as SWITCHES


def _throw(faults: Faults, **request: Any) -> None:
    fault_catalog.apply(faults, request, {})


@pytest.mark.parametrize("name", sorted(set(CATALOG) - set(SWITCHES)))
@pytest.mark.parametrize("off", [None, False, 0])
def test_every_fault_can_be_switched_off(name: str, off: Any) -> None:
    faults = Faults()
    faults.add(Rule(name))
    faults.add(Rule("unconcerned"))
    _throw(faults, **{name: off})
    assert faults.standing(name) is None
    assert faults.standing("unconcerned") is not None


@pytest.mark.parametrize(
    ("name", "key"), [("delay", "ms"), ("archive_lag", "seconds"), ("clock_offset", "ms")]
)
def test_the_newest_of_several_states_holds(name: str, key: str) -> None:
    faults = Faults()
    _throw(faults, **{name: 1})
    _throw(faults, **{name: {key: 2, "for_s": 60}})
    standing, taken = faults.standing(name), faults.take(name)
    assert standing is not None
    assert taken is standing
    assert taken.value[key] == 2


def test_occasions_are_used_up_in_the_order_they_came() -> None:
    faults = Faults()
    _throw(faults, refuse=[2070, 2006])
    struck = [faults.take("refuse") for _ in range(3)]
    assert [rule and rule.value["code"] for rule in struck] == [2070, 2006, None]


@pytest.mark.parametrize("name", ["pause_market", "maintenance", "dead_digest", "drop"])
def test_what_is_over_is_forgotten(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or a schedule that runs for days would make every look at a fault longer than the one before."""
    faults = Faults()
    value = {"value": "reject"} if name == "dead_digest" else {}
    for _ in range(50):
        _throw(faults, **{name: {**value, "for_s": 0}})
    looks = []
    is_over = Rule.is_over
    monkeypatch.setattr(Rule, "is_over", property(lambda rule: looks.append(rule) or is_over.fget(rule)))
    assert faults.standing(name) is None
    assert len(looks) == 1


@pytest.mark.parametrize("size", [65_536, (1 << 20) + 3, 5 << 20])
def test_a_bomb_inflates_to_what_was_asked_for(size: int) -> None:
    frame = raw_frame(Outgoing(b"{}", form=Form.BOMB, size=size), deflates=True)
    body = frame[frame.index(b"\x7e") + 3 :] if frame[1] == 126 else frame[2:]
    inflated = zlib.decompressobj(-zlib.MAX_WBITS).decompress(body + b"\x00\x00\xff\xff")
    assert inflated == b"{" + b" " * size + b"}"


def test_a_bomb_is_made_without_holding_everybody_up() -> None:
    started_s = time.process_time()
    frame = raw_frame(Outgoing(b"{}", form=Form.BOMB, size=1 << 29), deflates=True)
    assert time.process_time() - started_s < 0.5
    assert len(frame) < 1 << 20


def test_chance_is_seeded() -> None:
    def struck(seed: int) -> list[bool]:
        faults = Faults(seed)
        faults.add(Rule("drop", probability=0.3))
        return [faults.take("drop") is not None for _ in range(200)]

    assert struck(4) == struck(4)
    assert struck(4) != struck(5)
    assert 30 < sum(struck(4)) < 90


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("drop", {"count": 0}),
        ("drop", {"probability": 2}),
        ("drop", {"scope": "moon"}),
        ("drop", {"colour": "red"}),
        ("cut", {"how": "gently"}),
        ("delay", {"ms": "5"}),
        ("chain_id", {}),
        ("refuse", "no"),
        ("pause_market", 1),
        ("mute", -1),
    ],
)
def test_a_fault_that_makes_no_sense_is_refused(name: str, value: Any) -> None:
    with pytest.raises(BadFault):
        read(name, value)
    with pytest.raises(BadFault):
        parse([{"at_s": 1, name: value}])


async def test_faults_can_follow_a_script() -> None:
    script = [{"at_s": 0.05, "drop": {"kind": "trade"}}, {"every_s": 0.05, "cut": "gateway"}]
    async with start_sim(rate=0, faults=script) as server:
        await eventually(lambda: server.faults.counts["cut"] >= 3)
        assert server.faults.snapshot()["rules"] == [
            {"fault": "drop", "kind": "trade", "count": 1, "hits": 0}
        ]


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("cut", "kind", "fill"),
        ("half_open", "product_id", ETH),
        ("cut", "for_s", 5),
        ("liquidate", "scope", "http"),
        ("funding", "count", 2),
        ("maintenance", "probability", 0.5),
        ("clock_offset", "connection", 1),
        ("pause_market", "count", 3),
        ("dead_digest", "skip", 1),
        ("archive_lag", "kind", "matches"),
        ("stale_snapshot", "connection", 1),
        ("delay_request", "product_id", ETH),
        ("v2_refused", "scope", "gateway"),
        ("out_of_order", "scope", "gateway"),
        ("auth_refused", "kind", "authenticate"),
        ("drop_depth", "scope", "subscribe"),
    ],
)
def test_a_key_that_a_fault_does_not_look_at_is_refused_by_name(name: str, key: str, value: Any) -> None:
    needed = {
        "liquidate": {"subaccount": "0x"},
        "clock_offset": {"ms": 1},
        "dead_digest": {"value": "reject"},
    }
    given = needed.get(name, {"product_id": ETH} if name == "drop_depth" else {})
    read(name, given)
    with pytest.raises(BadFault, match=f"{name}: .*'{key}'"):
        read(name, {**given, key: value})


async def test_a_script_goes_on_after_a_fault_that_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    script = [{"liquidate": "0x" + "11" * 32}, {"at_s": 0.05, "cut": "gateway"}]
    async with start_sim(rate=0, faults=script) as server:
        await eventually(lambda: server.faults.counts["cut"] == 1)
        assert server.faults.counts["liquidate"] == 0
        assert not server.failed.done()
    assert [record.getMessage() for record in caplog.records if "0x1111" in record.getMessage()]
