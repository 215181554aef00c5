"""One campaign: `python tests/mutation/campaign.py risk`. Exit code 1 when a survivor is not explained.

Every mutant is judged in a fork of this process, which has loaded what the tests need and nothing of the bot.
`--share 0.5 --seed 3` judges a part of them, drawn by the seed; it says so.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import os
import random
import resource
import signal
import sys
import time
import types
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import hypothesis
import pytest
from explained import explained, in_vain, place
from mutate import Mutant, mutants

# Imported before the forks: every mutant has them without waiting. None of them imports the bot.
for _name in (
    "aiohttp",
    "pydantic_settings",
    "uvloop",
    "nadofast.gateway",
    "nadosim.app",
    "nadosim.exchange",
):
    importlib.import_module(_name)

ROOT: Final = Path(__file__).resolve().parents[2]
CPU_S: Final = 120
DEADLINE_S: Final = 900
EXAMPLES: Final = 25


# The tests that know a module, the quickest first: most mutants are noticed by the first one that fails.
TESTS: Final = {
    "risk": (
        "tests/bot/test_risk_gate.py",
        "tests/bot/test_exits_at_the_gate.py",
        "tests/bot/test_entry_limits.py",
        "tests/bot/test_kill_switch.py",
    ),
    "ledger": ("tests/bot/test_ledger.py", "tests/sim/test_ledger_against_exchange.py"),
    "sizing": ("tests/bot/test_sizing.py",),
    "pair": (
        "tests/bot/test_pair_words.py",
        "tests/bot/test_pair_ends.py",
        "tests/bot/test_pair_loop.py",
        "tests/bot/test_pair_asking.py",
        "tests/bot/test_named_records.py",
        "tests/bot/test_pair_by_name.py",
    ),
}


def is_noticed(module: str, source: str, tests: tuple[str, ...]) -> bool:
    """Whether the tests fail with this source in place of the module; in a fork of this process."""
    child = os.fork()
    if child == 0:
        os._exit(_judge(module, source, tests))
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status) != 0


def _judge(module: str, source: str, tests: tuple[str, ...]) -> int:
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    # One that never ends is noticed, too; one that has to wait for a busy machine is not for that.
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
    signal.alarm(DEADLINE_S)
    for name in [
        n for n in sys.modules if n == "bot" or n.startswith(("bot.", "test_", "pairworld", "deskkit"))
    ]:
        del sys.modules[name]
    hypothesis.settings.register_profile(
        "mutants", max_examples=EXAMPLES, deadline=None, derandomize=True, database=None,
        phases=(hypothesis.Phase.explicit, hypothesis.Phase.generate),  # noticed is enough: nothing to shrink
    )  # fmt: skip
    hypothesis.settings.load_profile("mutants")
    try:
        import bot

        name = f"bot.{module}"
        mutated = types.ModuleType(name)
        mutated.__file__, mutated.__package__ = str(ROOT / "bot" / f"{module}.py"), "bot"
        sys.modules[name] = mutated
        setattr(bot, module, mutated)
        exec(compile(source, mutated.__file__, "exec"), mutated.__dict__)  # noqa: S102
        options = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-o", "faulthandler_timeout=0"]
        options += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # hypothesis was imported before
        return int(pytest.main([*options, *(str(ROOT / test) for test in tests)]))
    except BaseException:
        return 1


def chosen(source: str, share: float, seed: int) -> list[Mutant]:
    """All mutants of a source, or a share of them."""
    made = list(mutants(source))
    return made if share >= 1 else random.Random(seed).sample(made, max(1, round(len(made) * share)))


def main(module: str, *, share: float = 1.0, seed: int = 0, workers: int = 1) -> int:
    source, started_s = (ROOT / "bot" / f"{module}.py").read_text(), time.monotonic()
    if is_noticed(module, ast.unparse(ast.parse(source)), TESTS[module]):
        print(f"{module}: its tests fail without a mutation")
        return 1
    known = explained()
    bad = in_vain(module, (place(module, source, one) for one in mutants(source)), known)
    for where in bad:
        print(f"  explained in vain: {where}")
    made, survivors = chosen(source, share, seed), 0
    with ThreadPoolExecutor(workers) as pool:
        noticed = pool.map(lambda mutant: is_noticed(module, mutant.source, TESTS[module]), made)
        for mutant, was_noticed in zip(made, noticed, strict=True):
            if was_noticed:
                continue
            survivors += 1
            where = place(module, source, mutant)
            bad += [] if where in known else [where]
            print(f"  line {mutant.line}, {where}: {known.get(where, 'NOT EXPLAINED')}", flush=True)
    part = "" if share >= 1 else f" (a share of {share:g}, seed {seed})"
    print(
        f"{module}: {len(made)} mutants{part}, {survivors} survive, {len(bad)} to look at,"
        f" {time.monotonic() - started_s:.0f} s",
        flush=True,
    )
    return int(bool(bad))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("module", choices=sorted(TESTS))
    parser.add_argument("--share", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1)
    sys.exit(main(**vars(parser.parse_args())))
