"""Every table of the README's performance section, with peers: `make bench-tables`.

    tables.py [--rounds N] [--only book|inflate|wire|tls|latency] [--no-priority] [--keep]

Contenders run one after another, again and again, and medians are shown: what disturbs the machine disturbs
all of them. Each result is compared with the stream's own book before it counts. Results go to
bench/results/ (JSON, Markdown, and the latency plot); the peers' interpreter is .venv-peers. --keep puts the
tables of a whole run into docs/performance.md, and the plot beside it.
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import statistics
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import floor  # noqa: E402
import keeper  # noqa: E402
import wire  # noqa: E402
from figures import percentile  # noqa: E402
from streams import Stream, bbo_messages, compact, depth_messages, live_messages  # noqa: E402

from nadofast._inflate import Inflater  # noqa: E402
from nadosim.certificate import server_context  # noqa: E402

RESULTS = HERE / "results"
PRIORITY = 10
PAGE = HERE.parent / "docs" / "performance.md"
BEGIN, END = "<!-- tables: make bench-tables -->", "<!-- end of tables -->"
RATES = {1_000: 500, 10_000: 5_000, 50_000: 30_000}  # messages a second: messages; a run stays below 0.9 s


_said: list[str] = []


def say(text: str) -> None:
    """Print, and keep for the page."""
    print(text, flush=True)
    _said.append(text)


def table(title: str, head: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    """Say as Markdown."""
    names = list(head)
    say(f"\n{title}\n")
    say("| " + " | ".join(names) + " |")
    say("|" + "---|" * len(names))
    for row in rows:
        say("| " + " | ".join(str(cell) for cell in row) + " |")


def rotate(names: list[str], turn: int) -> list[str]:
    """Another order each round, so that nobody always follows the same one."""
    shift = turn % len(names)
    return names[shift:] + names[:shift]


# --- parse, apply, read the top -----------------------------------------------------------------------------


def shapes() -> dict[str, Path]:
    """Stream files by name."""
    found: dict[str, tuple[Any, list[bytes]]] = {"BBO": (Stream().snapshot(), bbo_messages(6_000))}
    for changes in (1, 10, 40):
        for levels, anywhere in ((200, False), (50, True), (200, True), (1000, True)):
            count = 6_000 if changes < 40 else 2_000
            _, messages, snapshot = depth_messages(count, changes=changes, levels=levels, anywhere=anywhere)
            where = "anywhere" if anywhere else "near the top"
            found[f"depth {changes}, {where}, {levels} levels"] = (snapshot, messages)
    stream = Stream()
    snapshot = stream.snapshot()
    found["mix"] = (snapshot, live_messages(6_000, stream))
    floor.BUILD.mkdir(parents=True, exist_ok=True)
    return {
        name: floor.write(floor.BUILD / f"shape-{index}.txt", *stream)
        for index, (name, stream) in enumerate(found.items())
    }


KEEPERS = {
    "nadofast": wire.OURS,
    "orjson": wire.PEERS,
    "msgspec": wire.PEERS,
    "sortedcontainers": wire.PEERS,
    "sdk": wire.OURS,
}


def expected(path: Path) -> str:
    """Digest of the plain-Python book."""
    snapshot, messages = keeper.read(path)
    receive, state = keeper.orjson(snapshot)
    for message in messages:
        receive(message)
    return keeper.digest(state())


def book_table(rounds: int, results: dict[str, Any]) -> None:
    files = shapes()
    answers = {name: expected(path) for name, path in files.items()}
    program = floor.build()
    ns: dict[str, dict[str, list[float]]] = {name: {} for name in files}
    columns = [*KEEPERS, *(f"floor-{kind}" for kind in floor.KINDS)]
    for turn in range(rounds):
        for column in rotate(columns, turn):
            if column in KEEPERS:
                command = [str(KEEPERS[column]), str(HERE / "keeper.py"), column, *map(str, files.values())]
                done = subprocess.run(
                    command, cwd=HERE.parent, capture_output=True, text=True, check=True, timeout=300
                )
                for (name, answer), line in zip(answers.items(), done.stdout.splitlines(), strict=True):
                    row = json.loads(line)
                    assert row["digest"] == answer, f"{column}: wrong book for {name}"
                    ns[name].setdefault(column, []).append(row["ns"])
            else:
                for name, path in files.items():
                    took, state = floor.run(program, column.removeprefix("floor-"), path)
                    assert keeper.digest(state[:3]) == answers[name], f"{column}: wrong book for {name}"
                    ns[name].setdefault(column, []).append(took)
    medians = {name: {c: statistics.median(v) for c, v in by.items()} for name, by in ns.items()}
    results["book_ns"] = medians
    rows = []
    for name, by in medians.items():
        least = min(by["floor-array"], by["floor-ladder"])
        ours = by["nadofast"]
        peers = [f"{by[peer]:,.0f} ({by[peer] / ours:.1f}×)" for peer in KEEPERS if peer != "nadofast"]
        rows.append([name, f"{least:,.0f}", f"{ours:,.0f} ({ours / least:.1f}×)", *peers])
    table(
        "CPU ns per message: parse, apply, read the top; one Python call per message",
        (
            "",
            "C floor",
            "nadofast (× floor)",
            *(f"{HEADS[p]} (× nadofast)" for p in KEEPERS if p != "nadofast"),
        ),
        rows,
    )


HEADS = {
    "orjson": "orjson + sorted list",
    "msgspec": "msgspec typed + sorted list",
    "sortedcontainers": "orjson + sortedcontainers",
    "sdk": "json + sorted list (official SDK)",
}


# --- inflate ------------------------------------------------------------------------------------------------


def inflate_table(rounds: int, results: dict[str, Any]) -> None:
    def alone(kind: str) -> list[bytes]:
        stream = Stream()
        now = stream.time_ns
        found = []
        for _ in range(5_000):
            now += stream.rng.randrange(1, 2_000_000)
            stream.touch()
            found.append(compact(stream.bbo(now) if kind == "BBO" else stream.depth(now)))
        return found

    streams = {"BBO": alone("BBO"), "depth 10": alone("depth"), "mix": live_messages(5_000, Stream())}

    def python_zlib() -> Callable[[bytes], bytes]:
        inflate = zlib.decompressobj(-15).decompress
        return lambda data: inflate(data + wire.TAIL)

    ways: dict[str, Callable[[], Callable[[bytes], bytes]]] = {
        "Python's zlib object": python_zlib,
        "nadofast, zlib's C functions": lambda: Inflater(own=False).inflate,
        "nadofast, its own decoder": lambda: Inflater(own=True).inflate,
    }
    ns: dict[str, dict[str, list[float]]] = {way: {name: [] for name in streams} for way in ways}
    sizes = {}
    for name, messages in streams.items():
        deflate = zlib.compressobj(wbits=-15)
        data = [(deflate.compress(m) + deflate.flush(zlib.Z_SYNC_FLUSH))[:-4] for m in messages]
        sizes[name] = (
            f"{name} ({statistics.mean(map(len, messages)):.0f} B,"
            f" {statistics.mean(map(len, data)):.0f} on the wire)"
        )
        for turn in range(rounds):
            for way in rotate(list(ways), turn):
                inflate = ways[way]()
                start = time.thread_time_ns()
                found = [inflate(piece) for piece in data]
                ns[way][name].append((time.thread_time_ns() - start) / len(data))
                assert found == messages
    medians = {way: {name: statistics.median(v) for name, v in by.items()} for way, by in ns.items()}
    results["inflate_ns"] = medians
    rows = [[way, *(f"{by[name]:,.0f}" for name in streams)] for way, by in medians.items()]
    table(
        "CPU ns per message: inflate alone, context takeover, called from Python"
        f" (zlib {zlib.ZLIB_RUNTIME_VERSION})",
        ("", *sizes.values()),
        rows,
    )


# --- the whole way ------------------------------------------------------------------------------------------


def wire_table(rounds: int, results: dict[str, Any], *, is_tls: bool) -> None:
    wire.build()
    context = server_context(None, None, "127.0.0.1")[0] if is_tls else None
    prepared = wire.prepare(60_000)
    contenders = [
        wire.FLOOR,
        wire.FLOOR_ARRAY,
        wire.ZLIB_SILENT,
        wire.ZLIB_CALLBACK,
        wire.FLOOR_OWN,
        wire.SILENT,
        wire.CALLBACK,
        wire.PICOWS,
        wire.AIOHTTP,
        wire.WEBSOCKETS,
        wire.SDK,
    ]
    if is_tls:
        contenders.remove(wire.SDK)  # its client offers no way to trust a certificate of ours
    by_label = {contender.label: contender for contender in contenders}
    ns: dict[str, list[float]] = {label: [] for label in by_label}
    versions = {}
    for turn in range(rounds):
        for label in rotate(list(by_label), turn):
            outcome = wire.run(by_label[label], prepared, context=context)
            ns[label].append(outcome.cpu_ns)
            versions[label] = outcome.versions
    medians = {label: statistics.median(v) for label, v in ns.items()}
    results["tls_cpu_ns" if is_tls else "wire_cpu_ns"] = medians
    least = min(medians[wire.FLOOR.label], medians[wire.FLOOR_ARRAY.label])
    own = medians[wire.FLOOR_OWN.label]
    ours = medians[wire.CALLBACK.label]
    table(
        f"CPU ns per message, socket → inflate → parse → book and fills, one core{', TLS' if is_tls else ''}",
        ("", "ns", "× C, zlib", "× C, own inflate", "× nadofast with callback", "versions"),
        [
            [
                label,
                f"{value:,.0f}",
                f"{value / least:.2f}",
                f"{value / own:.2f}",
                f"{value / ours:.2f}",
                versions[label],
            ]
            for label, value in medians.items()
        ],
    )


def latency_table(rounds: int, results: dict[str, Any], priority: int) -> None:
    wire.build()
    pairs = ((wire.FLOOR_OWN, wire.CALLBACK), (wire.BUSY_FLOOR, wire.AWAKE))
    rows, kept = [], {}
    for rate, count in RATES.items():
        prepared = wire.prepare(count)
        runs: dict[str, list[list[int]]] = {c.label: [] for pair in pairs for c in pair}
        for _ in range(rounds):
            for contender in (contender for pair in pairs for contender in pair):
                outcome = wire.run(contender, prepared, rate=rate, priority=priority)
                runs[contender.label].append(sorted(outcome.delays))
        figures = {
            label: (
                statistics.median(percentile(delays, 50) for delays in each),
                min(percentile(delays, 99) for delays in each),
            )
            for label, each in runs.items()
        }
        for reference, ours in pairs:
            for contender in (reference, ours):
                p50, p99 = figures[contender.label]
                base50, base99 = figures[reference.label]
                rows.append(
                    [
                        f"{rate:,}/s",
                        contender.label,
                        f"{p50 / 1000:.1f}",
                        f"{p50 / base50:.2f}",
                        f"{p99 / 1000:.1f}",
                        f"{p99 / base99:.2f}",
                    ]
                )
        kept[str(rate)] = {label: sorted(d for run in each for d in run) for label, each in runs.items()}
        results.setdefault("latency_ns", {})[str(rate)] = {
            label: {"p50": p50, "p99_best": p99} for label, (p50, p99) in figures.items()
        }
    how = f"both ends at real-time priority {priority}" if priority else "usual priority"
    table(
        f"µs from send to callback ({how}; p50: median of runs, p99: best of {rounds} runs)",
        ("rate", "", "p50", "× C", "p99", "× C"),
        rows,
    )
    samples = RESULTS / "latency.json"
    samples.write_text(json.dumps(kept))
    plot = RESULTS / "latency.svg"
    subprocess.run([wire.PEERS, HERE / "plot.py", samples, plot], check=True, timeout=120)
    say("\n![histograms of the latencies](latency.svg)")


def goals_table(results: dict[str, Any]) -> None:
    """The figures with a goal, out of the tables above."""
    rows: list[tuple[str, float, float, bool]] = []  # measured, goal, whether more is better
    for name in ("depth 10, near the top, 200 levels", "depth 40, near the top, 200 levels"):
        by = results.get("book_ns", {}).get(name)
        if by:
            rows.append((f"{name}: orjson + sorted list ÷ ours", by["orjson"] / by["nadofast"], 15, True))
            rows.append((f"{name}: msgspec + sorted list ÷ ours", by["msgspec"] / by["nadofast"], 12, True))
    if "wire_cpu_ns" in results:
        ns = results["wire_cpu_ns"]
        ours = ns[wire.CALLBACK.label]
        rows += [
            ("whole way: picows.websockets + orjson ÷ ours", ns[wire.PICOWS.label] / ours, 4, True),
            ("whole way: websockets + orjson ÷ ours", ns[wire.WEBSOCKETS.label] / ours, 8, True),
            (
                "whole way: ours ÷ C, both zlib",
                ns[wire.ZLIB_CALLBACK.label] / ns[wire.FLOOR.label],
                1.2,
                False,
            ),
            ("whole way: ours ÷ C, both our inflate", ours / ns[wire.FLOOR_OWN.label], 1.3, False),
        ]
    for rate, goal in (("1000", 1.7), ("10000", 1.4), ("50000", 1.4)):
        by = results.get("latency_ns", {}).get(rate)
        if by:
            asleep = by[wire.CALLBACK.label]["p50"] / by[wire.FLOOR_OWN.label]["p50"]
            awake = by[wire.AWAKE.label]["p50"] / by[wire.BUSY_FLOOR.label]["p50"]
            rows.append((f"latency p50 at {int(rate):,}/s: ours ÷ C", asleep, 1.3, False))
            rows.append((f"latency p50 at {int(rate):,}/s, kept awake: ours ÷ C busy", awake, goal, False))
    table(
        "Goals",
        ("figure", "measured", "goal", ""),
        [
            [
                figure,
                f"{measured:.2f}",
                f"{'≥' if is_more else '≤'} {goal:g}",
                "met" if (measured >= goal if is_more else measured <= goal) else "missed",
            ]
            for figure, measured, goal, is_more in rows
        ],
    )


def keep() -> None:
    """What was said into the page, between its marks, and the plot beside it."""
    before, rest = PAGE.read_text().split(BEGIN)
    after = rest.split(END)[1]
    text = "\n".join(line for line in _said)
    PAGE.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}")
    shutil.copy(RESULTS / "latency.svg", PAGE.with_name("latency.svg"))


def machine() -> str:
    model = next(
        (
            line.split(":")[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.machine(),
    )
    cores = len(
        [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("processor")]
    )
    gcc = subprocess.run(
        ["gcc", "-dumpfullversion"], capture_output=True, text=True, check=True
    ).stdout.strip()
    return (
        f"{model}, {cores} cores, Linux {platform.release()}, Python {platform.python_version()}, gcc {gcc}"
    )


def versions() -> str:
    code = (
        "import importlib.metadata as m, sys; print(*(f'{n} {m.version(n)}' for n in sys.argv[1:]), sep=', ')"
    )
    found = []
    for python, names in (
        (wire.OURS, ("nadofast", "picows", "uvloop", "nado-protocol")),
        (wire.PEERS, ("orjson", "msgspec", "sortedcontainers", "websockets", "aiohttp", "picows")),
    ):
        done = subprocess.run([python, "-c", code, *names], capture_output=True, text=True, check=True)
        found.append(done.stdout.strip())
    return "; peers: ".join(found)


PARTS = ("book", "inflate", "wire", "tls", "latency")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", choices=PARTS, action="append")
    parser.add_argument("--no-priority", action="store_true", help="leave the scheduler alone while timing")
    parser.add_argument("--keep", action="store_true", help="put the tables into docs/performance.md")
    options = parser.parse_args()
    wanted = options.only or PARTS
    if options.keep and options.only:
        parser.error("--keep is for a whole run")
    RESULTS.mkdir(exist_ok=True)
    results: dict[str, Any] = {"machine": machine(), "versions": versions(), "rounds": options.rounds}
    say(f"{results['machine']}\\")
    say(f"{results['versions']}\\")
    say(f"medians of {options.rounds} interleaved rounds, seeded streams, every book checked")
    if "book" in wanted:
        book_table(options.rounds, results)
    if "inflate" in wanted:
        inflate_table(options.rounds, results)
    if "wire" in wanted:
        wire_table(options.rounds, results, is_tls=False)
    if "tls" in wanted:
        wire_table(options.rounds, results, is_tls=True)
    if "latency" in wanted:
        is_allowed = not options.no_priority and wire.may_take_priority(PRIORITY)
        latency_table(options.rounds, results, PRIORITY if is_allowed else 0)
    goals_table(results)
    (RESULTS / "tables.json").write_text(json.dumps(results, indent=2) + "\n")
    (RESULTS / "tables.md").write_text("\n".join(_said) + "\n")
    if options.keep:
        keep()


if __name__ == "__main__":
    main()
