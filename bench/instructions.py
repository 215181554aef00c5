"""Instructions per message, counted by callgrind: the figure that a busy machine does not move.

    python bench/instructions.py            print, and compare with the baseline
    python bench/instructions.py --write    make what is measured now the baseline

Ours runs as a user runs it, one Python call per message ("ours"), and as compiled code does, parse and apply
alone ("compiled", bench/inside). The floor is C (bench/floor), compiled by this machine's gcc and counted in
the same run; the ratio to it is comparable between machines, the absolute count only while compiler and
interpreter are the baseline's.
"""

from __future__ import annotations

import gc
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import floor  # noqa: E402
import inside  # noqa: E402
from streams import PRODUCT, Stream, bbo_messages, depth_messages, mixed_messages  # noqa: E402

BASELINE = HERE / "instructions.json"
COUNT = 2_000
WARM = 200
SHAPES = ("bbo", "depth 10", "mix")
ALLOWED = 1.03


def stream(shape: str) -> tuple[Any, list[bytes]]:
    """Snapshot and messages of a shape; the first WARM of them are not counted on our side."""
    if shape == "depth 10":
        _, messages, snapshot = depth_messages(COUNT + WARM)
        return snapshot, messages
    snapshot = Stream().snapshot()
    return snapshot, (mixed_messages if shape == "mix" else bbo_messages)(COUNT + WARM)


def is_possible() -> bool:
    return bool(shutil.which("valgrind") and shutil.which("gcc"))


def toolchain() -> dict[str, str]:
    gcc = subprocess.run(
        ["gcc", "-dumpfullversion"], capture_output=True, text=True, check=True
    ).stdout.strip()
    return {"gcc": gcc, "python": platform.python_version(), "machine": platform.machine()}


def count_ours() -> None:
    """Child, under callgrind: getppid() is called before and after each counted part."""
    from nadofast import OrderBook
    from nadofast._bbo import Bbo
    from nadofast._feed import FeedCore

    loops = inside.load()
    gc.disable()  # a whole collection inside a counted part would be its greatest cost, or would not be there
    for shape in SHAPES:
        snapshot, messages = stream(shape)
        core, book, bbo = FeedCore((PRODUCT,)), OrderBook(PRODUCT), Bbo(PRODUCT)
        assert core.load_snapshot(PRODUCT, *snapshot, depth=10_000)
        book.load_snapshot(*snapshot, depth=10_000)
        receive = core.receive
        for message in messages[:WARM]:
            receive(message, 1)
        loops.parse_and_apply(messages[:WARM], book, bbo, touch=False)
        counted = messages[WARM:]
        os.getppid()
        for message in counted:
            receive(message, 1)
        os.getppid()
        loops.parse_and_apply(counted, book, bbo, touch=False)
        os.getppid()
        assert core.book(PRODUCT).is_valid
        assert (book.bids(9), book.asks(9)) == (core.book(PRODUCT).bids(9), core.book(PRODUCT).asks(9))


def callgrind(command: list[str]) -> list[int]:
    """Instructions of every part that ends with a call of getppid()."""
    with tempfile.TemporaryDirectory() as directory:
        tool = ["valgrind", "--tool=callgrind", "--dump-before=getppid", "--quiet"]
        tool += [f"--callgrind-out-file={directory}/out"]
        environment = os.environ | {"PYTHONHASHSEED": "0"}
        subprocess.run([*tool, *command], check=True, timeout=900, env=environment, stdout=subprocess.DEVNULL)
        parts = sorted(Path(directory).glob("out.*"), key=lambda path: int(path.suffix[1:]))
        totals = []
        for part in parts:
            (line,) = [x for x in part.read_text().splitlines() if x.startswith(("totals:", "summary:"))][:1]
            totals.append(int(line.split()[1]))
        return totals


def measure() -> dict[str, dict[str, float]]:
    """By shape: our instructions, the floor's (the fewer of array and ladder), per message."""
    inside.load()  # compiled before, not under callgrind
    ours = callgrind([sys.executable, __file__, "--child"])
    if len(ours) < 3 * len(SHAPES):
        raise RuntimeError(f"callgrind made {len(ours)} parts of {3 * len(SHAPES)}")
    program, result = floor.build(), {}
    for index, shape in enumerate(SHAPES):
        snapshot, messages = stream(shape)
        path = floor.write(floor.BUILD / f"{shape.replace(' ', '')}.txt", snapshot, messages)
        floors = [
            callgrind([str(program), kind, "count", str(path)])[1] / len(messages) for kind in floor.KINDS
        ]
        called, compiled = (part / COUNT for part in ours[3 * index + 1 : 3 * index + 3])
        result[shape] = {
            "ours": round(called, 1),
            "compiled": round(compiled, 1),
            "floor": round(min(floors), 1),
            "ratio": round(called / min(floors), 3),
            "compiled_ratio": round(compiled / min(floors), 3),
        }
    return result


def compare(measured: dict[str, dict[str, float]]) -> list[str]:
    """What is above the baseline by more than 3 %."""
    baseline = json.loads(BASELINE.read_text())
    same = baseline["toolchain"] == toolchain()
    failures = []
    for shape, now in measured.items():
        then = baseline["shapes"][shape]
        # The floor moves with gcc too: between compilers only a large change of the ratio says something.
        limits = dict.fromkeys(("ours", "compiled"), ALLOWED)
        if not same:
            limits = {"ratio": 1.15, "compiled_ratio": 1.15}
        failures += [
            f"{shape}: {key} {now[key]:,} against {then[key]:,}, allowed {limit:.2f}x"
            for key, limit in limits.items()
            if now[key] > then[key] * limit
        ]
    return failures


def line(shape: str, figures: dict[str, float]) -> str:
    return (
        f"{shape:10} by a Python call {figures['ours']:>7,.0f} ({figures['ratio']:.2f}x)"
        f"  compiled {figures['compiled']:>7,.0f} ({figures['compiled_ratio']:.2f}x)"
        f"  C floor {figures['floor']:>7,.0f}"
    )


def main() -> int:
    if "--child" in sys.argv:
        count_ours()
        return 0
    if not is_possible():
        print("valgrind and gcc are needed to count instructions")
        return 2
    measured = measure()
    for shape, figures in measured.items():
        print(line(shape, figures))
    if "--write" in sys.argv:
        BASELINE.write_text(json.dumps({"toolchain": toolchain(), "shapes": measured}, indent=2) + "\n")
        return 0
    failures = compare(measured)
    print("\n".join(failures) or "within the baseline")
    return bool(failures)


if __name__ == "__main__":
    raise SystemExit(main())
