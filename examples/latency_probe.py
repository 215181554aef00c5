"""How old is market data when a handler sees it, and how long does the exchange take to answer?

python examples/latency_probe.py testnet 4 30       # network, product, seconds
python -m nadosim --seed 1 | python examples/latency_probe.py - 4 10

Exchange event → handler needs the offset of the two clocks; its uncertainty is printed with the figure.
"""

import asyncio
import json
import sys
import time

import uvloop

import nadofast
from nadofast import Feed, NadoPerformanceMonitor, Rest, TimeSync


async def main(name: str, product_id: int, seconds: float) -> None:
    network = nadofast.custom("embedded", json.loads(sys.stdin.readline())) if name == "-" else name
    monitor, clock = NadoPerformanceMonitor(), TimeSync()
    async with Rest(nadofast.resolve(network)) as rest:
        await rest.sync_time(clock, samples=8)
        async with Feed(network, products=[product_id], streams=["best_bid_offer"], timesync=clock) as feed:
            await feed.wait_synced(30)

            def seen(bbo: nadofast.Bbo) -> None:
                age_ms = time.time() * 1e3 + clock.offset_ms - bbo.timestamp_ns / 1e6
                monitor.record_event("event_to_handler", max(0.0, age_ms))

            feed.on("best_bid_offer", seen)
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                began = time.monotonic()
                await rest.server_time_ms()
                monitor.record_event("rest_round_trip", (time.monotonic() - began) * 1e3)
                await asyncio.sleep(0.25)
    print(f"{monitor.get_rps():.0f} events/s, clock ± {clock.uncertainty_ms:.2f} ms")
    for kind in ("event_to_handler", "rest_round_trip"):
        figures = monitor.get_latency_percentiles(kind)
        print(f"{kind:17}", "  ".join(f"{name} {value:.3f} ms" for name, value in figures.items()))


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))
