"""`python -m nadosim.record`: write a recording that `--replay` can play, from any exchange of this protocol.

python -m nadosim.record eth.gz --gateway http://HOST:PORT/v1 --subscribe ws://HOST:PORT/v1/subscribe
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from typing import Final, NoReturn

import aiohttp

from .recording import RecordingWriter

PING_S: Final = 15.0
TIMEOUT_S: Final = 10.0
STREAMS: Final = ("best_bid_offer", "book_depth", "trade")


class RecordingStopped(Exception):
    """The exchange ended the stream before the time was over. What came before is in the file."""


async def record(
    writer: RecordingWriter, *, gateway: str, subscribe: str, products: Sequence[int], seconds: float
) -> None:
    """Record for so many seconds. Raises RecordingStopped, aiohttp.ClientError, TimeoutError."""
    timeout = aiohttp.ClientTimeout(total=None, connect=TIMEOUT_S)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        async with session.ws_connect(subscribe, compress=15) as ws:
            for number, (kind, product_id) in enumerate((k, p) for p in products for k in STREAMS):
                stream = {"type": kind, "product_id": product_id}
                text = json.dumps({"method": "subscribe", "id": number, "stream": stream})
                writer.write("out", "subscribe", text)
                await ws.send_str(text)
            pinger = asyncio.create_task(_ping(ws))
            reader = asyncio.create_task(_read(ws, writer))
            snapshots = asyncio.create_task(_snapshots(session, writer, gateway, products))
            try:
                await asyncio.wait({reader, snapshots}, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
                if reader.done():
                    reader.result()
                await snapshots
            finally:
                for task in (pinger, reader, snapshots):
                    task.cancel()
                await asyncio.gather(pinger, reader, snapshots, return_exceptions=True)


async def _read(ws: aiohttp.ClientWebSocketResponse, writer: RecordingWriter) -> NoReturn:
    """Write what comes until nothing comes any more. Raises RecordingStopped."""
    async for message in ws:
        if message.type is aiohttp.WSMsgType.ERROR:
            raise RecordingStopped(f"the exchange sent a frame that cannot be read ({message.data})")
        writer.write("in", "subscribe", message.data)
    raise RecordingStopped(f"the exchange closed the stream ({ws.close_code})")


async def _snapshots(
    session: aiohttp.ClientSession, writer: RecordingWriter, gateway: str, products: Sequence[int]
) -> None:
    """The first book of each product, taken while the stream is already being written."""
    for product_id in products:
        query = {"type": "market_liquidity", "product_id": product_id, "depth": 100}
        writer.write("out", "gateway", json.dumps(query))
        async with asyncio.timeout(TIMEOUT_S), session.post(f"{gateway}/query", json=query) as response:
            writer.write("in", "gateway", await response.text())


async def _ping(ws: aiohttp.ClientWebSocketResponse) -> None:
    while True:
        await asyncio.sleep(PING_S)
        await ws.ping()


def _ids(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="nadosim.record", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("file", help="recording to write; must not exist")
    parser.add_argument("--gateway", required=True, help="base url of queries, up to /v1")
    parser.add_argument("--subscribe", required=True, help="url of the streams")
    parser.add_argument("--products", type=_ids, default=[4, 8], help="product ids, by comma (4,8)")
    parser.add_argument("--seconds", type=float, default=60.0)
    options = parser.parse_args(argv)
    products: list[int] = options.products
    try:
        with RecordingWriter(options.file, note=f"products {','.join(map(str, products))}") as writer:
            where = {"gateway": options.gateway, "subscribe": options.subscribe}
            asyncio.run(record(writer, **where, products=products, seconds=options.seconds))
    except (OSError, aiohttp.ClientError, RecordingStopped, TimeoutError) as error:
        print(f"nadosim.record: {error or type(error).__name__}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
