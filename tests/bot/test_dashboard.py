"""The dashboard's picture: what is true is in it, what is not known is said to be so, any width works."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from statuskit import sample

from bot import dashboard
from bot.status import Status


def drawn(status: Status, width: int = 140, height: int = dashboard.TALL) -> str:
    console = Console(file=io.StringIO(), width=width, height=60, legacy_windows=False)
    console.print(dashboard.screen(status, height))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert all(len(line) <= width for line in text.splitlines())
    return str(text)


def test_the_picture_holds_state_books_orders_limits_and_events() -> None:
    text = drawn(sample())
    for part in (
        "HEDGED", "cycle 3 of 10", "BUY_FIRST", "ETH-PERP", "3060.1", "0.049", "book valid", "book gap",
        "12 ms by stream", "no data", "stream 0", "BACKOFF", "account by", "rest", "99.950 %",
        "daily loss", "1.5 / 10 USD", "299.5 / 300 USD", "-0.4900", "depth wire to book", "0.020",
        "12:00:01 hedged [x]", "+1.5 ± 0.4 ms",
    ):  # fmt: skip
        assert part in text, part


def test_a_halt_a_stop_and_a_wait_are_said_loudly() -> None:
    text = drawn(
        sample(phase="HALTED", halt="net delta 2.4 %", stop="SIGINT", not_ready="book of ETH is not valid")
    )
    for part in ("HALT: net delta 2.4 %", "STOPPING: SIGINT", "waiting: book of ETH is not valid"):
        assert part in text


@pytest.mark.parametrize("width", [60, 80, 100, 200])
def test_any_width_and_an_empty_bot_can_be_drawn(width: int) -> None:
    drawn(sample(), width)
    drawn(sample(legs=(), links=(), latencies={}, limits=(), events=(), clock_uncertainty_ms=None), width)


@pytest.mark.parametrize("height", [24, 30, 36, 48])
def test_a_low_terminal_shows_what_matters_most(height: int) -> None:
    events = tuple(f"12:00:{i:02d} event {i}" for i in range(12))
    text = drawn(sample(events=events), height=height)
    assert len(text.splitlines()) <= height
    for part in ("HEDGED", "3060.1", "daily loss", "event 11"):
        assert part in text
    assert "p99 ms" not in text
    assert "p99 ms" in drawn(sample(events=events))


def test_markup_in_a_text_from_outside_is_text() -> None:
    assert "[bold red]x[/]" in drawn(sample(events=("[bold red]x[/] [/nonsense]",)))
    assert "[red]" in drawn(sample(halt="[red] exchange said [/x]"))


def test_the_plain_line_holds_what_matters() -> None:
    text = dashboard.line(sample(halt="daily loss"))
    for part in ("HEDGED", "cycle 3/10", "ETH-PERP 0.049 stream", "delta 0.11%", "net -0.4900", "links 1/2"):
        assert part in text
    assert text.endswith("HALT daily loss")
