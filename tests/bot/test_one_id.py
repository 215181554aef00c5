"""One id from the decision to the fill: on every line about its orders, down to the exchange's own record."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any

from simproc import SimProcess

from bot.app import run
from bot.config import load
from bot.job import Job
from bot.logs import Output
from bot.model import ExitCode
from bot.tradecsv import TradesCsv


def orders_of(sim: SimProcess) -> dict[str, dict[str, Any]]:
    with urllib.request.urlopen(f"{sim.ready['control']}/state", timeout=5) as response:
        return {order["digest"]: order for order in json.loads(response.read())["orders"]}


async def test_from_signal_to_fill_of_both_legs(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with SimProcess(seed=4) as sim:
        (tmp_path / "exchange.json").write_text(json.dumps(sim.ready))
        keys = {
            "exchange.file": tmp_path / "exchange.json", "output.state_dir": tmp_path / "state",
            "run.cycles": 1, "run.hold_s": 0.1, "exit.maker_timeout_s": 0.5, "output.log_format": "json",
        }  # fmt: skip
        output = Output(log_file=log)
        csv = TradesCsv(tmp_path / "trades.csv", output.submit, mode="sim")
        code, _ = await run(Job(load(None, keys, {}).settings, 4, None), output, csv)
        output.close()
        at_exchange = orders_of(sim)
    assert code is ExitCode.DONE
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert len({line["run"] for line in lines}) == 1

    sent = [line for line in lines if line.get("text", "").startswith("send ")]
    assert {line["text"].split()[1] for line in sent} == {"ETH-PERP", "SOL-PERP"}
    (signal,) = {line["signal"] for line in sent}
    followed = [line for line in lines if line.get("signal") == signal]
    filled = [line for line in followed if "digest" in line]
    assert {line["tag"] for line in filled} == {line["tag"] for line in sent}, "both legs, by one id"
    for line in filled:
        assert at_exchange[line["digest"]], "the digest is the exchange's own"
        assert line["fills"], "and its fills are named"
        assert line["digest"] in csv.path.read_text()
    # The exits have ids of their own, by the same rule.
    exits = [line for line in lines if line.get("digest") and line["signal"] != signal]
    # An exit that the market had run away from was refused, so the exchange keeps no order of it.
    kept = [line for line in filled + exits if "rejected without a fill" not in line["text"]]
    assert {line["digest"] for line in kept} == set(at_exchange)
    assert all(line["cycle"] == 1 for line in filled + exits)
