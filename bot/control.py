"""The control socket: how another terminal asks a running bot, and tells it what to do.

A Unix socket, mode 0600, in the state directory. One request a line, as JSON: `{"do": "status"}`. One reply a
line, `{"ok": true, ...}` or `{"ok": false, "error": "..."}`; `watch` sends a status again and again until the
reader goes. The server runs beside the strategy, not in it: a strategy that hangs can still be flattened.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import orjson

from .beat import until_beat_s
from .status import Status

MAX_LINE: Final = 4096
MAX_CLIENTS: Final = 16
IDLE_S: Final = 60.0
WRITE_TIMEOUT_S: Final = 2.0
MIN_WATCH_S: Final = 0.05
AFTER_BEAT_S: Final = 0.005
"""The bot looks at itself on the beat: readers who come just after it are shown that picture."""
PAUSE_S: Final = 0.01
ASK_TIMEOUT_S: Final = 3.0

Command = Callable[[], Awaitable[str]]


class ControlError(Exception):
    """A running bot could not be asked, or refused. One line."""


class ControlSilent(ControlError):
    """A bot is there and does not answer."""


class ControlServer:
    """Serves one bot. status: a picture of it, the same value as long as that is recent enough; commands:
    verb → what carries it out and says in one line what it did."""

    def __init__(self, path: Path, status: Callable[[], Status], commands: Mapping[str, Command]) -> None:
        self._path = path
        self._status = status
        self._commands = dict(commands)
        self._server: asyncio.Server | None = None
        self._clients: set[asyncio.Task[None]] = set()
        self._shown: Status | None = None
        self._line = b""
        self.refused = 0

    @property
    def readers(self) -> int:
        """Connections that are open now."""
        return len(self._clients)

    async def start(self) -> None:
        """Listen. Raises ControlError if the path cannot be used."""
        try:
            # Whoever holds the lock of the state directory owns the path: what lies there is a dead bot's.
            self._path.unlink(missing_ok=True)
            mask = os.umask(0o177)
            try:
                with _address(self._path) as address:
                    self._server = await asyncio.start_unix_server(self._client, path=address, limit=MAX_LINE)
            finally:
                os.umask(mask)
        except OSError as error:
            raise ControlError(f"control socket {self._path}: {error.strerror or error}") from None

    async def stop(self) -> None:
        """Close every connection and remove the socket."""
        if self._server is None:
            return
        self._server.close()
        for task in self._clients:
            task.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)
        self._server = None
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if len(self._clients) >= MAX_CLIENTS:
            self.refused += 1
            writer.transport.abort()
            return
        self._clients.add(task)
        try:
            await self._serve(reader, writer)
            writer.close()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, ValueError):
            pass  # the reader has gone, sends nothing, or does not read: its connection ends, nothing else
        except asyncio.CancelledError:
            pass  # by stop(); the streams module reports a cancelled connection as an error otherwise
        finally:
            self._clients.discard(task)
            writer.transport.abort()  # what is still unsent has no reader

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            async with asyncio.timeout(IDLE_S):
                line = await reader.readline()
            if not line.endswith(b"\n"):
                return
            request = _parse(line)
            if isinstance(request, str):
                await _reply(writer, {"ok": False, "error": request})
            elif request["do"] == "watch":
                await self._watch(request, writer)
            else:
                await _reply(writer, await self._answer(request))
            await asyncio.sleep(PAUSE_S)  # requests that lie in the buffer must not run in one turn

    def _status_json(self) -> bytes:
        """Written once for every picture, however many ask."""
        status = self._status()
        if status is not self._shown:
            self._shown, self._line = status, status.to_json()
        return self._line

    async def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        verb = request["do"]
        if verb == "status":
            return {"ok": True, "status": orjson.Fragment(self._status_json())}
        command = self._commands.get(verb)
        if command is None:
            known = ", ".join(sorted([*self._commands, "status", "watch"]))
            return {"ok": False, "error": f"unknown command {verb!r}; known: {known}"}
        try:
            return {"ok": True, "said": await command()}
        except ControlError as error:
            return {"ok": False, "error": str(error)}

    async def _watch(self, request: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        every = request.get("every_s", 0.5)
        if isinstance(every, bool) or not isinstance(every, int | float) or not MIN_WATCH_S <= every <= 60:
            await _reply(writer, {"ok": False, "error": f"every_s: {MIN_WATCH_S} to 60"})
            return
        while True:
            await _reply(writer, {"ok": True, "status": orjson.Fragment(self._status_json())})
            await asyncio.sleep(until_beat_s(every, after_s=AFTER_BEAT_S))


@contextlib.contextmanager
def _address(path: Path) -> Iterator[str]:
    """The address of a socket at any path: a Unix socket takes 107 bytes, a directory may be deeper."""
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def _parse(line: bytes) -> dict[str, Any] | str:
    """The request, or what is wrong with it."""
    try:
        request = orjson.loads(line)
    except orjson.JSONDecodeError:
        return "a request is one JSON object a line"
    if not isinstance(request, dict) or not isinstance(request.get("do"), str):
        return 'a request is an object with "do"'
    return request


async def _reply(writer: asyncio.StreamWriter, reply: Mapping[str, Any]) -> None:
    writer.write(orjson.dumps(reply) + b"\n")
    async with asyncio.timeout(WRITE_TIMEOUT_S):
        await writer.drain()


# ---------------------------------------------------------------------- the other terminal


def ask(path: Path, request: Mapping[str, Any], timeout_s: float = ASK_TIMEOUT_S) -> dict[str, Any]:
    """One request to a running bot, from a process without a loop. Raises ControlError in one line."""
    return next(stream(path, request, timeout_s))


def stream(
    path: Path, request: Mapping[str, Any], timeout_s: float = ASK_TIMEOUT_S
) -> Iterator[dict[str, Any]]:
    """Replies one by one, one at least, until the bot ends. timeout_s: the longest silence. Raises
    ControlError."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
        link.settimeout(timeout_s)
        try:
            with _address(path) as address:
                link.connect(address)
            link.sendall(orjson.dumps(dict(request)) + b"\n")
            line = b""
            with link.makefile("rb") as lines:
                for line in lines:
                    yield _opened(line)
            if not line:
                raise ControlError(f"{path}: the bot closed the connection without an answer")
        except TimeoutError:
            raise ControlSilent(f"no answer in {timeout_s:g} s: the process hangs") from None
        except (FileNotFoundError, ConnectionRefusedError):
            raise ControlError(f"no bot is running there ({path})") from None
        except OSError as error:
            raise ControlError(f"{path}: {error.strerror or error}") from None


def _opened(line: bytes) -> dict[str, Any]:
    try:
        reply = orjson.loads(line)
    except orjson.JSONDecodeError:
        raise ControlError("the answer was cut off") from None
    if not isinstance(reply, dict):
        raise ControlError("the answer is none of a bot")
    if not reply.get("ok"):
        raise ControlError(str(reply.get("error", "refused")))
    return dict(reply)
