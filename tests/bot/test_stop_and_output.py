"""Stop requests, and output that can never stall or fail trading."""

from __future__ import annotations

import asyncio
import io
import logging
import os
import signal
import socket
import time
from pathlib import Path
from typing import TextIO

import pytest

from bot.logs import QUEUE_LINES, EventLog, LogBridge, Output, table
from bot.shutdown import SIGNALS, Stage, StopRequest


async def test_three_signals_drain_flatten_and_leave_and_handlers_are_taken_down() -> None:
    before = signal.getsignal(signal.SIGTERM)
    woken: list[Stage] = []
    with StopRequest() as stop:
        second = asyncio.Event()

        def wake() -> None:
            woken.append(stop.stage)
            if stop.stage is Stage.FLATTEN:
                second.set()

        stop.on_request(wake)
        os.kill(os.getpid(), signal.SIGTERM)
        await stop.asked.wait()
        assert (stop.stage, stop.by, stop.flatten_ns) == (Stage.DRAIN, "SIGTERM", None)
        os.kill(os.getpid(), signal.SIGINT)
        await second.wait()
        assert stop.flatten_ns is not None
        assert (stop.stage, stop.by, stop.leave.is_set()) == (Stage.FLATTEN, "SIGTERM", False)
        os.kill(os.getpid(), signal.SIGINT)
        await stop.leave.wait()
    assert woken == [Stage.DRAIN, Stage.FLATTEN, Stage.LEAVE]
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_drain_becomes_a_flatten_when_its_time_is_up() -> None:
    now = [1_000]
    stop = StopRequest(clock_ns=lambda: now[0], drain_deadline_s=2.0)
    assert stop.flatten_ns is None
    stop.drain("somebody")
    now[0] += 2_000_000_000 - 1
    assert (stop.flatten_ns, stop.stage) == (None, Stage.DRAIN)
    now[0] += 1
    assert (stop.flatten_ns, stop.stage) == (2_000_001_000, Stage.FLATTEN)
    now[0] += 5_000_000_000
    assert stop.flatten_ns == 2_000_001_000
    assert not stop.leave.is_set()


def test_stages_only_go_up_and_the_first_request_names_it() -> None:
    now = [5]
    stop = StopRequest(clock_ns=lambda: now[0])
    assert stop.words == ""
    stop.flatten("a terminal")
    assert stop.words == "a terminal: what is open crosses at once; once more, and it stays open"
    now[0] = 7
    stop.drain("a signal")
    assert (stop.stage, stop.by, stop.asked_ns, stop.flatten_ns) == (Stage.FLATTEN, "a terminal", 5, 5)
    stop.stop("a signal")
    stop.stop("a signal")
    assert (stop.stage, stop.leave.is_set(), stop.flatten_ns) == (Stage.LEAVE, True, 5)


def piped() -> tuple[int, TextIO]:
    """The reader's end of a pipe, and a stream into it as stdout would be."""
    read_fd, write_fd = os.pipe()
    return read_fd, os.fdopen(write_fd, "w", encoding="utf-8")


def drained(read_fd: int) -> str:
    """All that was written, once nobody writes any more."""
    with os.fdopen(read_fd, encoding="utf-8") as reader:
        return reader.read()


def test_a_reader_that_stalls_costs_lines_never_time() -> None:
    read_fd, stream = piped()
    output = Output(stream)
    started = time.monotonic()
    fits = 64 * 1024 // 100
    for number in range(QUEUE_LINES + fits + 500):
        output.line(f"{number:<98}")
    assert time.monotonic() - started < 5.0
    assert 400 <= output.dropped <= 600
    reader = os.fdopen(read_fd, encoding="utf-8")
    assert [int(reader.readline()) for _ in range(3)] == [0, 1, 2]
    reader.close()
    output.close()
    stream.close()
    assert output.failure is None


