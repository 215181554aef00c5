"""The exchange as a process: ready line, ways to end, wrong input, and silence about keys."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from simproc import ROOT, SimProcess

from nadosim.__main__ import main
from nadosim.seeded_keys import derive_account

DEADLINE_S = 30.0
READY_KEYS = [
    "gateway",
    "gateway_ws",
    "gateway_ws_v2",
    "subscribe",
    "gateway_v2",
    "archive",
    "control",
    "chain_id",
    "endpoint_addr",
    "accounts",
]


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def _wait_gone(pid: int) -> None:
    deadline_s = time.monotonic() + DEADLINE_S
    while _is_alive(pid):
        assert time.monotonic() < deadline_s, f"process {pid} is still alive"
        time.sleep(0.02)


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run to the end with stdin closed."""
    return subprocess.run(
        [sys.executable, "-m", "nadosim", *arguments],
        input="",
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=DEADLINE_S,
        check=False,
    )


def _given(capsys: pytest.CaptureFixture[str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """The same in this process, for what is refused before anything starts."""
    try:
        code = main(list(arguments))
    except SystemExit as ended:
        code = int(ended.code or 0)
    said = capsys.readouterr()
    return subprocess.CompletedProcess(arguments, code, said.out, said.err)


def _assert_one_line_and_exit_2(done: subprocess.CompletedProcess[str], *words: str) -> None:
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("nadosim: ")
    for word in words:
        assert word in done.stderr


def _get(url: str) -> Any:
    request = urllib.request.Request(url, headers={"Accept-Encoding": "gzip"})
    with urllib.request.urlopen(request, timeout=5) as response:
        body = response.read()
        return json.loads(gzip.decompress(body) if response.headers["Content-Encoding"] == "gzip" else body)


def test_the_ready_line_and_a_quiet_end() -> None:
    with SimProcess(seed=7) as sim:
        assert list(sim.ready) == READY_KEYS
        port = sim.ready["gateway"].split(":")[2].split("/")[0]
        assert sim.ready["gateway"] == f"http://127.0.0.1:{port}/v1"
        assert sim.ready["gateway_ws"] == f"ws://127.0.0.1:{port}/v1/ws"
        assert sim.ready["gateway_ws_v2"] == f"ws://127.0.0.1:{port}/ws/v2"
        assert sim.ready["subscribe"] == f"ws://127.0.0.1:{port}/v1/subscribe"
        assert sim.ready["archive"] == f"http://127.0.0.1:{port}/archive/v1"
        assert sim.ready["chain_id"] == 77001
        (account,) = sim.ready["accounts"]
        assert len(account["private_key"]) == 66
        assert account["subaccount"].startswith(account["address"])
        assert abs(_get(sim.ready["gateway"] + "/time") - time.time() * 1000) < 5_000
    assert sim.stop() == 0
    assert sim.stderr == ""
    assert not _is_alive(sim.pid)


def test_it_starts_without_what_it_never_calls() -> None:
    """web3 comes with the SDK, and would take a third of the start; signatures are verified without it."""
    program = (
        "import sys; from nadosim.__main__ import _loaded; _loaded()\n"
        "from nadosim.signatures import Verifier\n"
        "print(sorted({'web3', 'eth_account'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "['eth_account']\n"


def test_the_seed_makes_the_accounts() -> None:
    accounts = [derive_account(seed, index) for seed in (7, 8) for index in (0, 1)]
    assert accounts[0] == derive_account(7, 0)
    assert len({account.address for account in accounts}) == 4
    with SimProcess(seed=7, rate=0, accounts=2) as sim:
        assert sim.ready["accounts"] == [account.ready_entry() for account in accounts[:2]]
    assert accounts[0].private_key is not None
    assert accounts[0].private_key not in repr(accounts[0])


def test_given_addresses_are_funded_without_a_key() -> None:
    addresses = ["0x" + "ab" * 20, "0x" + "CD" * 20]
    with SimProcess(fund=addresses, accounts=0, rate=0, chain_id=424242) as sim:
        assert sim.ready["chain_id"] == 424242
        assert [account["address"] for account in sim.ready["accounts"]] == [a.lower() for a in addresses]
        assert all("private_key" not in account for account in sim.ready["accounts"])
        subaccount = sim.ready["accounts"][0]["subaccount"]
        info = _get(f"{sim.ready['gateway']}/query?type=subaccount_info&subaccount={subaccount}")["data"]
        assert info["spot_balances"][0]["balance"]["amount"] == str(100_000 * 10**18)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_end_it_quietly(number: signal.Signals) -> None:
    with SimProcess(seed=1) as sim:
        sim.process.send_signal(number)
        sim.process.wait(DEADLINE_S)
    assert sim.stop() == 0
    assert sim.stderr == ""


def test_it_ends_while_clients_are_connected() -> None:
    with SimProcess(seed=1) as sim:
        host, port = "127.0.0.1", int(sim.ready["gateway"].split(":")[2].split("/")[0])
        with socket.create_connection((host, port)) as peer:
            peer.sendall(b"GET /v1/ws HTTP/1.1\r\nHost: x\r\n")  # a request that never ends
            assert sim.stop() == 0


def test_it_lingers_when_told_to() -> None:
    with SimProcess(seed=1, linger_s=0.5) as sim:
        assert sim.process.stdin is not None
        sim.process.stdin.close()
        closed_s = time.monotonic()
        assert _get(sim.ready["gateway"] + "/time") > 0
        sim.process.stdin = None
        sim.process.wait(DEADLINE_S)
        assert time.monotonic() - closed_s >= 0.5


def test_it_ends_with_its_parent() -> None:
    """The parent is killed without a word; its end of the pipe closes, and that is enough."""
    program = (
        "import subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-m', 'nadosim'], stdin=subprocess.PIPE,"
        " stdout=subprocess.PIPE, start_new_session=True)\n"
        "child.stdout.readline()\n"
        "print(child.pid, flush=True)\n"
        "child.wait()\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, cwd=ROOT)
    try:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert _is_alive(child)
        parent.kill()
        parent.wait(DEADLINE_S)
        _wait_gone(child)
    finally:
        parent.kill()
        parent.communicate()


def test_a_terminal_less_start_does_not_end_by_itself() -> None:
    """stdin from /dev/null says nothing about the parent."""
    process = subprocess.Popen(
        [sys.executable, "-m", "nadosim", "--rate", "0"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        cwd=ROOT,
    )
    try:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        assert _get(ready["gateway"] + "/time") > 0
        process.terminate()
        assert process.wait(DEADLINE_S) == 0
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        process.communicate()


def test_a_port_in_use_is_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        _assert_one_line_and_exit_2(_run("--port", str(port)), str(port), "in use")


def test_an_address_that_is_not_ours_is_one_line() -> None:
    _assert_one_line_and_exit_2(_run("--host", "203.0.113.1"), "203.0.113.1")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--port", "many"], ["--port", "many"]),
        (["--port", "70000"], ["port", "70000"]),
        (["--bogus"], ["--bogus"]),
        (["--see", "4"], ["--see"]),
        (["--rate", "-1"], ["rate"]),
        (["--rate", "nan"], ["rate"]),
        (["--speed", "0"], ["speed"]),
        (["--fund", "0x12"], ["fund", "address"]),
        (["--config", "/no/such/file.toml"], ["/no/such/file.toml", "No such file"]),
    ],
)
def test_wrong_options_are_one_line(
    capsys: pytest.CaptureFixture[str], arguments: list[str], words: list[str]
) -> None:
    _assert_one_line_and_exit_2(_given(capsys, *arguments), *words)


def test_a_key_given_as_address_is_not_echoed(capsys: pytest.CaptureFixture[str]) -> None:
    key = "0x" + "5e" * 32
    done = _given(capsys, "--fund", key)
    _assert_one_line_and_exit_2(done, "address")
    assert "5e5e" not in done.stderr


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("colour = 'red'\n", ["unknown key", "colour"]),
        ("rate = 'fast'\n", ["rate", "fast"]),
        ("port = 1.5\n", ["port"]),
        ("seed = true\n", ["seed"]),
        ("fund = '0x12'\n", ["fund"]),
        ("= 4\n", ["config.toml"]),
    ],
)
def test_a_wrong_configuration_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, words: list[str]
) -> None:
    path = tmp_path / "config.toml"
    path.write_text(text)
    _assert_one_line_and_exit_2(_given(capsys, "--config", str(path)), *words)


