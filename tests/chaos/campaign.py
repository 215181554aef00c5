"""The long suites of streams, orders and pair, one after another, and the matrix of what they went through.

make chaos SEEDS=0:200        # about ten minutes
python tests/chaos/campaign.py --seeds 0:200 --only pair --record runs/chaos.jsonl
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

if __package__ in (None, ""):  # run as a script
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.chaos import matrix

ROOT = Path(__file__).resolve().parents[2]
# Subject → the campaign, and how many of its seeds go with one seed asked for: they cost differently.
SUITES = {
    "streams": ("tests/client/test_stream_faults.py::test_stream_faults_long", 1.0),
    "orders": ("tests/orders/test_exactly_once.py::test_exactly_once_campaign", 5.0),
    "orders over sockets": (
        "tests/client/test_orders_over_sockets.py::test_orders_over_sockets_campaign",
        0.05,
    ),
    "kills": ("tests/orders/test_kill_and_restart.py::test_kill_campaign", 0.02),
    "pair": ("tests/bot/test_pair_in_virtual_time.py::test_campaign_in_virtual_time", 1.0),
}


def play(subject: str, seeds: range, record: Path) -> int:
    """One campaign; its exit code. What it prints goes to the terminal."""
    test, share = SUITES[subject]
    first, end = (round(bound * share) for bound in (seeds.start, seeds.stop))
    end = max(end, first + 1)
    print(f"== {subject}: seeds {first} to {end - 1}", flush=True)
    return subprocess.run(
        [
            sys.executable, "-m", "pytest", "-q", "-n", "0", "-m", "long", "-s", "-p", "no:cacheprovider",
            "-o", "faulthandler_timeout=3600", test,
        ],
        cwd=ROOT,
        env=os.environ | {"NADOFAST_SEEDS": f"{first}:{end}", "NADOFAST_CHAOS": str(record.resolve())},
        check=False,
    ).returncode  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seeds", default="0:200", help="first:end")
    parser.add_argument("--only", nargs="*", choices=[*SUITES], default=[*SUITES])
    parser.add_argument("--record", type=Path, default=ROOT / "runs" / "chaos.jsonl")
    given = parser.parse_args()
    first, _, end = given.seeds.partition(":")
    given.record.parent.mkdir(parents=True, exist_ok=True)
    given.record.unlink(missing_ok=True)
    codes, began_s = {}, time.monotonic()
    for subject in given.only:
        codes[subject] = play(subject, range(int(first), int(end)), given.record)
    code = matrix.main(given.record, given.only)
    bad = [subject for subject, value in codes.items() if value]
    print(f"took {time.monotonic() - began_s:.0f} s; suites that failed: {', '.join(bad) or 'none'}")
    return int(bool(code or bad))


if __name__ == "__main__":
    sys.exit(main())
