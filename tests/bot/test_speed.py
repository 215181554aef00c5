"""`bench`: figures of this machine, and none of a build that computes something else."""

from __future__ import annotations

import json

import pytest

from bot import speed
from bot.cli import main
from nadofast import OrderBook


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"MESSAGES": 200, "ORDERS": 20, "LAG_S": 0.1}.items():
        monkeypatch.setattr(speed, name, value)


def test_each_part_of_the_way_has_its_figures(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [one["what"].partition(":")[0] for one in found] == ["best price", "book", "order", "idle loop"]
    assert [one["samples"] for one in found[:3]] == [200, 200, 20]
    assert all(0 <= one["p50_us"] <= one["p99_us"] for one in found)
    assert main(["bench"]) == 0
    assert "10 changes applied" in capsys.readouterr().out


def test_what_computes_something_else_has_no_figures(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Deaf(OrderBook):
        def apply(self, data: object) -> bool:
            return False

    monkeypatch.setattr("nadofast.OrderBook", Deaf)
    assert main(["bench"]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert "the book is wrong: this build must not trade" in said.err
