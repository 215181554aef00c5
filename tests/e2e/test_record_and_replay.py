"""A run with faults, recorded: run again it decides the same and writes the same journal, without the key."""

from __future__ import annotations

import json
import os
import random
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from botproc import ROOT, BotProcess, fault
from pyarrow import parquet

import nadofast
from bot.cli import main
from bot.htmlreport import totals
from bot.machine import decide
from bot.model import PairInputs, PairState, Plan
from bot.recordfile import RecordingReader
from bot.replay import Replay, Replayed
from bot.steps import Step
from bot.tradefile import read as read_trades
from bot.variants import Variant
from bot.variants import recorded as recorded_outcome
from bot.whatif import run_variant
from nadofast.products import from_x18
from nadofast.tape import Kind

OWN_KEY = "0x" + "5e9f" * 16
LONG_S = 600.0


def replayed(path: Path, journal: Path) -> tuple[Replayed, str]:
    replay, reader = Replay(journal), RecordingReader(path)
    for record in reader:
        replay.take(record)
    replay.close()
    return replay.result, reader.damage


Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    """A command of the bot: exit code, what it printed, what it complained of."""

    def run(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main([str(one) for one in arguments])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    """A recording of four cycles in bad weather, and the journal of the run."""
    tmp_path = tmp_path_factory.mktemp("recorded")
    journal, directory = tmp_path / "orders.log", tmp_path / "rec"
    with BotProcess(
        tmp_path, "--cycles", "4", "--seed", "9", "--record", str(directory), key=OWN_KEY,
        output__journal=journal, exit__maker_timeout_s=1,
    ) as bot:  # fmt: skip
        control = bot.control
        bot.wait_for("entry  SOL-PERP")
        fault(control, drop_depth={"product_id": 4, "count": 1})
        bot.wait_for("exit-rest  SOL-PERP")
        fault(control, cut="all")
        bot.wait_for("cycle 1 ")
        fault(control, lose_reply=1)
        bot.wait_for("cycle 2 ")
        bot.wait_for("exit-rest  ETH-PERP", after=len(bot.lines))
        fault(control, mute=1.5)
        assert bot.finish(timeout_s=90) == 0, bot.output + bot.stderr
    (path,) = directory.glob("*.0001.tape")
    return path, journal.read_bytes()


def test_twice_the_same_to_the_last_byte(recorded: tuple[Path, bytes], tmp_path: Path) -> None:
    path, journal = recorded
    first, damage = replayed(path, tmp_path / "first.log")
    second, _ = replayed(path, tmp_path / "second.log")
    assert damage == ""
    assert first.first_difference == ""
    assert first.is_identical
    assert first.same["journal lines"] == len(journal.splitlines()) > 8
    assert min(first.same[kind] for kind in ("quotes", "orders", "digests", "events of the stream")) > 5
    assert (tmp_path / "first.log").read_bytes() == (tmp_path / "second.log").read_bytes() == journal
    assert first == second
    assert first.messages > 100


def test_it_holds_neither_key_nor_signature(recorded: tuple[Path, bytes]) -> None:
    path, _ = recorded
    records = list(RecordingReader(path))
    everything = b"\n".join(record.payload for record in records).lower()
    assert OWN_KEY[2:].encode() not in everything + path.read_bytes()
    assert re.search(rb"[0-9a-f]{128}", everything) is None
    sent = [record.message for record in records if record.kind is Kind.SENT]
    assert sum(b"place_order" in message for message in sent) >= 8  # they are there, signed with nothing
    assert all(b'"signature":"0x-"' in message for message in sent if b"place_order" in message)


def test_cut_anywhere_it_replays_up_to_there(recorded: tuple[Path, bytes], tmp_path: Path) -> None:
    path, _ = recorded
    whole = path.read_bytes()
    rng = random.Random(4)
    cuts = sorted(rng.randrange(len(whole)) for _ in range(8))
    decisions = []
    for cut in cuts:
        part = tmp_path / "cut.tape"
        part.write_bytes(whole[:cut])
        found, damage = replayed(part, tmp_path / "cut.log")
        assert damage
        assert found.first_difference == "", cut
        decisions.append(found.same["decisions"])
    assert decisions == sorted(decisions)
    assert decisions[-1] > 0


def test_other_code_is_told_from_the_same(recorded: tuple[Path, bytes], tmp_path: Path) -> None:
    """A strategy that decides otherwise is found out at its first decision, by journal and digest, too."""
    path, _ = recorded

    def dearer(state: PairState, inputs: PairInputs, plan: Plan, now_ns: int) -> Step:
        return decide(state, inputs, replace(plan, entry_cap_bps=19), now_ns)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bot.replay.decide", dearer)
        replay = Replay(tmp_path / "other.log")
        for record in RecordingReader(path):
            replay.take(record)
            if replay.result.different["digests"]:
                break
        replay.close()
    assert replay.result.first_difference.startswith("decisions at ")
    assert not replay.result.is_identical


def test_the_command_says_it(recorded: tuple[Path, bytes], tmp_path: Path, command: Command) -> None:
    path, journal = recorded
    live = tmp_path / "live.log"
    live.write_bytes(journal)
    code, out, error = command("replay", path, "--journal", live, "--speed", "1000")
    assert code == 0, out + error
    assert "verdict    as recorded" in out
    assert "journal    the same as" in out
    live.write_bytes(journal[:-2] + b"!\n")
    code, out, _ = command("replay", path, "--journal", live)
    assert (code, "NOT the same" in out) == (1, True)
    whole = path.read_bytes()
    (tmp_path / "cut.tape").write_bytes(whole[: len(whole) // 2])
    live.write_bytes(journal)
    code, out, _ = command("replay", tmp_path / "cut.tape", "--journal", live)
    assert code == 0, out
    assert re.search(r"ends early cut.tape: (cut at byte|no end)", out)


WEATHER: tuple[dict[str, object], ...] = (
    {"cut": "all"}, {"cut": "subscribe"}, {"lose_reply": 1}, {"lose_reply": 2}, {"mute": 1.0},
    {"drop_depth": {"product_id": 4, "count": 1}}, {"drop_depth": {"product_id": 8, "count": 2}},
)  # fmt: skip


@pytest.mark.long
def test_ten_minutes_in_bad_weather(tmp_path: Path, seeds: range) -> None:
    """In real time, with a fault every few seconds; then twice again, as fast as it goes."""
    seed = seeds[0]
    rng, journal, directory = random.Random(seed), tmp_path / "orders.log", tmp_path / "rec"
    faults = 0
    with BotProcess(
        tmp_path, "--cycles", "100000", "--seed", str(seed), "--record", str(directory), key=OWN_KEY,
        output__journal=journal, exit__maker_timeout_s=1,
    ) as bot:  # fmt: skip
        control, end = bot.control, time.monotonic() + LONG_S
        while time.monotonic() < end and bot.process.poll() is None:
            time.sleep(rng.uniform(3, 9))
            fault(control, **rng.choice(WEATHER))
            faults += 1
        bot.signal(signal.SIGINT)
        code = bot.finish(timeout_s=120)
    assert code == 0, bot.output[-3_000:] + bot.stderr
    (path,) = directory.glob("*.0001.tape")
    size = sum(part.stat().st_size for part in directory.iterdir())
    began, cpu = time.monotonic(), time.process_time()
    first, damage = replayed(path, tmp_path / "first.log")
    took_s, cpu_s = time.monotonic() - began, time.process_time() - cpu
    second, _ = replayed(path, tmp_path / "second.log")
    print(
        f"\nseed {seed}: {first.recorded_ns / 1e9:.0f} s with {faults} faults, {first.messages} market"
        f" messages, {size / 1e6:.1f} MB; {dict(first.same)}\nreplayed in {took_s:.1f} s:"
        f" {first.recorded_ns / 1e9 / took_s:.0f} × real time, {cpu_s:.1f} s of a core"
    )
    assert damage == ""
    assert first.recorded_ns > LONG_S * 1e9
    assert first.first_difference == ""
    assert first.is_identical
    assert first == second
    assert (tmp_path / "first.log").read_bytes() == (tmp_path / "second.log").read_bytes()
    assert (tmp_path / "first.log").read_bytes() == journal.read_bytes()
    assert first.recorded_ns / 1e9 > took_s


# ---------------------------------------------------------------------- what if

FEW = ("--vary", "latency_ms=1,200", "--vary", "maker_timeout_s=0,3")
TWENTY = ("--vary", "latency_ms=1,5,20,60,200", "--vary", "maker_timeout_s=0,0.5,1,3")


# Scheduler and worker are one process, and speak over TCP as two would. It tells the address once both are
# there: a question to a scheduler whose worker is still on its way has a deadline.
CLUSTER = """
import sys
from distributed import LocalCluster
cluster = LocalCluster(
    n_workers=1, threads_per_worker=1, processes=False, protocol="tcp://", host="127.0.0.1",
    dashboard_address=None, worker_dashboard_address=None,
)
print(cluster.scheduler_address, flush=True)
sys.stdin.read()
"""


@contextmanager
def cluster(directory: Path) -> Iterator[str]:
    """A Dask cluster in a process of its own, away from the recording; its address."""
    environ = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
    with subprocess.Popen(
        [sys.executable, "-c", CLUSTER], cwd=directory, env=environ, stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    ) as process:  # fmt: skip
        try:
            assert process.stdout is not None
            assert select.select([process.stdout], [], [], 60)[0], "the cluster did not start"
            yield process.stdout.readline().strip()
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("vary", "count"), [(FEW, 4), pytest.param(TWENTY, 20, marks=pytest.mark.long, id="twenty_variants")]
)
def test_variants_are_the_same_on_both_engines(
    recorded: tuple[Path, bytes], tmp_path: Path, vary: tuple[str, ...], count: int
) -> None:
    path, _ = recorded

    def tried(*arguments: str) -> Any:
        line = [sys.executable, "-m", "bot", "whatif", str(path), *vary, *arguments, "--json"]
        done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    found = tried("--jobs", "2")
    with cluster(tmp_path) as address:
        assert tried("--scheduler", address) == found
    assert len(found["variants"]) == count + 1
    assert found["variants"][0] == asdict(run_variant(path, Variant()))
    assert len({json.dumps(one, sort_keys=True) for one in found["variants"]}) > count // 2  # they do differ
    assert sum(one["complete"] for one in found["variants"]) > count
    crossing = [one for one in found["variants"] if "maker_timeout_s=0" in one["name"].split()]
    assert crossing
    assert all(one["exit_maker_x18"] == 0 for one in crossing)


def test_the_run_itself_is_told_to_the_last_unit(recorded: tuple[Path, bytes]) -> None:
    """Its row comes from the recorded fills, and is what the run's own trades file says."""
    path, _ = recorded
    sums = totals(read_trades([path.parents[1] / "trades.csv"]))
    itself = recorded_outcome(path)
    assert from_x18(itself.net_x18) == sums.net_usd
    assert from_x18(itself.fees_x18) == sums.fees_usd
    assert itself.volume_x18 > 0


def test_the_variants_are_put_side_by_side(recorded: tuple[Path, bytes], command: Command) -> None:
    path, _ = recorded
    code, out, error = command("whatif", path, "--vary", "size_usd=120,150", "--jobs", "1")
    assert code == 0, error
    for part in ("the run itself", "as recorded", "size_usd=120", "conservatively", "3 variants in"):
        assert part in out
    code, _, error = command("whatif", path, "--vary", "sise_usd=1")
    assert (code, "known: size_usd" in error) == (2, True)


def test_the_entry_can_be_made_another_way(recorded: tuple[Path, bytes]) -> None:
    path, _ = recorded
    crossing, resting = (
        run_variant(path, Variant((("entry_mode", mode),))) for mode in ("ioc", "maker_then_ioc")
    )
    assert crossing.complete > 0
    assert resting.complete > 0
    # A leg that rested pays the maker's fee.
    assert resting.fees_x18 * crossing.volume_x18 < crossing.fees_x18 * resting.volume_x18


def test_recorded_market_data_becomes_columns(
    recorded: tuple[Path, bytes], tmp_path: Path, command: Command
) -> None:
    path, _ = recorded
    code, _, error = command("export", path, tmp_path / "columns")
    assert code == 0, error
    rows = parquet.read_table(tmp_path / "columns" / "best_bid_offer.parquet").to_pylist()
    messages = [
        nadofast.parse(record.message)
        for record in RecordingReader(path)
        if record.kind is Kind.RECEIVED and record.message.startswith(b'{"type":"best_bid_offer"')
    ]
    assert len(rows) == len(messages) > 50
    for row, event in zip(rows, messages, strict=True):
        assert (int(row["bid_price_x18"]), int(row["ask_qty_x18"]), row["timestamp_ns"]) == (
            event.bid_price_x18, event.ask_qty_x18, event.timestamp_ns,
        )  # fmt: skip
    assert parquet.read_table(tmp_path / "columns" / "trade.parquet").num_rows > 10
