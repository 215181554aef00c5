"""stdout, written by the loop without ever waiting for who reads it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import stat
import sys
import time
from collections import deque
from typing import Final, TextIO

QUEUE_LINES: Final = 10_000


class Screen:
    """Lines in a bounded queue: what a pipe or a terminal does not take at once waits there, what is too much
    is dropped and counted. failure: why something was not written. A stream without a descriptor is written
    as it is."""

    def __init__(self, stream: TextIO) -> None:
        self._stream: TextIO | None = stream
        self._encoding = getattr(stream, "encoding", None) or "utf-8"
        self._fd, self._is_patient = _description(stream)
        self._pending: deque[bytes] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None
        self.dropped = 0
        self.failure: str | None = None

    def write(self, text: str) -> None:
        """Now, or as soon as the reader takes it."""
        if self._fd is None:
            self._write_plain(text)
            return
        if len(self._pending) >= QUEUE_LINES:
            self.dropped += 1
            return
        self._pending.append(text.encode(self._encoding, "replace"))  # a terminal without these letters
        if self._loop is None:
            self._flush()

    def close(self, timeout_s: float) -> None:
        """What is still unread then is dropped."""
        self._stop_waiting()
        deadline_s = time.monotonic() + timeout_s
        while self._pending and self._fd is not None and (left_s := deadline_s - time.monotonic()) > 0:
            if _can_take(self._fd, left_s):
                self._flush()
        self.dropped += len(self._pending)
        self._pending.clear()
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _flush(self) -> None:
        while self._pending and self._fd is not None:
            data = self._pending[0]
            try:
                if not self._is_patient and not _can_take(self._fd, 0.0):
                    raise BlockingIOError
                sent = os.write(self._fd, data[: select.PIPE_BUF])
            except BlockingIOError:
                self._wait()
                return
            except OSError as error:
                self._lose(error)
                continue
            if sent == len(data):
                self._pending.popleft()
            else:
                self._pending[0] = data[sent:]
        self._stop_waiting()

    def _lose(self, error: OSError) -> None:
        self._pending.popleft()
        if not isinstance(error, BrokenPipeError):  # a full disk behind a redirection
            self.failure = f"stdout: {error.strerror}"
            return
        self._stop_waiting()
        if self._fd is not None:
            os.close(self._fd)
        self._fd, self._stream = None, None
        silence_stdout()

    def _wait(self) -> None:
        """Go on when the reader does, if there is a loop to tell us."""
        if self._loop is None and self._fd is not None:
            with contextlib.suppress(RuntimeError, OSError):
                loop = asyncio.get_running_loop()
                loop.add_writer(self._fd, self._flush)
                self._loop = loop

    def _stop_waiting(self) -> None:
        loop, self._loop = self._loop, None
        if loop is not None and self._fd is not None and not loop.is_closed():
            loop.remove_writer(self._fd)

    def _write_plain(self, text: str) -> None:
        if self._stream is None:  # its reader has left
            return
        try:
            self._stream.write(text)
            self._stream.flush()
        except (BrokenPipeError, ValueError):
            self._stream = None
            silence_stdout()
        except OSError as error:
            self.failure = f"stdout: {error.strerror}"


def _description(stream: TextIO) -> tuple[int | None, bool]:
    """A descriptor to write to, and whether it may be written without asking: never waits by itself, or is a
    plain file. None: the stream has no descriptor.

    Pipes and terminals are opened anew: non-blocking belongs to an open description, and ours is shared with
    whoever started us.
    """
    try:
        number = stream.fileno()
        stream.flush()
    except (AttributeError, OSError, ValueError):
        return None, True
    mode = os.fstat(number).st_mode
    if stat.S_ISFIFO(mode) or stat.S_ISCHR(mode):
        flags = os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
        with contextlib.suppress(OSError):
            return os.open(f"/proc/self/fd/{number}", flags), True
    return os.dup(number), stat.S_ISREG(mode)


def _can_take(fd: int, timeout_s: float) -> bool:
    """Whether a write of a few lines would not wait; an error counts, the write then says which."""
    asked = select.poll()
    asked.register(fd, select.POLLOUT)
    return bool(asked.poll(timeout_s * 1_000))


def silence_stdout() -> None:
    """The reader of our stdout is gone: let the interpreter's last flush go nowhere instead of failing."""
    with contextlib.suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
