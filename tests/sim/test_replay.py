"""Recordings, and books driven by one."""

from __future__ import annotations

import asyncio
import gzip
import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st
from simcore import ETH, HOUSE, IOC, LIMIT, Sim, Trader, x18
from simproc import start_sim
from wireclient import eventually

from nadosim.record import RecordingStopped, main, record
from nadosim.recording import BadRecording, Frame, RecordingWriter, read, redact
from nadosim.replay import Replay

START_NS = 1_790_000_000_000_000_000


# Format ---------------------------------------------------------------------------------------------


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "one.gz"
    with RecordingWriter(path, note="a test") as writer:
        writer.write("out", "subscribe", '{"method":"list"}', 5)
        writer.write("in", "subscribe", b'{"text":"line\\nbreak \xc3\xa9"}', 6)
    assert list(read(path)) == [
        Frame(5, "out", "subscribe", '{"method":"list"}'),
        Frame(6, "in", "subscribe", '{"text":"line\\nbreak é"}'),
    ]
    header = json.loads(gzip.decompress(path.read_bytes()).splitlines()[0])
    assert (header["format"], header["version"], header["note"]) == ("nado-recording", 1, "a test")
    with pytest.raises(FileExistsError):
        RecordingWriter(path)


@given(
    st.recursive(
        st.text(max_size=5) | st.integers(),
        lambda inner: st.dictionaries(st.sampled_from(["signature", "a", "Private_Key", "tx"]), inner),
    )
)
def test_no_secret_is_kept(value: Any) -> None:
    def secrets(found: Any) -> list[Any]:
        if not isinstance(found, dict):
            return []
        inner = [secret for item in found.values() for secret in secrets(item)]
        return inner + [v for name, v in found.items() if name.lower() in ("signature", "private_key")]

    assert set(secrets(json.loads(redact(json.dumps(value))))) <= {"redacted"}


def test_what_might_hide_a_secret_is_not_kept() -> None:
    assert "dead" not in redact('{"signature": "0xdead"')
    assert "dead" not in redact('{"sign\\u0061ture": "0xdead"}')
    deep = "[" * 1000 + "]" * 1000
    assert "dead" not in redact(f'{{"signature": "0xdead", "a": {deep}}}')
    assert redact("hello") == "hello"


def test_a_file_whose_writer_died_is_readable(tmp_path: Path) -> None:
    path = tmp_path / "torn.gz"
    with RecordingWriter(path) as writer:
        for number in range(2_000):
            writer.write("in", "subscribe", f'{{"number":{number}}}', number)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    frames = list(read(path))
    assert 100 < len(frames) < 2_000
    assert [frame.received_ns for frame in frames] == list(range(len(frames)))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not gzip",
        gzip.compress(b"{}\n"),
        gzip.compress(b'{"format":"nado-recording","version":2}\n'),
        gzip.compress(b'{"format":"nado-recording","version":1}\n[1,"up","a","b"]\n'),
        gzip.compress(b'{"format":"nado-recording","version":1}\nnonsense\n'),
    ],
    # Named: compressed bytes carry the time, and workers must agree on the names.
    ids=["empty", "not gzip", "no header", "other version", "broken record", "no json"],
)
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.gz"
    path.write_bytes(content)
    with pytest.raises(BadRecording):
        list(read(path))


# Replay ---------------------------------------------------------------------------------------------


def snapshot(bids: dict[str, str], asks: dict[str, str]) -> dict[str, Any]:
    data = {"product_id": ETH, "timestamp": "1", **_sides(bids, asks)}
    return {"status": "success", "data": data, "request_type": "query_market_liquidity"}


def depth(bids: dict[str, str], asks: dict[str, str]) -> dict[str, Any]:
    return {"type": "book_depth", "product_id": ETH, "max_timestamp": "2", **_sides(bids, asks)}


def trade(price: str, size: str, *, is_buy: bool) -> dict[str, Any]:
    event = {"type": "trade", "timestamp": "1", "product_id": ETH, "price": str(x18(price))}
    return {**event, "taker_qty": str(x18(size)), "maker_qty": str(x18(size)), "is_taker_buyer": is_buy}


def _sides(bids: dict[str, str], asks: dict[str, str]) -> dict[str, Any]:
    return {
        name: [[str(x18(price)), str(x18(size))] for price, size in side.items()]
        for name, side in (("bids", bids), ("asks", asks))
    }


