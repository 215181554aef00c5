"""A sender that is killed with SIGKILL again and again: the exchange, the journal and the records agree.

Five kills here at the same time (about 10 s), fifty by `make long SUITE=kill_campaign SEEDS=0:5`.
"""

from __future__ import annotations

import json
import os
import random
import select
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from chaosrecord import note
from simproc import ROOT, SimProcess

from bot.journal import read

SENDERS = 5
DEADLINE_S = 40.0
STORM = {
    "lose_reply": {"probability": 0.15},
    "out_of_order": {"probability": 0.3, "ms": 100},
    "duplicate": {"probability": 0.1, "scope": "subscribe", "kind": "fill"},
    "rate_error": {"probability": 0.05, "scope": "gateway", "kind": "place_order"},
}


def post(sim: SimProcess, request: dict[str, Any]) -> None:
    body = json.dumps(request).encode()
    headers = {"Content-Type": "application/json"}
    urllib.request.urlopen(
        urllib.request.Request(sim.ready["control"] + "/faults", body, headers), timeout=5
    ).close()


def state(sim: SimProcess) -> dict[str, Any]:
    with urllib.request.urlopen(sim.ready["control"] + "/state", timeout=5) as response:
        loaded: dict[str, Any] = json.load(response)
        return loaded


class Sender:
    """One process after another of one account, all with the same journal."""

    def __init__(self, directory: Path, account: int) -> None:
        self.account, self.journal = account, directory / f"journal-{account}"
        self._ready, self._log = directory / "ready.json", directory / f"stderr-{account}"
        self._process: subprocess.Popen[str] | None = None

    def start(self, *numbers: int) -> None:
        path = {**os.environ, "PYTHONPATH": str(ROOT)}
        script = Path(__file__).with_name("sender.py")
        words = [str(self._ready), str(self.account), str(self.journal), *map(str, numbers)]
        with self._log.open("a") as log:
            self._process = subprocess.Popen(
                [sys.executable, str(script), *words], cwd=ROOT, env=path, text=True,
                stdout=subprocess.PIPE, stderr=log,
            )  # fmt: skip

    def wait_for(self, word: str) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        readable = select.select([self._process.stdout], [], [], DEADLINE_S)[0]
        line = self._process.stdout.readline().strip() if readable else "nothing in time"
        assert line == word, self.said()

    def said(self) -> str:
        """The end of what its processes wrote on stderr."""
        return self._log.read_text()[-2_000:]

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()


def campaign(seed: int, directory: Path, kills: int) -> None:
    """SENDERS accounts, each killed `kills` times, then left to end what it finds."""
    rng = random.Random(seed)
    switches = {"dead_digest": rng.choice(("reject", "fill_remainder"))}
    with SimProcess(seed=seed, accounts=SENDERS, rate=40) as sim:
        (directory / "ready.json").write_text(json.dumps(sim.ready))
        senders = [Sender(directory, account) for account in range(SENDERS)]
        try:
            post(sim, STORM | switches)
            for _ in range(kills):
                for sender in senders:
                    sender.start(rng.randrange(10**6), 40)
                for sender in senders:
                    sender.wait_for("recovered")
                if rng.random() < 0.4:
                    post(sim, {"cut": {"scope": "gateway", "how": rng.choice(("fin", "rst"))}})
                for sender in senders:
                    time.sleep(rng.uniform(0.02, 0.3))  # a kill has no condition to wait for
                    sender.kill()
            post(sim, {"clear": "all"})
            for sender in senders:
                sender.start(1, 5)
            for sender in senders:
                sender.wait_for("recovered")
                sender.wait_for("done")
        finally:
            for sender in senders:
                sender.kill()
        truth = state(sim)
        for sender in senders:
            failure, facts = "", 0
            try:
                facts = compare(truth, sim.ready["accounts"][sender.account]["subaccount"], sender.journal)
            except AssertionError as error:
                failure = f"seed {seed}: {error}"
                print(failure, sender.said(), sep="\n")
                raise
            finally:
                note("kills", ["kill -9", *STORM], f"{kills} kills", facts=facts, failure=failure)


def compare(truth: dict[str, Any], subaccount: str, path: Path) -> int:
    """Journal against the exchange's record; how many orders were compared."""
    found = read(path)
    fills: dict[str, list[int]] = {}
    for fill in truth["fills"]:
        if fill["subaccount"] == subaccount:
            fills.setdefault(fill["digest"], []).append(abs(int(fill["base"])))
    mine = [e for e in truth["executes"] if e["error_code"] is None and e["sender"] == subaccount]
    taken = {digest for execute in mine for digest in execute["digests"]}
    assert taken
    assert taken <= found.intents.keys(), "an order nobody wrote down"
    assert fills.keys() <= found.intents.keys()
    intents = [fields["client_id"] for fields in found.intents.values()]
    assert len(intents) == len(set(intents)), "an intent was signed twice"
    for digest in found.intents:
        assert digest in found.ends, f"no end of {digest}"
        assert int(found.ends[digest]["filled_x18"]) == sum(fills.get(digest, ()))
    return len(found.intents)


def test_five_kills(tmp_path: Path) -> None:
    campaign(0, tmp_path, kills=1)


def test_a_resting_order_dies_by_itself_after_a_kill(tmp_path: Path) -> None:
    with SimProcess(seed=3, rate=40) as sim:
        (tmp_path / "ready.json").write_text(json.dumps(sim.ready))
        sender = Sender(tmp_path, 0)
        try:
            sender.start(1, 0, 3)
            sender.wait_for("recovered")
            sender.wait_for("resting")
            sender.kill()
            (order,) = state(sim)["orders"]
            assert order["end"] is None
            deadline = time.monotonic() + 6
            while (order := state(sim)["orders"][0])["end"] is None:
                assert time.monotonic() < deadline, order
                time.sleep(0.05)
            assert order["end"] == "expired"
            sender.start(1, 0)
            sender.wait_for("recovered")
            sender.wait_for("done")
            end = read(sender.journal).ends[order["digest"]]
            assert int(end["filled_x18"]) == 0
        finally:
            sender.kill()


@pytest.mark.long
def test_kill_campaign(tmp_path: Path, seeds: range) -> None:
    for seed in seeds:
        (directory := tmp_path / str(seed)).mkdir()
        campaign(seed, directory, kills=2)
        print(f"seed {seed}: {2 * SENDERS} kills, everything agrees")
