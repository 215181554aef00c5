"""Everything a user can get wrong: one line on stderr, the right exit code, and no process left behind."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from botproc import ROOT

from bot.cli import main
from nadofast.signing import Signer

ADDRESS = "0x" + "ab" * 20
# A wrapper that starts the real exchange and changes what its ready line says.
WRAPPER = """
import json, subprocess, sys
child = subprocess.Popen([sys.executable, "-m", "nadosim", *sys.argv[1:]], stdin=0, stdout=subprocess.PIPE)
ready = json.loads(child.stdout.readline())
ready.update({change!r})
print(json.dumps(ready), flush=True)
try:
    child.wait()
finally:
    child.kill()
    child.wait()
"""
# A ready line that is right in form, over a server that does not speak the protocol.
PROXY = """
import http.server, json, sys, threading
class Page(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.send_response(200); self.end_headers(); self.wfile.write(b"<html>maintenance</html>")
    do_GET = do_POST
    def log_message(self, *a): pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
server.daemon_threads = True
threading.Thread(target=server.serve_forever, daemon=True).start()
host = "127.0.0.1:%d" % server.server_port
key = "0x" + "5e" * 32
print(json.dumps(dict(gateway="http://%s/v1" % host, gateway_ws="ws://%s/v1/ws" % host,
    gateway_ws_v2="ws://%s/ws/v2" % host, subscribe="ws://%s/v1/subscribe" % host,
    archive="http://%s/archive/v1" % host, control="http://%s/sim" % host, chain_id=77001,
    endpoint_addr="0x" + "00" * 20, accounts=[dict(address="0x" + "11" * 20,
    subaccount="0xADDR64656661756c740000000000", private_key=key)])), flush=True)
sys.stdin.read()
"""


Result = tuple[int, str, str, float]


def run(*arguments: str, command: list[str] | None = None, key: str | None = None) -> Result:
    """(exit code, stdout, stderr, seconds) of one `python -m bot`. Nothing of it may be left running."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("NADO_")}
    if key is not None:
        environ["NADO_PRIVATE_KEY"] = key
    if command is not None:
        environ["NADO_BOT_EXCHANGE__COMMAND"] = " ".join(command)
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "bot", *arguments],
        cwd=ROOT, env=environ, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr, time.monotonic() - started


def one_line(stderr: str) -> str:
    assert stderr.startswith("bot: ")
    assert stderr.count("\n") == 1
    assert "Traceback" not in stderr
    return stderr


@pytest.fixture
def script(tmp_path: Path):  # type: ignore[no-untyped-def]
    """A program to use as the exchange; returns its command."""

    def write(text: str) -> list[str]:
        file = tmp_path / "exchange.py"
        file.write_text(text)
        return [sys.executable, str(file)]

    return write


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("run", "--venue", "mainnet"), "NADO_PRIVATE_KEY: not set"),
        (("run", "--venue", "testnet", "--confirm", "testnet/763373"), "NADO_PRIVATE_KEY: not set"),
        (("run", "--venue", "custom"), "exchange.file"),
        (("run", "--venue", "mainnet", "--exchange", "TMP/unknown.toml"), "mainnet has its own endpoints"),
        (("run", "--exchange", "TMP/none.json"), "No such file"),
        (("run", "--exchange", "TMP/unknown.toml"), "not a ready line"),
        (("run", "--on-open", "hope"), "run.on_open"),
        (("resume", "--config", "/nonexistent.toml"), "no such file"),
        (("run", "--venue", "binance"), "unknown venue 'binance'"),
        (("run", "--cycles", "0"), "run.cycles"),
        (("run", "--cycles", "many"), "--cycles"),
        (("run", "--size-usd", "free"), "pair.size_usd"),
        (("run", "--size-usd", "-1"), "pair.size_usd"),
        (("run", "--seed", "-1"), "exchange.seed"),
        (("run", "--config", "/nonexistent.toml"), "no such file"),
        (("run", "--config", "TMP/unknown.toml"), "did you mean 'risk.max_leg_usd'?"),
        (("run", "--csv-path", "/proc/none/trades.csv"), "output.csv_path"),
        (("run", "--csv-path", "TMP/unknown.toml"), "other columns"),
        (("run", "--log-file", "/proc/none/log"), "output.log_file"),
        (("run", "--sise-usd", "5"), "--sise-usd"),
        (("walk",), "walk"),
    ],
)
def test_usage_and_configuration(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], expected: str
) -> None:
    (tmp_path / "unknown.toml").write_text("[risk]\nmax_leg = 5\n")
    code = main([argument.replace("TMP", str(tmp_path)) for argument in arguments])
    out, err = capsys.readouterr()
    assert code == 2
    assert expected in one_line(err)
    assert out == ""