class World(Sim):
    """A core whose books are a recording: one message a second."""

    def __init__(self, *messages: dict[str, Any]) -> None:
        super().__init__()
        frames = [
            Frame(START_NS + number * 10**9, "in", "subscribe", json.dumps(message))
            for number, message in enumerate(messages)
        ]
        noise = Frame(START_NS, "out", "subscribe", json.dumps(messages[0]))
        garbage = Frame(START_NS, "in", "gateway", "{")
        self.replay = Replay(self.exchange, [noise, garbage, *frames])
        self.replay.open()

    def at(self, second: float) -> None:
        self.clock.advance_ns(1_000_000)
        self.replay.advance(second)

    def book(self) -> tuple[Any, Any]:
        return self.exchange.depth(ETH, 10)

    def filled(self) -> list[str]:
        return [fill["base"] for fill in self.exchange.fills_state()]


BOOK = snapshot({"3000": "2", "2999.9": "1"}, {"3000.1": "1", "3000.2": "3"})


def test_books_follow_the_recording() -> None:
    world = World(BOOK, depth({"3000": "0", "2999.8": "4"}, {"3000.1": "2.5"}), depth({}, {"3000.1": "0"}))
    world.at(0)
    assert world.book()[0] == [(x18(3000), x18(2)), (x18("2999.9"), x18(1))]
    world.at(1)
    assert world.book()[0] == [(x18("2999.9"), x18(1)), (x18("2999.8"), x18(4))]
    assert world.book()[1][0] == (x18("3000.1"), x18("2.5"))
    world.at(2)
    assert world.book()[1] == [(x18("3000.2"), x18(3))]
    assert world.replay.is_over
    assert world.replay.refused == 0


def test_changes_the_snapshot_holds_already_are_not_played() -> None:
    old = {**depth({"3000": "9"}, {}), "max_timestamp": "1"}
    world = World(depth({"2000": "1"}, {}), BOOK, old)
    for second in range(3):
        world.at(second)
    assert world.book()[0] == [(x18(3000), x18(2)), (x18("2999.9"), x18(1))]


def test_a_book_recorded_again_changes_what_differs_and_is_never_empty() -> None:
    later = snapshot({"3000": "2", "2999.8": "7"}, {"3000.1": "1", "3000.2": "3"})
    world = World(BOOK, BOOK, later)
    world.at(0)
    steps = len(world.steps)
    world.at(1)
    assert len(world.steps) == steps
    world.at(2)
    changed = set().union(*(step.touched[ETH] for step in world.steps[steps:]))
    assert changed == {("bids", x18("2999.9")), ("bids", x18("2999.8"))}
    assert world.book()[0] == [(x18(3000), x18(2)), (x18("2999.8"), x18(7))]


_TRADE = {"type": "trade", "product_id": ETH, "price": "1", "taker_qty": "1", "is_taker_buyer": True}


@pytest.mark.parametrize(
    "message",
    [
        {"type": "trade", "product_id": ETH},
        {**_TRADE, "price": "cheap"},
        {**_TRADE, "taker_qty": "-1"},
        {"type": "book_depth", "product_id": [], "max_timestamp": "2", "bids": [], "asks": []},
        {"type": "book_depth", "product_id": ETH, "max_timestamp": "2", "bids": None, "asks": []},
        {"type": "book_depth", "product_id": ETH, "max_timestamp": "2", "bids": [["1"]], "asks": []},
        {"type": "book_depth", "product_id": ETH, "max_timestamp": "2", "bids": [["5", "-1"]], "asks": []},
        {"request_type": "query_market_liquidity", "data": {"product_id": ETH}},
    ],
)
def test_frames_that_no_exchange_sends_are_refused_as_a_file_is(message: dict[str, Any]) -> None:
    world = World(BOOK, message)
    with pytest.raises(BadRecording, match=str(START_NS + 10**9)):
        world.at(1)


def test_a_book_that_moves_never_trades_with_itself() -> None:
    world = World(BOOK, depth({"3000.3": "1"}, {"3000.1": "0", "3000.2": "0", "3000.4": "2"}), BOOK)
    for second in range(3):
        world.at(second)
    assert world.book()[0][0] == (x18(3000), x18(2))
    assert [trade for step in world.steps for trade in step.trades] == []


def test_an_order_at_the_price_of_a_trade_does_not_fill() -> None:
    """It is last in the queue, and nobody knows how long the queue is."""
    world = World(BOOK, trade("3000", "50", is_buy=False), depth({"3000": "0"}, {}))
    world.at(0)
    world.place(Trader(world).order("buy", "3000", "0.1", LIMIT))
    world.at(2)
    assert world.filled() == []


def test_an_order_the_market_trades_through_fills_up_to_the_trade() -> None:
    world = World(BOOK, trade("2999.9", "0.4", is_buy=False), trade("2999.9", "5", is_buy=False))
    world.at(0)
    world.place(Trader(world).order("buy", "3000", "1", LIMIT))
    world.at(1)
    assert world.filled() == [str(x18("0.4"))]
    world.at(2)
    assert world.filled() == [str(x18("0.4")), str(x18("0.6"))]
    assert [
        trade["price"] for step in world.steps for trade in step.trades if trade["taker_qty"] == "1"
    ] == []


