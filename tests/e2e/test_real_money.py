"""A network that counts as real, here on loopback: what has to agree before a single order leaves."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from botproc import BotProcess, positions, state
from simproc import SimProcess

from bot.preflight import address_of
from nadofast.secret import Secret

KEY = "0x" + "5a" * 32
CHAIN = 57073


@pytest.fixture
def sim() -> Iterator[SimProcess]:
    with SimProcess(seed=4, accounts=0, chain_id=CHAIN, fund=[address_of(Secret(KEY))]) as running:
        yield running


def described(tmp_path: Path, sim: SimProcess, **changes: object) -> Path:
    path = tmp_path / "exchange.json"
    path.write_text(json.dumps({**sim.ready, "name": "staging", **changes}))
    return path


def bot(tmp_path: Path, file: Path, *arguments: str, **settings: object) -> BotProcess:
    return BotProcess(
        tmp_path, "--venue", "custom", "--exchange", str(file), "--cycles", "1", *arguments, key=KEY,
        **{
            "output__state_dir": tmp_path / "state", "exit__maker_timeout_s": 1, "risk__maintenance": "off",
            **settings,
        },
    )  # fmt: skip


def test_it_trades_when_name_chain_and_confirmation_agree(tmp_path: Path, sim: SimProcess) -> None:
    file = described(tmp_path, sim)
    with bot(tmp_path, file) as refused:
        assert refused.finish() == 2
    assert f"needs --confirm staging/{CHAIN}" in refused.stderr
    assert refused.output == ""
    assert state(sim.ready["control"])["executes"] == []
    with bot(tmp_path, file, "--confirm", f"staging/{CHAIN}") as confirmed:
        assert confirmed.finish() == 0, confirmed.output + confirmed.stderr
    assert "1 cycles complete" in confirmed.output
    assert "equal to the ledger to the last unit" in confirmed.output
    assert positions(state(sim.ready["control"])) == {}
    assert ",custom," in confirmed.csv_path.read_text()
    assert KEY[2:] not in confirmed.output + confirmed.stderr + refused.stderr


def test_an_exchange_of_another_chain_gets_no_order(tmp_path: Path, sim: SimProcess) -> None:
    """The file and the confirmation say testnet's chain; the exchange verifies for another one."""
    file = described(tmp_path, sim, chain_id=763373)
    with bot(tmp_path, file, "--confirm", "staging/763373") as refused:
        assert refused.finish() == 1
    assert f"announced as 763373, but the exchange verifies {CHAIN}" in refused.stderr
    assert state(sim.ready["control"])["executes"] == []


def test_its_silence_does_not_make_the_bot_leave(tmp_path: Path, sim: SimProcess) -> None:
    """An embedded exchange that is silent is dead; a live one is waited for, exposed or not."""
    file = described(tmp_path, sim)
    with bot(
        tmp_path, file, "--confirm", f"staging/{CHAIN}", run__hold_s=1, risk__max_blind_s=0.5
    ) as running:  # fmt: skip
        running.wait_for("entry  SOL-PERP")
        os.kill(sim.pid, signal.SIGSTOP)
        time.sleep(2.5)  # five times what would end a run on the embedded exchange
        assert running.process.poll() is None
        os.kill(sim.pid, signal.SIGCONT)
        running.finish()
    assert positions(state(sim.ready["control"])) == {}