@pytest.mark.parametrize(
    ("key", "expected"),
    [(ADDRESS, "looks like an address"), ("0x" + "00" * 32, "zero"), ("swordfish", "not hex")],
)
def test_keys(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    key: str,
    expected: str,
) -> None:
    monkeypatch.setenv("NADO_PRIVATE_KEY", key)
    code = main(["run", "--csv-path", str(tmp_path / "t.csv")])
    out, err = capsys.readouterr()
    assert code == 2
    assert expected in one_line(err)
    assert key not in out + err
    assert not (tmp_path / "t.csv").exists()


def test_the_process_says_the_same(tmp_path: Path) -> None:
    code, out, err, took_s = run("run", "--venue", "mainnet")
    assert (code, out) == (2, "")
    assert "NADO_PRIVATE_KEY: not set" in one_line(err)
    assert took_s < 30
    code, out, err, _ = run("run", "--csv-path", str(tmp_path / "t.csv"), key=ADDRESS)
    assert (code, out) == (2, "")
    assert "looks like an address" in one_line(err)


def test_a_size_below_the_exchange_minimum(tmp_path: Path) -> None:
    code, out, err, _ = run("run", "--size-usd", "50", "--csv-path", str(tmp_path / "t.csv"))
    assert code == 2
    assert "pair.size_usd" in one_line(err)
    assert "smallest legal leg" in err
    assert "BUILD" not in out


def test_a_product_the_exchange_does_not_have(tmp_path: Path) -> None:
    config = tmp_path / "bot.toml"
    config.write_text('[pair]\nsecond = "DOGE-PERP"\n')
    code, _, err, _ = run("run", "--config", str(config), "--csv-path", str(tmp_path / "t.csv"))
    assert code == 2
    assert "no perpetual 'DOGE-PERP'; it has" in one_line(err)


def test_a_port_in_use(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        config = tmp_path / "bot.toml"
        config.write_text(f"[exchange]\nport = {taken.getsockname()[1]}\n")
        code, _, err, _ = run("run", "--config", str(config), "--csv-path", str(tmp_path / "t.csv"))
    assert code == 2
    assert "did not start" in one_line(err)
    assert "in use" in err


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        ("print('hello', flush=True); import time; time.sleep(60)", "not a ready line"),
        ("import sys; sys.exit(5)", "ended with code 5"),
        (PROXY, "not JSON"),
        (WRAPPER.replace("{change!r}", json.dumps({"chain_id": 57073})), "chain id mismatch"),
        (WRAPPER.replace("{change!r}", json.dumps({"endpoint_addr": "0x" + "0c" * 20})), "endpoint contract"),
        (WRAPPER.replace("{change!r}", json.dumps({"gateway": "http://127.0.0.1:9/v1"})), "127.0.0.1:9"),
    ],
)
def test_an_exchange_that_answers_nonsense(tmp_path: Path, script, program: str, expected: str) -> None:  # type: ignore[no-untyped-def]
    signer_prefix = "".join(f"{byte:02x}" for byte in address_of("5e" * 32))
    command = script(program.replace("ADDR", signer_prefix))
    code, out, err, took_s = run("run", "--csv-path", str(tmp_path / "t.csv"), command=command)
    assert code == 1
    assert expected in one_line(err)
    assert "5e5e5e" not in out + err
    assert "BUILD" not in out
    assert took_s < 60


def address_of(key_hex: str) -> bytes:
    return bytes.fromhex(Signer("0x" + key_hex, chain_id=1, endpoint_address="0x" + "00" * 20).address[2:])


def test_an_exchange_that_is_no_program(tmp_path: Path) -> None:
    code, _, err, _ = run("run", "--csv-path", str(tmp_path / "t.csv"), command=["/nonexistent/exchange"])
    assert code == 1
    assert "cannot be started" in one_line(err)


def test_help_is_help() -> None:
    code, out, err, _ = run("run", "--help")
    assert code == 0
    assert "--size-usd" in out
    assert err == ""