def test_a_level_that_crosses_our_order_fills_it() -> None:
    world = World(BOOK, depth({"3000": "0", "2999.9": "0"}, {"2999.8": "3"}))
    world.at(0)
    world.place(Trader(world).order("buy", "2999.9", "1", LIMIT))
    world.at(1)
    assert world.filled() == [str(x18(1))]
    assert world.book()[1][0] == (x18("2999.8"), x18(2))


def test_an_order_that_takes_meets_the_recorded_depth() -> None:
    world = World(BOOK, depth({}, {"3000.1": "1"}))
    world.at(0)
    world.place(Trader(world, deposit=50_000).order("buy", "3000.2", "2", IOC))
    assert world.filled() == [str(x18(1)), str(x18(1))]
    assert world.book()[1] == [(x18("3000.2"), x18(2))]
    world.at(1)  # the recording mentions the level again: it is there again
    assert world.book()[1][0] == (x18("3000.1"), x18(1))


async def test_a_recorded_market_can_be_traded_again(tmp_path: Path) -> None:
    path = tmp_path / "market.gz"
    async with start_sim(seed=3, rate=400) as original:
        where = {"gateway": original.ready["gateway"], "subscribe": original.ready["subscribe"]}
        with RecordingWriter(path) as writer:
            await record(writer, **where, products=[ETH], seconds=1.5)
    messages = [json.loads(frame.text) for frame in read(path) if frame.direction == "in"]
    trades = sum(message.get("type") == "trade" for message in messages)
    async with start_sim(replay=str(path), speed=50) as again:
        assert isinstance(again.market, Replay)
        await eventually(lambda: again.market.is_over)  # type: ignore[union-attr]
        assert again.exchange.depth(ETH, 20) == _book_of(messages)
        assert again.hub.events["trade"] == trades > 0
        assert again.market.refused == 0


def _book_of(messages: list[dict[str, Any]]) -> Any:
    """The last book by the rules of a client: snapshot, then every later batch."""
    snapshot = next(message["data"] for message in messages if "data" in message)
    book = {side: {int(p): int(q) for p, q in snapshot[side]} for side in ("bids", "asks")}
    for message in messages:
        is_depth = message.get("type") == "book_depth"
        if is_depth and int(message["max_timestamp"]) > int(snapshot["timestamp"]):
            for side in book:
                book[side].update((int(price), int(total)) for price, total in message[side])
    levels = {side: [(p, q) for p, q in sorted(book[side].items()) if q] for side in book}
    return levels["bids"][::-1][:20], levels["asks"][:20]


async def test_a_recorder_that_is_cut_says_so(tmp_path: Path) -> None:
    async with start_sim(rate=0) as server, asyncio.timeout(10):
        where = {"gateway": server.ready["gateway"], "subscribe": server.ready["subscribe"]}
        with RecordingWriter(tmp_path / "cut.gz") as writer:
            task = asyncio.create_task(record(writer, **where, products=[ETH], seconds=60))
            await eventually(lambda: writer.frames >= 8)
            server.surface.sockets.cut_all("test")
            with pytest.raises(RecordingStopped):
                await task


@pytest.mark.parametrize("fault", ["bad_deflate", "truncated_frame", "deflate_bomb"])
async def test_a_recorder_that_meets_a_broken_frame_says_so(tmp_path: Path, fault: str) -> None:
    async with start_sim(rate=0) as server, asyncio.timeout(10):
        where = {"gateway": server.ready["gateway"], "subscribe": server.ready["subscribe"]}
        with RecordingWriter(tmp_path / "broken.gz") as writer:
            task = asyncio.create_task(record(writer, **where, products=[ETH], seconds=60))
            await eventually(lambda: writer.frames >= 8)
            server.control.strike({fault: {"scope": "subscribe"}})
            server.exchange.house_place(HOUSE, ETH, x18(2990), x18(1))
            with pytest.raises(RecordingStopped):
                await task


async def test_a_recorder_without_snapshots_does_not_go_on(tmp_path: Path) -> None:
    async with start_sim(rate=0) as server, asyncio.timeout(5) as deadline:
        with RecordingWriter(tmp_path / "half.gz") as writer:
            where = {"gateway": "http://127.0.0.1:9/v1", "subscribe": server.ready["subscribe"]}
            with pytest.raises(aiohttp.ClientError):
                await record(writer, **where, products=[ETH], seconds=60)
        assert not deadline.expired()


def test_a_recorder_refuses_products_that_are_none(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["file.gz", "--gateway", "http://x", "--subscribe", "ws://x", "--products", "4,x"])
    assert ended.value.code == 2
    assert "--products" in capsys.readouterr().err
