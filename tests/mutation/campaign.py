"""One campaign: `python tests/mutation/campaign.py risk`. Exit code 1 when more than the known ones survive.

Every mutant is judged in a fork of this process, which has loaded what the tests need and nothing of the bot.
"""

from __future__ import annotations

import ast
import os
import signal
import sys
import types
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import hypothesis
import pytest
from mutate import Mutant, mutants

import nadofast  # noqa: F401  imported before the forks: every mutant has it without waiting

ROOT: Final = Path(__file__).resolve().parents[2]
WORKERS: Final = 2
DEADLINE_S: Final = 120


@dataclass(frozen=True)
class Campaign:
    """module: of the bot. tests: that know it. known: survivors that change nothing anybody could see."""

    module: str
    tests: tuple[str, ...]
    known: int


CAMPAIGNS: Final = (
    Campaign("risk", ("tests/bot/test_risk_gate.py",), 0),
    Campaign("ledger", ("tests/bot/test_ledger.py", "tests/sim/test_ledger_against_exchange.py"), 0),
    Campaign("sizing", ("tests/bot/test_sizing.py",), 0),
    Campaign("pair", ("tests/bot/test_named_records.py", "tests/bot/test_pair_in_virtual_time.py"), 0),
)


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
    signal.alarm(DEADLINE_S)  # one that never ends is noticed, too
    for name in [
        n for n in sys.modules if n == "bot" or n.startswith(("bot.", "test_", "pairworld", "deskkit"))
    ]:
        del sys.modules[name]
    hypothesis.settings.register_profile(
        "mutants", max_examples=25, deadline=None, derandomize=True, database=None
    )
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


def main(module: str) -> int:
    campaign = next(one for one in CAMPAIGNS if one.module == module)
    source = (ROOT / "bot" / f"{module}.py").read_text()
    if is_noticed(module, ast.unparse(ast.parse(source)), campaign.tests):
        print(f"{module}: its tests fail without a mutation")
        return 1
    made = list(mutants(source))

    def judge(mutant: Mutant) -> bool:
        seen = is_noticed(module, mutant.source, campaign.tests)
        if not seen:
            print(f"  line {mutant.line}: {mutant.what}", flush=True)
        return seen

    with ThreadPoolExecutor(WORKERS) as pool:
        survivors = list(pool.map(judge, made)).count(False)
    print(f"{module}: {len(made)} mutants, {survivors} survive", flush=True)
    return int(survivors > campaign.known)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
