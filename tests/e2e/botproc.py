"""The bot as a user runs it: a process, its lines as they come, and the exchange it started."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
LINE_DEADLINE_S = 60.0
END_DEADLINE_S = 120.0


class BotProcess:
    """`python -m bot run …` in its own process group. Lines are collected by a thread; nothing is lost.

    settings: dotted keys, given through the environment as a user would; pairs are held for 0.2 s.
    """

    def __init__(
        self,
        tmp_path: Path,
        *arguments: str,
        key: str | None = None,
        secrets: Mapping[str, str] | None = None,
        **settings: object,
    ) -> None:
        self.csv_path = tmp_path / "trades.csv"
        self.log_path = tmp_path / "events.log"
        self.lines: list[str] = []
        self.seen_at: list[float] = []
        self._grew = threading.Condition()
        environ = {name: value for name, value in os.environ.items() if not name.startswith("NADO_")}
        if key is not None:
            environ["NADO_PRIVATE_KEY"] = key
        environ.update(secrets or {})
        for name, value in {"run__hold_s": 0.2, **settings}.items():
            environ[f"NADO_BOT_{name.upper()}"] = str(value)
        self.process = subprocess.Popen(
            [
                sys.executable, "-m", "bot", "run",
                "--csv-path", str(self.csv_path), "--log-file", str(self.log_path), *arguments,
            ],
            cwd=ROOT, env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, bufsize=1, start_new_session=True,
        )  # fmt: skip
        self.stderr = ""
        self._readers = [
            threading.Thread(target=self._read_stdout, daemon=True),
            threading.Thread(target=self._read_stderr, daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    # ------------------------------------------------------------------ what it says

    @property
    def output(self) -> str:
        return "\n".join(self.lines)

    def wait_for(
        self, text: str | re.Pattern[str], *, timeout_s: float = LINE_DEADLINE_S, after: int = 0
    ) -> str:
        """The first line (from index `after`) with `text`. AssertionError if the bot ends or time is up."""
        wanted = re.compile(re.escape(text)) if isinstance(text, str) else text
        deadline = time.monotonic() + timeout_s
        with self._grew:
            while True:
                for line in self.lines[after:]:
                    if wanted.search(line):
                        return line
                left_s = deadline - time.monotonic()
                if left_s <= 0 or (self.process.poll() is not None and not self._readers[0].is_alive()):
                    raise AssertionError(f"no line with {wanted.pattern!r}:\n{self.output}\n{self.stderr}")
                self._grew.wait(min(left_s, 0.2))

    @property
    def exchange_pid(self) -> int:
        found = re.search(r"exchange  pid (\d+)", self.wait_for("exchange  pid"))
        assert found is not None
        return int(found[1])

    @property
    def control(self) -> str:
        return self.wait_for("exchange  pid").rsplit(" ", 1)[1]

    # ------------------------------------------------------------------ what is done to it

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def finish(self, timeout_s: float = END_DEADLINE_S) -> int:
        """Wait for the end; the exit code."""
        code = self.process.wait(timeout_s)
        for reader in self._readers:
            reader.join(5)
        return code

    def __enter__(self) -> BotProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.finish()
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()

    def _read_stdout(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._grew:
                self.lines.append(line.rstrip("\n"))
                self.seen_at.append(time.monotonic())
                self._grew.notify_all()
        with self._grew:
            self._grew.notify_all()

    def _read_stderr(self) -> None:
        assert self.process.stderr is not None
        self.stderr = self.process.stderr.read()


def is_alive(pid: int) -> bool:
    """Whether the process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_until_gone(pid: int, timeout_s: float) -> float:
    """Seconds until the process was gone. AssertionError if it is still there then."""
    started = time.monotonic()
    while is_alive(pid):
        assert time.monotonic() - started < timeout_s, f"process {pid} is still alive after {timeout_s} s"
        time.sleep(0.02)
    return time.monotonic() - started


def end_exchange(pid: int) -> None:
    """End an exchange that was asked to outlive its bot."""
    os.kill(pid, signal.SIGTERM)
    wait_until_gone(pid, 5)


def state(control: str) -> dict[str, Any]:
    """The exchange's own record."""
    with urllib.request.urlopen(f"{control}/state", timeout=5) as response:
        found: dict[str, Any] = json.loads(response.read())
        return found


def health(control: str) -> dict[str, Any]:
    """The exchange's counters."""
    with urllib.request.urlopen(f"{control}/health", timeout=5) as response:
        found: dict[str, Any] = json.loads(response.read())
        return found


def fault(control: str, **what: object) -> None:
    """Switch a fault on."""
    request = urllib.request.Request(f"{control}/faults", json.dumps(what).encode(), method="POST")
    with urllib.request.urlopen(request, timeout=5) as response:
        assert response.status == 200


def positions(found: dict[str, Any]) -> dict[str, int]:
    """Non-zero positions of real accounts, `subaccount product` → x18."""
    return {
        f"{subaccount} {product}": int(balance["amount"])
        for subaccount, account in found["balances"]["subaccounts"].items()
        for product, balance in account["perps"].items()
        if int(balance["amount"])
    }


def resting(found: dict[str, Any]) -> list[dict[str, Any]]:
    """Orders of real accounts that still live."""
    return [order for order in found["orders"] if order["end"] is None]


def assert_flat_and_exact(bot: BotProcess, code: int, truth: dict[str, Any]) -> None:
    """The run ended well: nothing held, nothing resting, its books those of the exchange."""
    assert code == 0, bot.output + bot.stderr
    assert positions(truth) == {}
    assert resting(truth) == []
    assert "equal to the ledger to the last unit" in bot.output
    assert "Traceback" not in bot.output + bot.stderr
