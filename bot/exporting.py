"""Market data alone: record it without trading, and turn recordings into columns."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import orjson
import typer
import uvloop

import nadofast
from nadofast import events, wire
from nadofast.errors import NadoError, ParseError
from nadofast.tape import Kind
from nadofast.waiting import wait_event

from .config import Settings, SettingsError
from .extras import not_installed
from .model import ExitCode
from .preflight import StartError
from .recordfile import RecordingReader
from .recording import Recording, feed_config
from .replay import STREAM
from .tapes import open_recording
from .venue import read_exchange_file

STREAMS: Final = (wire.BEST_BID_OFFER, wire.BOOK_DEPTH, wire.TRADE)
SYNC_TIMEOUT_S: Final = 30.0
LOOK_S: Final = 0.1
ROWS_AT_ONCE: Final = 50_000
NEEDS: Final = "pyarrow>=18,<27"
TABLES: Final = ("best_bid_offer", "trade", "book_depth")


def record_command(
    directory: Annotated[Path, typer.Argument(help="Where the files go.")],
    product: Annotated[list[int], typer.Option(help="Product id; give it again for more.")],
    network: Annotated[str, typer.Option(help="mainnet or testnet.")] = "mainnet",
    exchange: Annotated[
        Path | None, typer.Option(help="Ready line of an exchange that already runs.")
    ] = None,
    seconds: Annotated[float | None, typer.Option(min=0, help="Empty: until interrupted.")] = None,
) -> int:
    """Record market data without trading: books, best prices, trades. Needs no key."""
    where = network if exchange is None else read_exchange_file(exchange).network
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            said = runner.run(_record(where, directory, product, seconds))
    except OSError as error:
        raise SettingsError(f"{directory}: {error.strerror}") from None
    except NadoError as error:
        raise StartError(f"record: {error}") from None
    print(said)
    return int(ExitCode.DONE)


async def _record(
    network: str | nadofast.Network, directory: Path, products: Sequence[int], seconds: float | None
) -> str:
    recording, began, stopped = Recording(directory), time.monotonic(), asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    print(f"recording {recording.path}", flush=True)
    try:
        async with nadofast.Feed(
            network, products=products, streams=STREAMS, config=feed_config(Settings(), recording)
        ) as feed:
            await _synced(feed, stopped)
            end = None if seconds is None else began + seconds
            while (
                recording.failure is None and not stopped.is_set() and (end is None or time.monotonic() < end)
            ):
                await wait_event(stopped, LOOK_S)
    finally:
        recording.close()
    if recording.failure is not None:
        raise StartError(f"the recording ended: {recording.failure}")
    return f"recorded  {recording.records} records in {time.monotonic() - began:.0f} s"


async def _synced(feed: nadofast.Feed, stopped: asyncio.Event) -> None:
    """Until the books are there, or somebody has waited long enough. Raises NadoError."""
    synced = asyncio.create_task(feed.wait_synced(SYNC_TIMEOUT_S))
    asked = asyncio.create_task(stopped.wait())
    try:
        await asyncio.wait((synced, asked), return_when=asyncio.FIRST_COMPLETED)
        if synced.done():
            synced.result()
    finally:
        for task in (synced, asked):
            task.cancel()
        await asyncio.gather(synced, asked, return_exceptions=True)


def export_command(
    file: Annotated[Path, typer.Argument(help="First file of a recording (.tape).")],
    directory: Annotated[Path, typer.Argument(help="Where the Parquet files go.")],
) -> int:
    """Recorded market data as Parquet: one file each for best prices, trades and changes of books.

    Prices and sizes are x18 integers as decimal text, times integers in nanoseconds: nothing is rounded.
    """
    try:
        import pyarrow  # noqa: F401
    except ModuleNotFoundError as error:
        raise not_installed(error, NEEDS) from None
    reader = open_recording(file)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        counts = _write(reader, directory)
    except OSError as error:
        raise SettingsError(f"{error.filename or directory}: {error.strerror or error}") from None
    if not any(counts.values()):
        raise SettingsError(f"{file}: no market data is in it{reader.damage and f' ({reader.damage})'}")
    print("\n".join(f"{directory / name}.parquet: {count} rows" for name, count in counts.items() if count))
    if reader.damage:
        print(f"ends early: {reader.damage}")
    return int(ExitCode.DONE)


def _write(reader: RecordingReader, directory: Path) -> dict[str, int]:
    """Rows of each table. Raises OSError."""
    import pyarrow as arrow
    from pyarrow import parquet

    waiting: dict[str, list[dict[str, Any]]] = {name: [] for name in TABLES}
    writers: dict[str, Any] = {}
    counts = dict.fromkeys(TABLES, 0)

    def flush(name: str) -> None:
        if waiting[name]:
            table = arrow.Table.from_pylist(waiting[name])
            if name not in writers:
                writers[name] = parquet.ParquetWriter(directory / f"{name}.parquet", table.schema)
            writers[name].write_table(table)
            counts[name] += len(waiting[name])
            waiting[name] = []

    try:
        for name, row in _rows(reader):
            waiting[name].append(row)
            if len(waiting[name]) >= ROWS_AT_ONCE:
                flush(name)
        for name in TABLES:
            flush(name)
    finally:
        for writer in writers.values():
            writer.close()
    return counts


def _rows(reader: RecordingReader) -> Iterator[tuple[str, dict[str, Any]]]:
    """(table, row) of every market message of the streams."""
    streams: set[int] = set()
    for record in reader:
        if record.kind is Kind.CHANNEL:
            said = orjson.loads(record.payload)
            if said["name"].partition(" ")[0] == STREAM:
                streams.add(said["number"])
        elif record.kind is Kind.RECEIVED and record.channel in streams:
            with contextlib.suppress(ParseError):
                yield from _of(nadofast.parse(record.message), record.at_ns)


def _of(event: Any, received_ns: int) -> Iterator[tuple[str, dict[str, Any]]]:
    match event:
        case events.BBOEvent():
            yield "best_bid_offer", {
                "received_ns": received_ns, "timestamp_ns": event.timestamp_ns,
                "product_id": event.product_id,
                "bid_price_x18": str(event.bid_price_x18), "bid_qty_x18": str(event.bid_qty_x18),
                "ask_price_x18": str(event.ask_price_x18), "ask_qty_x18": str(event.ask_qty_x18),
            }  # fmt: skip
        case events.TradeEvent():
            yield "trade", {
                "received_ns": received_ns, "timestamp_ns": event.timestamp_ns,
                "product_id": event.product_id, "price_x18": str(event.price_x18),
                "qty_x18": str(event.taker_qty_x18), "is_taker_buyer": event.is_taker_buyer,
            }  # fmt: skip
        case events.BookDepthEvent():
            for side, levels in (("bid", event.bids), ("ask", event.asks)):
                for price_x18, qty_x18 in levels:
                    yield "book_depth", {
                        "received_ns": received_ns, "max_timestamp_ns": event.max_timestamp_ns,
                        "last_max_timestamp_ns": event.last_max_timestamp_ns,
                        "product_id": event.product_id, "side": side, "price_x18": str(price_x18),
                        "qty_x18": str(qty_x18),
                    }  # fmt: skip
