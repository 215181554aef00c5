"""A sender that is killed with SIGKILL again and again: the exchange, the journal and the records agree.

Five kills here (about 25 s), fifty by `make long SUITE=kill_campaign SEEDS=0:10`.
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
from typing import Any, TextIO

import pytest
from simproc import ROOT, SimProcess

from bot.journal import read

KILLS = 5
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


def start(arguments: list[str]) -> subprocess.Popen[str]:
    with Path(arguments[1]).with_name("stderr").open("a") as log:
        return _popen(arguments, log)


def _popen(arguments: list[str], log: TextIO) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("sender.py")), *arguments],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def wait_for(process: subprocess.Popen[str], word: str) -> None:
    assert process.stdout is not None
    readable = select.select([process.stdout], [], [], DEADLINE_S)[0]
    line = process.stdout.readline().strip() if readable else "nothing in time"
    if line != word:
        raise AssertionError(f"expected {word!r}, got {line!r}")


def campaign(seed: int, directory: Path) -> None:
    rng = random.Random(seed)
    with SimProcess(seed=seed) as sim:
        ready, journal = directory / "ready.json", directory / "journal"
        ready.write_text(json.dumps(sim.ready))
        post(sim, STORM)
        for kill in range(KILLS):
            process = start([str(ready), str(journal), str(rng.randrange(10**6)), "40"])
            try:
                wait_for(process, "recovered")
                if rng.random() < 0.4:
                    post(sim, {"cut": {"scope": "gateway", "how": rng.choice(("fin", "rst"))}})
                time.sleep(rng.uniform(0.02, 0.6))  # a kill has no condition to wait for
            finally:
                process.kill()
                process.communicate()
            print(f"seed {seed} kill {kill}: {len(read(journal).intents)} intents")
        post(sim, {"clear": "all"})
        last = start([str(ready), str(journal), "1", "5"])
        try:
            wait_for(last, "recovered")
            wait_for(last, "done")
            last.wait(10)
        finally:
            last.kill()
            last.communicate()
        compare(state(sim), journal)


def compare(truth: dict[str, Any], path: Path) -> None:
    found = read(path)
    fills: dict[str, list[int]] = {}
    for fill in truth["fills"]:
        fills.setdefault(fill["digest"], []).append(abs(int(fill["base"])))
    taken = {d for e in truth["executes"] if e["error_code"] is None for d in e["digests"]}
    assert taken
    assert taken <= found.intents.keys(), "an order nobody wrote down"
    assert fills.keys() <= found.intents.keys()
    intents = [fields["client_id"] for fields in found.intents.values()]
    assert len(intents) == len(set(intents)), "an intent was signed twice"
    for digest in found.intents:
        assert digest in found.ends, f"no end of {digest}"
        assert int(found.ends[digest]["filled_x18"]) == sum(fills.get(digest, ()))


def test_five_kills(tmp_path: Path) -> None:
    campaign(0, tmp_path)


@pytest.mark.long
def test_kill_campaign(tmp_path: Path, seeds: range) -> None:
    for seed in seeds:
        (directory := tmp_path / str(seed)).mkdir()
        campaign(seed, directory)
