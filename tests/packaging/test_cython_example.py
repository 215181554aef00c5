"""The Cython example compiles against the package in place and computes what plain Python does. About 5 s."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

USE = """
import json
from fractions import Fraction
import nadofast, microprice
X18 = 10**18
book = nadofast.OrderBook(4)
book.load_snapshot([(3000 * X18, X18)], [(3001 * X18, 3 * X18)], 5)
depth = {"type": "book_depth", "last_max_timestamp": "5", "min_timestamp": "6", "max_timestamp": "6",
         "product_id": 4, "bids": [[str(3000 * X18), str(7 * X18)]], "asks": []}
def plain():
    (bid, bid_qty), (ask, ask_qty) = book.best_bid, book.best_ask
    return float(Fraction(bid * ask_qty + ask * bid_qty, (bid_qty + ask_qty) * X18))
assert abs(microprice.microprice(book) - plain()) < 1e-9
(price,) = microprice.follow(book, [json.dumps(depth).encode()])
assert abs(price - plain()) < 1e-9 and abs(price - 3000.7) < 1e-9, price
try:
    microprice.microprice(nadofast.OrderBook(4))
except ValueError:
    print("all good")
"""


def test_the_example_builds_and_runs(tmp_path: Path) -> None:
    where = tmp_path / "consumer"
    shutil.copytree(
        ROOT / "examples" / "cython_consumer", where, ignore=shutil.ignore_patterns("*.so", "*.c")
    )
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    for command in (["setup.py", "-q", "build_ext", "--inplace"], ["-c", USE]):
        done = subprocess.run(
            [sys.executable, *command],
            cwd=where,
            env=env,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout == "all good\n"
