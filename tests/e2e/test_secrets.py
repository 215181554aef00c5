"""No private key in anything a run leaves behind: output, errors, CSV, log file, and the process list."""

from __future__ import annotations

import signal
from pathlib import Path

from botproc import BotProcess, state

from nadofast.signing import Signer
from nadosim.seeded_keys import derive_account

OWN_KEY = "0x" + "7a5b" * 16


def test_keys_are_nowhere(tmp_path: Path) -> None:
    """One run with its own key, ended by a signal in mid-cycle; the exchange has its account beside it."""
    exchange_key = derive_account(77, 0).private_key
    assert exchange_key is not None
    with BotProcess(tmp_path, "--seed", "77", key=OWN_KEY) as bot:
        bot.wait_for("exit-rest  SOL-PERP")
        command_lines = b"".join(
            path.read_bytes()
            for pid in (bot.process.pid, bot.exchange_pid)
            for path in (Path(f"/proc/{pid}/cmdline"), Path(f"/proc/{bot.exchange_pid}/environ"))
        )
        signer = Signer(OWN_KEY, chain_id=1, endpoint_address="0x" + "00" * 20)
        assert {order["subaccount"] for order in state(bot.control)["orders"]} == {signer.subaccount()}
        bot.signal(signal.SIGINT)
        assert bot.finish() == 0
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert {file.name for file in files} >= {"trades.csv", "events.log"}
    left = [file.read_bytes() for file in files]
    everything = b"\n".join([bot.output.encode(), bot.stderr.encode(), command_lines, *left]).lower()
    for key in (OWN_KEY, exchange_key):
        digits = key.removeprefix("0x").encode()
        assert digits not in everything
        assert digits[:16] not in everything
        assert digits[-16:] not in everything


def test_the_exchange_account_key_is_nowhere_either(tmp_path: Path) -> None:
    key = derive_account(78, 0).private_key
    assert key is not None
    with BotProcess(tmp_path, "--seed", "78", "--cycles", "1") as bot:
        assert bot.finish() == 0
    left = b"".join(file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())
    assert key[2:].encode() not in left + bot.output.encode() + bot.stderr.encode()
