"""`replay` says "the same" only where all of it was compared, and one line on what it cannot play."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
from machinekit import ETH, SOL, plan

import nadofast
from bot.cli import main
from bot.execution import Depth, LegState
from bot.inputs import InputLog
from bot.journal import ROTATE_NOW, Journal, JournalConfig, _intent_line
from bot.machine import decide
from bot.market import Market
from bot.model import PairState, Phase
from bot.recordfile import RecordingReader
from bot.recording import Recording
from bot.replay import Replay, Replayed, ReplayedFeed
from bot.variants import recorded, records
from nadofast import OrderTracker, Signer
from nadofast.events import FillEvent
from nadofast.network import NETWORKS
from nadofast.products import to_x18
from nadofast.tape import MAGIC, Kind, block, encode
from nadofast.tappedcore import TappedCore

SAMPLES = Path(__file__).resolve().parents[1] / "data" / "samples"
PRICES = {ETH.product_id: 3_000, SOL.product_id: 140}


class Run:
    """A small run by hand: what the bot would tell a recording, from a core of its own."""

    def __init__(self, directory: Path) -> None:
        self.recording = Recording(directory / "rec")
        self.plan = plan()
        self.core = TappedCore(self.recording, list(PRICES))
        for product_id, price in PRICES.items():
            bid, ask = to_x18(price - 1), to_x18(price + 1)
            self.core.load_snapshot(product_id, [(bid, to_x18(9))], [(ask, to_x18(9))], 1)
            self.core.seed_bbo(product_id, bid, ask, now_ns=1)
        self.market = Market(ReplayedFeed(self.core), self.plan.products)  # type: ignore[arg-type]
        self.recording.setup(self.plan, NETWORKS["testnet"])
        self.log = InputLog(self.recording.entry, on_decision=self.recording.decided)
        self.state = PairState()

    def turn(self, *, is_decided: bool = True) -> None:
        """Quotes, levels and a decision, as `DNPairBot` gathers and takes them."""
        for leg, product in enumerate(self.plan.products):
            quote = self.market.quote(product.product_id)
            self.log.quote(leg, quote.bid_x18, quote.ask_x18)
            is_valid = self.market.is_book_valid(product.product_id)
            self.log.depth(leg, self.market.depth(product.product_id) if is_valid else Depth())
        before, inputs = self.state, self.log.turn()
        self.state, actions = decide(before, inputs, self.plan, self.log.now_ns)
        if is_decided:
            self.log.decided(before, self.state, actions)

    def close(self) -> Path:
        self.recording.close()
        return self.recording.path


def replayed(path: Path, journal: Path) -> Replayed:
    replay = Replay(journal)
    try:
        for record in RecordingReader(path):
            replay.take(record)
    finally:
        replay.close()
    return replay.result


def held(phase: Phase) -> PairState:
    legs = (LegState(held_x18=to_x18("0.1")), LegState(held_x18=to_x18(-2)))
    return replace(PairState(phase=phase, cycle=1), legs=legs)


def test_an_exit_without_a_valid_book_replays_as_it_was(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.state = held(Phase.UNWINDING)
    run.turn()
    run.core.begin(ETH.product_id)
    run.turn()
    result = replayed(run.close(), tmp_path / "made.log")
    assert result.first_difference == ""
    assert (result.is_identical, result.same["decisions"]) == (True, 2)


def test_a_decision_that_was_never_recorded_is_no_agreement(tmp_path: Path) -> None:
    """A core that failed while it decided: this one does not fail there, and that is a difference."""
    run = Run(tmp_path)
    run.turn()
    run.turn(is_decided=False)
    run.turn()
    result = replayed(run.close(), tmp_path / "made.log")
    assert not result.is_identical
    assert result.different["decisions"] >= 1


def test_a_line_the_live_journal_never_wrote_is_no_agreement(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.turn()
    journal = run.recording.journal(tmp_path / "live.log", account="0x12", config=JournalConfig())
    journal.close()
    path = run.close()
    records = [record for record in RecordingReader(path) if record.kind is not Kind.LINE]
    replay = Replay(tmp_path / "made.log")
    for record in records:
        replay.take(record)
    replay.close()
    assert replay.result.different["journal lines"] == 1
    assert not replay.result.is_identical
    whole = replayed(path, tmp_path / "made.log")
    assert (whole.is_identical, whole.same["journal lines"]) == (True, 1)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, "events of the stream"),
        ({"timestamp_ns": 1_790_000_000 * 10**9, "id": None}, "events of the archive"),
        ({"price_x18": to_x18("3021.5")}, ""),
        ({"fee_x18": 0}, ""),
    ],
)
def test_a_fill_the_stream_told_otherwise_is_no_agreement(
    tmp_path: Path, change: dict[str, int | None], said: str
) -> None:
    """The archive has whole seconds and no client id. Price, size and fee are the same wherever one asks."""
    run = Run(tmp_path)
    run.turn()
    message = orjson.dumps(json.loads((SAMPLES / "stream_fill.json").read_text())["events"][0])
    event = nadofast.parse(message)
    assert isinstance(event, FillEvent)
    run.recording.received("stream", 5, message)
    run.recording.tracker().on_fill(replace(event, **change))  # type: ignore[arg-type]
    result = replayed(run.close(), tmp_path / "made.log")
    assert result.is_identical == bool(said)
    assert result.same[said] == bool(said)


def test_a_later_file_of_a_recording_is_refused_in_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Run(tmp_path)
    run.turn()
    later = tmp_path / "later.tape"
    later.write_bytes(without(run.close(), Kind.CORE, Kind.SETUP))
    assert main(["replay", str(later)]) == 2
    said = capsys.readouterr().err
    assert "give the first file of the run" in said
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize("kept", [set(), {Kind.CORE, Kind.SETUP, Kind.INPUT}])
def test_where_nothing_was_decided_nothing_is_different(
    tmp_path: Path, kept: set[Kind], capsys: pytest.CaptureFixture[str]
) -> None:
    """Market data alone, or a run that was killed at once."""
    run = Run(tmp_path)
    run.turn()
    file = tmp_path / "early.tape"
    file.write_bytes(without(run.close(), *(kind for kind in Kind if kind not in kept)))
    assert main(["replay", str(file)]) == 1
    assert "verdict    no decision is in it: nothing to compare" in capsys.readouterr().out


def test_a_journal_as_large_as_it_may_be_is_recorded_with_the_run(tmp_path: Path) -> None:
    """It is there before the first order, and may not fill the buffer that every entry needs."""
    run, live, config = Run(tmp_path), tmp_path / "orders.log", JournalConfig()
    Journal(live, account="0x12", config=config).close()
    digests = random.Random(5)
    with live.open("ab") as file:
        while file.tell() < ROTATE_NOW * config.max_bytes:
            order = OrderTracker().restore(
                digest=f"0x{digests.randbytes(32).hex()}", product_id=4, sender="0x" + "cd" * 32, price_x18=1,
                amount_x18=1, expiration_s=1, nonce=1, appendix=1,
            )  # fmt: skip
            file.write(_intent_line(order, 1))
    before = live.read_bytes()
    run.recording.journal(live, account="0x12", config=config).close()
    assert run.recording.failure is None
    run.turn()
    result = replayed(run.close(), tmp_path / "made.log")
    assert result.first_difference == ""
    assert (tmp_path / "made.log").read_bytes() == before


@pytest.mark.parametrize("command", [["replay"], ["whatif", "--jobs", "1"]])
def test_the_plan_of_another_version_is_refused_in_words(
    tmp_path: Path, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    for setup, why in (
        (b'{"chain_id":1,"network":"sim","plan":{"legs":2}}', "products of its plan: field required"),
        (b'{"chain_id":1,"network":"sim"}', "'plan' is missing"),
    ):
        recording = Recording(tmp_path / "rec")
        TappedCore(recording, list(PRICES))
        recording._put(Kind.SETUP, setup)
        recording.close()
        assert main([*command, str(recording.path)]) == 2
        said = capsys.readouterr().err
        assert f"recorded by another version: {why}" in said
        assert len(said) < 400


def test_the_journal_made_here_overwrites_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--out` where `--journal` was meant must not cost the orders a live journal holds."""
    run = Run(tmp_path)
    run.turn()
    live = tmp_path / "orders.log"
    run.recording.journal(live, account="0x12", config=JournalConfig()).close()
    path, before = run.close(), live.read_bytes()
    live.write_bytes(before * 2)
    assert main(["replay", str(path), "--out", str(live)]) == 2
    assert live.read_bytes() == before * 2
    assert "exists already" in capsys.readouterr().err
    assert main(["replay", str(path), "--journal", str(live), "--out", str(tmp_path / "made.log")]) == 1
    assert (tmp_path / "made.log").read_bytes() == before


