"""Coverage-guided fuzzing: cases that reach a new edge of the compiled code are kept and changed further.

python tests/fuzz/guided.py --target parse|inflate|book|frames|journal --seconds N --seed S [--keep FOLDER]

Needs the "guided" build (tests/variant.py): sanitizers, and gcc's trace-pc calls that edges.c counts. The
journal's reader is Python, and is counted by its lines. Seconds are of processor time. A finding is printed
with its case in hex and kept in build/findings; --keep writes small cases that together reach most edges to
a folder. Those of tests/fuzz/corpus are where every run begins, and `make test` plays on the release build.
"""

from __future__ import annotations

import argparse
import ctypes
import logging
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

ROOT = Path(__file__).parent.parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "core"), str(ROOT / "tests" / "fuzz")]

from bytecases import Case, seeds, targets  # noqa: E402
from run import mutate  # noqa: E402

CORPUS = ROOT / "tests" / "fuzz" / "corpus"
MAX_CASE = 4_000
MAX_KEPT = 40


class Edges:
    """What edges.c counted; the library is preloaded, so that the code under test has called it."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(None)

    def news(self, case: Case, data: bytes) -> int:
        """Run the case. How much of what it did no case had done before."""
        self._library.edges_begin()
        case(data)
        return int(self._library.edges_news())

    def tell(self, edge: int) -> None:
        self._library.edges_tell(edge)

    @property
    def known(self) -> int:
        return int(self._library.edges_known())

    def forget(self) -> None:
        self._library.edges_forget()


def by_lines(case: Case, edges: Edges, file: str) -> Case:
    """The case, with every step from line to line of that source file told as an edge."""
    previous = 0

    def step(frame: FrameType, event: str, _: Any) -> Callable[..., Any]:
        nonlocal previous
        if event == "line":
            edges.tell(hash((previous, frame.f_lineno)))
            previous = frame.f_lineno
        return step

    def enter(frame: FrameType, _: str, __: Any) -> Callable[..., Any] | None:
        code: CodeType = frame.f_code
        return step if code.co_filename.endswith(file) else None

    def run(data: bytes) -> None:
        sys.settrace(enter)
        try:
            case(data)
        finally:
            sys.settrace(None)

    return run


class Fuzzer:
    """One target. cases: those that reached something new, in the order they did."""

    def __init__(self, target: str, seed: int) -> None:
        self._rng = random.Random(seed)
        self._edges = Edges()
        case = targets()[target]()
        self._case = by_lines(case, self._edges, "bot/journal.py") if target == "journal" else case
        self._target = target
        self.cases: list[bytes] = []
        self.count = 0
        for data in [*seeds(target), *corpus(target)]:
            self._try(data)
        if self._edges.known == 0:
            raise SystemExit("no edge was counted: this needs the guided build, see tests/variant.py")

    @property
    def edges(self) -> int:
        return self._edges.known

    def run(self, seconds: float) -> None:
        """Of processor time."""
        end = time.process_time() + seconds
        while time.process_time() < end:
            self._try(self._next())

    def smallest(self) -> list[bytes]:
        """Few small cases that together reach all that was reached, or most of it."""
        self._edges.forget()
        by_size = sorted(set(self.cases), key=lambda data: (len(data), data))
        found = [data for data in by_size if self._edges.news(self._case, data)]
        if len(found) > MAX_KEPT:  # those that reach most, first
            self._edges.forget()
            found = sorted(found, key=lambda data: -self._edges.news(self._case, data))[:MAX_KEPT]
        return sorted(found, key=lambda data: (len(data), data))

    def _try(self, data: bytes) -> None:
        self.count += 1
        try:
            if self._edges.news(self._case, data):
                self.cases.append(data)
        except BaseException as error:
            folder = ROOT / "build" / "findings"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{self._target}-{self.count}.hex").write_text(data.hex())
            error.add_note(f"{self._target}, case {self.count}: {data.hex()}")
            raise

    def _next(self) -> bytes:
        """A change of a case that was worth keeping; recent ones are likelier."""
        rng, cases = self._rng, self.cases
        at = len(cases) - 1 - min(int(rng.expovariate(3 / len(cases))), len(cases) - 1)
        data = cases[at] if rng.random() < 0.7 else rng.choice(cases)
        if rng.random() < 0.2:  # the beginning of one, the end of another
            other = rng.choice(cases)
            data = data[: rng.randrange(len(data) + 1)] + other[rng.randrange(len(other) + 1) :]
        for _ in range(rng.choice((1, 1, 2, 4))):
            data = mutate(rng, data)
        return data[:MAX_CASE]


def corpus(target: str) -> list[bytes]:
    """The kept cases."""
    file = CORPUS / f"{target}.hex"
    return [bytes.fromhex(line) for line in file.read_text().splitlines()] if file.exists() else []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", choices=targets(), required=True)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="folder that the smallest cases are written to")
    options = parser.parse_args()
    logging.disable()  # every refused frame would be told
    fuzzer = Fuzzer(options.target, options.seed)
    first = fuzzer.edges
    fuzzer.run(options.seconds)
    if options.keep is not None:
        options.keep.mkdir(parents=True, exist_ok=True)
        kept = [data.hex() for data in fuzzer.smallest()]
        (options.keep / f"{options.target}.hex").write_text("".join(f"{line}\n" for line in kept))
    print(
        f"{options.target}: seed {options.seed}, {fuzzer.count} cases in {time.process_time():.0f} CPU s,"
        f" {first} edges by the first, {fuzzer.edges} by all, {len(fuzzer.cases)} cases kept, no finding"
    )


if __name__ == "__main__":
    main()
