"""The embedded exchange as a child process: started, read, watched and ended by the bot.

It runs in its own session, so that Ctrl-C at the terminal reaches the bot alone, and with a scrubbed
environment. Its stdin is a pipe the bot keeps open: when the bot dies, however it dies, the pipe closes and
the exchange ends. Its first stdout line carries private keys, so that line is read from a pipe nobody else
has, and none of it is ever quoted in an error.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from nadofast import network
from nadofast.errors import ConfigError
from nadofast.network import Network
from nadofast.secret import Secret, parse_private_key

from .config import ExchangeSection

KEPT_ENVIRONMENT: Final = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "PYTHONPATH", "VIRTUAL_ENV")
MAX_READY_BYTES: Final = 256 * 1024
LAST_WORDS_S: Final = 0.5
MAX_STDERR_BYTES: Final = 8 * 1024
USAGE_CODE: Final = 2
TERM_TIMEOUT_S: Final = 2.0
KILL_TIMEOUT_S: Final = 2.0


class ExchangeStartError(Exception):
    """The child did not come up, or said something that is no ready line. One line, no secrets.

    is_usage: it refused its own options (a port in use, a bad seed), so the operator has to change them.
    """

    def __init__(self, text: str, *, is_usage: bool = False) -> None:
        self.is_usage = is_usage
        super().__init__(text)


@dataclass(frozen=True, slots=True)
class Account:
    """An account the exchange opened. private_key is None if the exchange does not know it."""

    address: str
    subaccount: str
    private_key: Secret | None


@dataclass(frozen=True, slots=True)
class Ready:
    """What the ready line said."""

    network: Network
    control: str
    accounts: tuple[Account, ...]


def parse_ready(line: bytes) -> Ready:
    """Read the ready line. Raises ExchangeStartError, never with any part of the line."""
    try:
        document = json.loads(line)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise ExchangeStartError(f"its first line is not a ready line ({len(line)} bytes, not a JSON object)")
    try:
        where = network.custom("sim", document)
    except ConfigError as error:
        raise ExchangeStartError(f"its ready line is not usable: {error}") from None
    control = document.get("control")
    if not isinstance(control, str):
        raise ExchangeStartError("its ready line is not usable: control is missing or not a string")
    rows = document.get("accounts")
    if not isinstance(rows, list) or not rows:
        raise ExchangeStartError("its ready line is not usable: accounts is missing or empty")
    return Ready(where, control, tuple(_account(row) for row in rows))


def _account(row: Any) -> Account:
    if not isinstance(row, dict) or not all(isinstance(row.get(k), str) for k in ("address", "subaccount")):
        raise ExchangeStartError("its ready line is not usable: an account has no address or subaccount")
    key = row.get("private_key")
    if key is None:
        return Account(row["address"].lower(), row["subaccount"].lower(), None)
    try:
        secret = parse_private_key(str(key))
    except ConfigError as error:
        raise ExchangeStartError(f"its ready line is not usable: {error}") from None
    return Account(row["address"].lower(), row["subaccount"].lower(), secret)


def command_line(section: ExchangeSection, seed: int, fund: str | None) -> list[str]:
    """Arguments of the child. `fund`: address of the account the bot brings itself."""
    command = list(section.command) or [sys.executable, "-m", "nadosim"]
    command += ["--host", "127.0.0.1", "--port", str(section.port), "--seed", str(seed)]
    if section.rate is not None:
        command += ["--rate", str(section.rate)]
    if section.linger_s:
        command += ["--linger-s", str(section.linger_s)]
    if fund is not None:
        command += ["--fund", fund]
    return command


def scrubbed_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """What the child may see: nothing that could be a secret or one of our settings."""
    return {name: environ[name] for name in KEPT_ENVIRONMENT if name in environ}


class ExchangeProcess:
    """One run of the embedded exchange. `start` → `Ready`; `gone` completes when it ends; `stop`."""

    def __init__(self, command: Sequence[str], *, start_timeout_s: float, linger_s: float = 0.0) -> None:
        self._command = list(command)
        self._linger_s = linger_s
        self._is_ready = False
        self._timeout_s = start_timeout_s
        self._process: asyncio.subprocess.Process | None = None
        self._stderr = bytearray()
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = False
        self.gone = asyncio.Event()
        self.gone_reason: str | None = None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    async def start(self) -> Ready:
        """Start the child and wait for its ready line. Raises ExchangeStartError; then nothing is left."""
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env=scrubbed_environment(os.environ),
                start_new_session=True,
                limit=MAX_READY_BYTES,
            )
        except (OSError, ValueError) as error:  # ValueError: a NUL character in an argument
            reason = getattr(error, "strerror", None) or str(error)
            raise ExchangeStartError(f"{self._command[0]} cannot be started: {reason}") from None
        self._collector = asyncio.create_task(self._collect_stderr(self._process))
        self._tasks.append(self._collector)
        try:
            line = await self._first_line(self._process)
            ready = parse_ready(line)
        except BaseException:
            await self.stop()
            raise
        self._is_ready = True
        self._tasks.append(asyncio.create_task(self._discard_stdout(self._process)))
        self._tasks.append(asyncio.create_task(self._watch(self._process)))
        return ready

    async def _first_line(self, process: asyncio.subprocess.Process) -> bytes:
        assert process.stdout is not None
        try:
            async with asyncio.timeout(self._timeout_s):
                line = await process.stdout.readline()
        except TimeoutError:
            raise ExchangeStartError(f"no ready line within {self._timeout_s:g} s") from None
        except ValueError:  # the stream's limit
            raise ExchangeStartError(
                f"its first line is not a ready line (more than {MAX_READY_BYTES} bytes)"
            ) from None
        if not line.endswith(b"\n"):
            reason = await self._why_it_ended(process, len(line))
            raise ExchangeStartError(reason, is_usage=process.returncode == USAGE_CODE)
        return line

    async def _why_it_ended(self, process: asyncio.subprocess.Process, got: int) -> str:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(KILL_TIMEOUT_S):
                await process.wait()
                await self._tasks[0]
        said = self.last_words()
        if said:
            return said
        return f"it ended with code {process.returncode} before its ready line was complete ({got} bytes)"

    def last_words(self) -> str:
        """The last line it wrote to stderr, without control characters, at most 300 characters."""
        lines = self._stderr.decode(errors="replace").strip().splitlines()
        text = lines[-1] if lines else ""
        return "".join(c for c in text if c.isprintable())[:300]

    async def _collect_stderr(self, process: asyncio.subprocess.Process) -> None:
        assert process.stderr is not None
        while chunk := await process.stderr.read(4096):
            self._stderr += chunk
            del self._stderr[:-MAX_STDERR_BYTES]

    async def _discard_stdout(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        while await process.stdout.read(4096):
            pass

    async def _watch(self, process: asyncio.subprocess.Process) -> None:
        code = await process.wait()
        if not self._stopping:
            # What it said last may still be in the pipe; a child of its own may hold that open for ever.
            await asyncio.wait([self._collector], timeout=LAST_WORDS_S)
            how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
            said = self.last_words()
            self.gone_reason = (
                f"the embedded exchange was {how}" if code < 0 else f"the embedded exchange {how}"
            )
            if said:
                self.gone_reason += f": {said}"
            self.gone.set()

    async def stop(self) -> None:
        """End the child: close its stdin, then SIGTERM, then SIGKILL, each with a deadline. Idempotent.

        A child that came up and was asked to linger is let go instead: the closed stdin starts its time.
        """
        self._stopping = True
        process = self._process
        if process is None:
            return
        if process.stdin is not None:
            process.stdin.close()
        if not (self._linger_s and self._is_ready):
            await self._end(process)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()

    @staticmethod
    async def _end(process: asyncio.subprocess.Process) -> None:
        for number, timeout_s in ((signal.SIGTERM, TERM_TIMEOUT_S), (signal.SIGKILL, KILL_TIMEOUT_S)):
            if process.returncode is not None:
                return
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(number)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await process.wait()
