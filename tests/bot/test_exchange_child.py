"""The embedded exchange as a child: what counts as a ready line, and what happens when it is nonsense."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from bot.config import ExchangeSection
from bot.exchange_process import (
    ExchangeProcess,
    ExchangeStartError,
    command_line,
    parse_ready,
    scrubbed_environment,
)

KEY = "0x" + "5e" * 32
DEAF = "import signal, time; signal.signal(15, signal.SIG_IGN); print(1, flush=True); time.sleep(60)"
READY = {
    "gateway": "http://127.0.0.1:1/v1",
    "gateway_ws": "ws://127.0.0.1:1/v1/ws",
    "gateway_ws_v2": "ws://127.0.0.1:1/ws/v2",
    "subscribe": "ws://127.0.0.1:1/v1/subscribe",
    "archive": "http://127.0.0.1:1/archive/v1",
    "control": "http://127.0.0.1:1/sim",
    "chain_id": 77001,
    "endpoint_addr": "0x" + "00" * 19 + "0a",
    "accounts": [{"address": "0x" + "11" * 20, "subaccount": "0x" + "11" * 32, "private_key": KEY}],
}


def script(text: str) -> list[str]:
    return [sys.executable, "-c", text]


def alive(pid: int | None) -> bool:
    if pid is None:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_ready_line_is_read_and_its_keys_are_secret() -> None:
    ready = parse_ready(json.dumps(READY).encode())
    assert ready.network.chain_id == 77001
    assert ready.accounts[0].private_key is not None
    assert KEY[2:] not in repr(ready)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"gateway": None}, "gateway"),
        ({"chain_id": "zero"}, "chain_id"),
        ({"chain_id": True}, "chain_id"),
        ({"control": 5}, "control"),
        ({"accounts": []}, "accounts"),
        ({"accounts": [KEY]}, "account"),
        ({"accounts": [{"address": "0x1", "subaccount": "0x2", "private_key": KEY[:-2]}]}, "62 hex digits"),
    ],
)
def test_unusable_ready_lines_are_named_without_their_content(
    change: dict[str, object], expected: str
) -> None:
    with pytest.raises(ExchangeStartError, match=expected) as caught:
        parse_ready(json.dumps(READY | change).encode())
    assert "5e5e" not in str(caught.value)


@pytest.mark.parametrize(
    "line", [b"", b"hello\n", b"[1]\n", b"\xff\xfe\n", b"[" * 100_000, b'"' + KEY.encode() + b'"\n']
)
def test_what_is_not_a_ready_line(line: bytes) -> None:
    with pytest.raises(ExchangeStartError, match="not a ready line") as caught:
        parse_ready(line)
    assert "5e5e" not in str(caught.value)


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        ("print('hello', flush=True); import time; time.sleep(60)", "not a ready line"),
        ("import time; time.sleep(60)", "no ready line within"),
        ("import sys; sys.exit(3)", "ended with code 3"),
        ("import sys; sys.stderr.write('port 80 is in use\\n'); sys.exit(2)", "port 80 is in use"),
        ("import sys; sys.stdout.write('x' * 400_000); sys.stdout.flush(); import time; time.sleep(60)",
         "not a ready line"),
        (DEAF, "not a ready line"),
    ],
)  # fmt: skip
async def test_a_child_that_is_no_exchange_is_ended(program: str, expected: str) -> None:
    child = ExchangeProcess(script(program), start_timeout_s=1.5)
    with pytest.raises(ExchangeStartError, match=expected):
        await child.start()
    assert not alive(child.pid)


async def test_a_command_that_does_not_exist() -> None:
    with pytest.raises(ExchangeStartError, match="cannot be started"):
        await ExchangeProcess(["/nonexistent/exchange"], start_timeout_s=1).start()


async def test_the_end_of_a_running_exchange_is_noticed_with_its_last_words() -> None:
    line = json.dumps(READY)
    program = f"import sys; print({line!r}, flush=True); sys.stdin.read(1); sys.exit('out of coffee')"
    child = ExchangeProcess(script(program), start_timeout_s=5)
    await child.start()
    assert child._process is not None
    assert child._process.stdin is not None
    child._process.stdin.write(b"x")
    await child.gone.wait()
    assert child.gone_reason == "the embedded exchange ended with code 1: out of coffee"
    await child.stop()


def test_the_child_sees_neither_secrets_nor_settings() -> None:
    environ = {"NADO_PRIVATE_KEY": KEY, "NADO_BOT_RUN__CYCLES": "1", "PATH": "/bin", "AWS_SECRET": "x"}
    assert scrubbed_environment(environ) == {"PATH": "/bin"}


def test_command_line_of_the_child(tmp_path: Path) -> None:
    section = ExchangeSection(port=81, rate=50, linger_s=2.5)
    command = command_line(section, 7, "0xabc")
    assert command[:3] == [sys.executable, "-m", "nadosim"]
    assert command[3:] == (
        [
            "--host",
            "127.0.0.1",
            "--port",
            "81",
            "--seed",
            "7",
            "--rate",
            "50",
            "--linger-s",
            "2.5",
            "--fund",
            "0xabc",
        ]
    )
    assert command_line(ExchangeSection(command=("./sim",)), 7, None)[0] == "./sim"
