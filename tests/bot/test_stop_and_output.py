"""Stop requests, and output that can never stall or fail trading."""

from __future__ import annotations

import io
import logging
import os
import signal
import threading
from pathlib import Path

import pytest

from bot.logs import QUEUE_LINES, EventLog, LogBridge, Output, table
from bot.shutdown import StopRequest


async def test_first_signal_asks_second_leaves_and_handlers_are_taken_down() -> None:
    times = iter((100, 200))
    before = signal.getsignal(signal.SIGTERM)
    woken: list[int] = []
    with StopRequest(clock_ns=lambda: next(times)) as stop:
        stop.on_request(lambda: woken.append(stop.level))
        assert stop.age_ns(50) is None
        os.kill(os.getpid(), signal.SIGTERM)
        await stop.asked.wait()
        assert (stop.level, stop.by, stop.age_ns(150)) == (1, "SIGTERM", 50)
        assert not stop.leave.is_set()
        os.kill(os.getpid(), signal.SIGINT)
        await stop.leave.wait()
        assert (stop.level, stop.by, stop.age_ns(300)) == (2, "SIGTERM", 200)
    assert woken == [1, 2]
    assert signal.getsignal(signal.SIGTERM) == before


class Stuck(io.StringIO):
    """A reader that does not read: every write waits."""

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()

    def write(self, text: str) -> int:
        self.go.wait(5)
        return super().write(text)


def test_a_reader_that_stalls_costs_lines_never_time() -> None:
    stream = Stuck()
    output = Output(stream)
    for number in range(QUEUE_LINES + 500):
        output.line(str(number))
    assert output.dropped >= 400
    stream.go.set()
    output.close()
    assert stream.getvalue().startswith("0\n1\n2\n")


class Gone(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError


def test_a_reader_that_left_silences_stdout_and_keeps_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bot.logs.silence_stdout", lambda: None)
    output = Output(Gone(), log_file=tmp_path / "log")
    output.line("one")
    output.line("two")
    output.close()
    assert (tmp_path / "log").read_text() == "one\ntwo\n"
    assert output.failure is None


def test_a_write_that_fails_is_remembered_and_the_next_one_works() -> None:
    stream = io.StringIO()
    output = Output(stream)

    def full() -> None:
        raise OSError(28, "No space left on device")

    output.submit(full)
    output.line("still here")
    output.close()
    assert stream.getvalue() == "still here\n"
    assert output.failure is not None
    assert "No space" in output.failure


def test_library_warnings_are_lines_without_tracebacks() -> None:
    stream = io.StringIO()
    output = Output(stream)
    bridge = LogBridge(EventLog(output))
    logger = logging.Logger("nadofast.test")
    logger.addHandler(bridge)
    try:
        raise RuntimeError("inner")
    except RuntimeError:
        logger.exception("link lost\nsecond line")
    logger.info("not shown")
    for number in range(50):
        logger.warning("flood %d", number)
    output.close()
    text = stream.getvalue()
    assert "error: link lost" in text
    assert "Traceback" not in text
    assert "inner" not in text
    assert text.count("flood") < 25


def test_tables_line_up() -> None:
    assert table(("leg", "size"), [("ETH", "0.042"), ("SOLANA", "0.9")], indent="") == [
        "leg      size",
        "─" * 13,
        "ETH     0.042",
        "SOLANA    0.9",
    ]