async def test_a_slow_reader_gets_every_line_in_order_and_the_loop_goes_on(tmp_path: Path) -> None:
    read_fd, stream = piped()
    output = Output(stream, log_file=tmp_path / "log")
    expected = [f"{number:<98}" for number in range(3_000)]
    for line in expected:
        output.line(line)
    assert (tmp_path / "log").read_text() == ""  # said, and not yet written: the callback goes first
    loop, got = asyncio.get_running_loop(), bytearray()
    everything = asyncio.Event()

    def read() -> None:
        got.extend(os.read(read_fd, 1_000))
        if len(got) == 99 * len(expected):
            everything.set()

    loop.add_reader(read_fd, read)
    async with asyncio.timeout(30):
        await everything.wait()
    loop.remove_reader(read_fd)
    output.close()
    stream.close()
    os.close(read_fd)
    assert got.decode().splitlines() == expected
    assert (tmp_path / "log").read_text().splitlines() == expected
    assert output.dropped == 0


def test_the_stream_of_whoever_started_us_stays_blocking() -> None:
    read_fd, stream = piped()
    output = Output(stream)
    output.line("one")
    assert os.get_blocking(stream.fileno())
    output.close()
    assert os.get_blocking(stream.fileno())
    stream.close()
    assert drained(read_fd) == "one\n"


def test_a_socket_as_stdout(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a service manager gives."""
    monkeypatch.setattr("bot.screen.silence_stdout", lambda: None)
    ours, theirs = socket.socketpair()
    with os.fdopen(os.dup(ours.fileno()), "w", encoding="utf-8") as stream:
        output = Output(stream)
        for number in range(20_000):
            output.line(f"{number:<98}")
        assert output.dropped > 0
        assert theirs.recv(98).decode().strip() == "0"
        theirs.close()
        output.line("nobody reads this")
        output.close()
    ours.close()


def test_a_full_disk_behind_stdout_is_remembered() -> None:
    with open("/dev/full", "w", encoding="utf-8") as full:
        output = Output(full)
        output.line("one")
        output.close()
    assert output.failure == "stdout: No space left on device"


class Gone(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError


def test_a_reader_that_left_silences_stdout_and_keeps_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bot.screen.silence_stdout", lambda: None)
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


def test_warnings_beyond_ten_a_second_are_counted_and_said() -> None:
    stream = io.StringIO()
    output = Output(stream)
    bridge = LogBridge(EventLog(output))
    for second, many in ((1, 50), (2, 10), (3, 11)):
        for _ in range(many):
            bridge.emit(logging.makeLogRecord({"levelname": "WARNING", "msg": "flood", "created": second}))
    bridge.close()
    bridge.close()
    output.close()
    said = [line.split("warning: ")[1] for line in stream.getvalue().splitlines()]
    shown = ["flood"] * 10
    assert said == [
        *shown, "40 more in the same second are not shown", *shown, *shown,
        "1 more in the same second are not shown",
    ]  # fmt: skip


def test_a_job_that_breaks_does_not_end_the_writing() -> None:
    stream = io.StringIO()
    output = Output(stream)
    output.submit(lambda: [][1])  # type: ignore[misc]
    output.line("still here")
    output.close()
    assert stream.getvalue() == "still here\n"
    assert output.failure is not None


def test_odd_log_records_do_no_harm() -> None:
    stream = io.StringIO()
    output = Output(stream)
    logger = logging.Logger("nadofast.test")
    logger.addHandler(LogBridge(EventLog(output)))
    logger.warning("")
    logger.warning("%d", "no number")
    output.close()
    assert stream.getvalue().count("warning: ") == 2


async def test_the_last_word_cannot_be_cut_off() -> None:
    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        with StopRequest(is_last_word=True):
            pass
        for number in SIGNALS:
            os.kill(os.getpid(), number)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_tables_line_up() -> None:
    assert table(("leg", "size"), [("ETH", "0.042"), ("SOLANA", "0.9")], indent="") == [
        "leg      size",
        "─" * 13,
        "ETH     0.042",
        "SOLANA    0.9",
    ]