def without(path: Path, *kinds: Kind) -> bytes:
    """A recording less some kinds of records, as the bytes of one file."""
    kept = [record for record in RecordingReader(path) if record.kind not in kinds]
    return MAGIC + block(encode(record.kind, record.at_ns, record.payload) for record in kept)


@pytest.mark.parametrize("content", [b"a letter to somebody", b"", MAGIC])
def test_a_file_without_market_data_is_no_export(
    tmp_path: Path, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "x.tape"
    file.write_bytes(content)
    assert main(["export", str(file), str(tmp_path / "columns")]) == 2
    assert f"{file}: no market data is in it" in capsys.readouterr().err


def test_an_export_says_which_path_cannot_be_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = Run(tmp_path)
    path, file = run.close(), tmp_path / "file"
    file.write_text("in the way")
    assert main(["export", str(path), str(file)]) == 2
    assert capsys.readouterr().err == f"bot: {file}: File exists\n"
    assert main(["export", str(tmp_path), str(tmp_path / "columns")]) == 2
    assert capsys.readouterr().err == f"bot: {tmp_path}: Is a directory\n"


# ---------------------------------------------------------------------- what if


def test_what_if_says_that_its_recording_ends_early(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Run(tmp_path)
    run.turn()
    whole, cut = run.close(), tmp_path / "cut.tape"
    cut.write_bytes(without(whole, Kind.END))
    command = ["whatif", "--jobs", "1"]
    assert main([*command, str(whole)]) == 0
    assert "ends early" not in capsys.readouterr().out
    assert main([*command, str(cut)]) == 0
    assert "ends early cut.tape: no end" in capsys.readouterr().out
    assert main([*command, "--json", str(cut)]) == 0
    assert "no end" in json.loads(capsys.readouterr().out)["damage"]


def test_a_recording_is_read_to_the_same_place_as_bytes_and_as_files(tmp_path: Path) -> None:
    """What lies behind damage is of another time: the books would be wrong from there on."""
    run = Run(tmp_path)
    run.turn()
    path = run.close()
    first, second = path.with_name("x.0001.tape"), path.with_name("x.0002.tape")
    first.write_bytes(path.read_bytes() + b"no block")
    second.write_bytes(path.read_bytes())
    parts = first.read_bytes(), second.read_bytes()
    assert list(records(parts)) == list(records(first)) == list(records(path))


def fill_of(run: Run, amount_x18: int) -> None:
    """An order of the run is registered and fills, as the tracker is told."""
    signer = Signer("0x" + "3c1d" * 16, chain_id=1, endpoint_address="0x" + "00" * 20)
    tracker, price_x18 = run.recording.tracker(), to_x18(3_000)
    order = signer.sign_order(
        product_id=ETH.product_id, price_x18=price_x18, amount_x18=amount_x18, expiration_s=2**32,
        nonce=1 << 62, appendix=1,
    )  # fmt: skip
    tracker.register(order)
    tracker.on_sent(order.digest, 5)
    size_x18, is_bid = abs(amount_x18), amount_x18 > 0
    tracker.on_fill(
        FillEvent(
            ETH.product_id, 1, signer.subaccount(), order.digest, 1, size_x18, 0, size_x18, price_x18, True,
            is_bid, 0, 9,
        )
    )  # fmt: skip


def test_what_the_run_left_open_is_in_its_own_row(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.turn()
    fill_of(run, to_x18("0.05"))
    itself = recorded(run.close())
    assert (itself.open_x18, itself.exit_x18) == (to_x18(150), 0)


def test_a_pair_the_run_took_over_and_closed_is_closed_in_its_own_row(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.state = replace(PairState(phase=Phase.UNWINDING), legs=(LegState(held_x18=to_x18("0.1")), LegState()))
    run.turn()
    fill_of(run, to_x18("-0.1"))
    itself = recorded(run.close())
    assert (itself.open_x18, itself.exit_x18) == (0, to_x18(300))
