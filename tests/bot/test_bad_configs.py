"""Kinds of bad settings: `config check` names file, key, reason and fix in one line, and none starts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from botcommand import give

from bot import cli

ROOT = Path(__file__).resolve().parents[2]
KEY = "0x" + "1a" * 32


def private(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


def exchange_file(path: Path, **changes: object) -> Path:
    ready = {
        "chain_id": 1, "endpoint_address": "0x" + "12" * 20, "gateway": "http://127.0.0.1:1",
        "gateway_ws": "ws://127.0.0.1:1", "subscribe": "ws://127.0.0.1:1", "archive": "http://127.0.0.1:1",
    }  # fmt: skip
    path.write_text(json.dumps(ready | changes))
    return path


# (name, text of the file, key, reason, fix)
PLAIN = [
    (
        "unknown key",
        "[risk]\nmax_leg_us = 3\n",
        "risk.max_leg_us",
        "unknown key",
        "did you mean 'risk.max_leg_usd'",
    ),
    ("unknown key, no near one", "[risk]\nxyzzy = 3\n", "risk.xyzzy", "unknown key", "`config reference`"),
    ("key without its section", "cycles = 3\n", "cycles", "unknown key", "did you mean 'run.cycles'"),
    (
        "key in another section",
        "[entry]\nmax_blind_s = 1\n",
        "entry.max_blind_s",
        "unknown",
        "risk.max_blind_s",
    ),
    ("unknown section", "[rsk]\n", "rsk", "unknown section", "did you mean 'risk'"),
    ("section as a value", "risk = 3\n", "risk", "is a section", "write [risk]"),
    ("list of sections", "[[run]]\ncycles = 1\n", "run", "is a section", "write [run]"),
    ("no TOML", "[run]\ncycles = four\n", "", "not valid TOML", "texts are quoted"),
    ("not closed", "[risk\n", "", "not valid TOML", "texts are quoted"),
    ("nested too deep", "x = " + "[" * 5_000, "", "not valid TOML", "config init"),
    ("no settings file at all", "# " + "x" * (1 << 20), "", "no settings file", "config init"),
    (
        "zero",
        "[run]\ncycles = 0\n",
        "run.cycles",
        "greater than or equal to 1",
        "cycles to complete; default 4",
    ),
    ("a word for a number", '[run]\ncycles = "many"\n', "run.cycles", "valid integer", "default 4"),
    ("a date", "[run]\ncycles = 2026-01-01\n", "run.cycles", "integer", "default 4"),
    ("true", "[run]\ncycles = true\n", "run.cycles", "true is not a value", "default 4"),
    ("not a number", "[run]\nhold_s = nan\n", "run.hold_s", "finite", "default 0.5"),
    ("negative time", "[run]\nhold_s = -1\n", "run.hold_s", "greater than or equal to 0", "default 0.5"),
    (
        "negative money",
        "[pair]\nsize_usd = -5\n",
        "pair.size_usd",
        "greater than 0",
        "USD at the worst entry price",
    ),
    ("endless money", "[pair]\nsize_usd = inf\n", "pair.size_usd", "finite", "default 150"),
    (
        "more money than allowed",
        "[pair]\nsize_usd = 1e9\n",
        "pair.size_usd",
        "less than or equal",
        "default 150",
    ),
    ("one product twice", '[pair]\nfirst = "SOL-PERP"\n', "pair", "same product", "name two"),
    ("size above its limit", "[risk]\nmax_leg_usd = 100\n", "risk.max_leg_usd", "exceeds", "raise the other"),
    (
        "gross below both legs",
        "[risk]\nmax_gross_usd = 200\n",
        "risk.max_gross_usd",
        "below twice",
        "lower the other",
    ),
    (
        "ladder above the size",
        "[rollout]\nladder_usd = [500]\n",
        "rollout.ladder_usd",
        "above",
        "leads up to it",
    ),
    (
        "a limit of nothing",
        "[risk]\ndaily_loss_pct = 0\n",
        "risk.daily_loss_pct",
        "greater than 0",
        "of the equity",
    ),
    (
        "too fine",
        "[risk]\nmax_net_delta_pct = 0.001\n",
        "risk.max_net_delta_pct",
        "decimal places",
        "default 2",
    ),
    (
        "exit cap too tight",
        "[exit]\ncap_bps = 0\n",
        "exit.cap_bps",
        "greater than or equal to 5",
        "default 30",
    ),
    ("a port there is not", "[exchange]\nport = 70000\n", "exchange.port", "65535", "any free port"),
    (
        "a command as one word",
        '[exchange]\ncommand = "python"\n',
        "exchange.command",
        "tuple",
        "empty = this",
    ),
    (
        "a choice there is not",
        '[run]\non_open = "ask"\n',
        "run.on_open",
        "'refuse', 'adopt'",
        "default refuse",
    ),
    ("a venue there is not", 'venue = "binance"\n', "venue", "unknown venue", "known: sim, testnet, mainnet"),
]
# What is wrong lies beside the file. (name, what makes it and returns the text, key, reason, fix)
DEEPER: list[tuple[str, Callable[[Path], str], str, str, str]] = [
    (
        "a key file that is not there",
        lambda p: f'[account]\nkey_file = "{p / "no"}"\n',
        "account.key_file",
        "No such file",
        "write it there with mode 0600",
    ),
    (
        "a key file others can read",
        lambda p: f'[account]\nkey_file = "{private(p / "k", KEY, 0o644)}"\n',
        "account.key_file",
        "read or written by others",
        "chmod 600",
    ),
    (
        "an address for a key",
        lambda p: f'[account]\nkey_file = "{private(p / "k", "0x" + "ab" * 20)}"\n',
        "account.key_file",
        "looks like an address",
        "a private key has 64",
    ),
    (
        "a keystore without a password",
        lambda p: f'[account]\nkeystore = "{private(p / "k", "{}")}"\n',
        "account.keystore",
        "no password",
        "set NADO_KEYSTORE_PASSWORD",
    ),
    (
        "two keys",
        lambda p: f'[account]\nkey_file = "{private(p / "k", KEY)}"\nkeystore = "{p / "k"}"\n',
        "account.key_file",
        "more than one key",
        "which one is meant",
    ),
    (
        "an owner without a signer",
        lambda p: f'[account]\nowner_address = "0x{"ab" * 20}"\n',
        "account.owner_address",
        "no key of a linked signer",
        "account.key_file",
    ),
    (
        "an exchange file that is not there",
        lambda p: f'[exchange]\nfile = "{p / "no"}"\n',
        "exchange.file",
        "No such file",
        "ready line",
    ),
    (
        "an exchange file of something else",
        lambda p: f'[exchange]\nfile = "{private(p / "e", "hello")}"\n',
        "exchange.file",
        "e",
        "ready line",
    ),
    (
        "a log in a place that is none",
        lambda p: f'[output]\nlog_file = "{private(p / "f", "") / "log"}"\n',
        "output.log_file",
        "not a directory",
        "choose another path",
    ),
    (
        "trades in a place that is none",
        lambda p: f'[output]\ncsv_path = "{private(p / "f", "") / "c"}"\n',
        "output.csv_path",
        "not a directory",
        "choose another path",
    ),
]
CASES = [(name, lambda _, text=text: text, *rest) for name, text, *rest in PLAIN] + DEEPER


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("NADO_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def test_there_are_thirty_kinds_and_more() -> None:
    assert len({name for name, *_ in CASES}) == len(CASES) >= 40


@pytest.mark.parametrize(("make", "key", "reason", "fix"), [pytest.param(*c[1:], id=c[0]) for c in CASES])
def test_check_says_what_is_wrong_and_run_does_not_start(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    make: Callable[[Path], str],
    key: str,
    reason: str,
    fix: str,
) -> None:
    file = tmp_path / "bot.toml"
    file.write_text(make(tmp_path))
    assert cli.main(["config", "check", str(file)]) == 2
    out, said = capsys.readouterr()
    assert (out, said.count("\n")) == ("", 1)
    assert said.startswith(f"bot: {file}: ")
    for part in (key, reason, fix):
        assert part in said, said
    assert KEY not in said
    assert cli.main(["run", "--config", str(file)]) == 2
    out, said = capsys.readouterr()
    assert "exchange  " not in out, "nothing was started"
    assert key in said
    assert not list(tmp_path.glob("state/*/lock"))


def test_a_good_file_is_in_order(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "bot.toml"
    file.write_text(f'[run]\ncycles = 3\n[account]\nkey_file = "{private(tmp_path / "k", KEY)}"\n')
    assert cli.main(["config", "check", str(file)]) == 0
    assert capsys.readouterr().out.endswith(f"{file}: in order\n")


def test_the_same_from_a_shell(tmp_path: Path) -> None:
    file = tmp_path / "bot.toml"
    file.write_text("[risk]\nmax_leg_us = 3\n")
    here = give(os.environ, "config", "check", str(file))
    shell = subprocess.run(
        [sys.executable, "-m", "bot", "run", "--config", str(file)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    for done in (here, shell):
        assert (done.returncode, done.stdout) == (2, "")
        assert (
            done.stderr == f"bot: {file}: unknown key 'risk.max_leg_us'; did you mean 'risk.max_leg_usd'?\n"
        )