def test_options_win_over_the_configuration(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text("chain_id = 5\naccounts = 3\nrate = 0\n")
    with SimProcess(config=path, chain_id=6) as sim:
        assert sim.ready["chain_id"] == 6
        assert len(sim.ready["accounts"]) == 3


def test_no_key_and_no_signature_reaches_stderr_or_the_environment() -> None:
    """Through refused requests, malformed ones, and a violent end."""
    os.environ["NADO_PRIVATE_KEY"] = "0x" + "77" * 32
    try:
        with SimProcess(seed=3) as sim:
            key, signature = sim.account["private_key"], "0x" + "99" * 65
            for body in (
                b"{",
                json.dumps({"place_order": {"product_id": 4, "signature": signature}}).encode(),
            ):
                request = urllib.request.Request(
                    sim.ready["gateway"] + "/execute", data=body, headers={"Accept-Encoding": "gzip"}
                )
                with contextlib.suppress(urllib.error.HTTPError):
                    urllib.request.urlopen(request, timeout=5).close()
            environment = Path(f"/proc/{sim.pid}/environ").read_bytes()
        assert sim.stop() == 0
    finally:
        del os.environ["NADO_PRIVATE_KEY"]
    assert b"NADO_PRIVATE_KEY" not in environment
    assert key[2:] not in sim.stderr
    assert "9999" not in sim.stderr
