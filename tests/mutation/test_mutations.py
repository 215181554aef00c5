"""The mutation campaign, `make long SUITE=mutation`: survivors are printed, more than the known ones fail.

A run takes minutes, so it stays behind the `long` marker; that the tool works is tested always.
"""

from __future__ import annotations

import ast
import faulthandler
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
    faulthandler.cancel_dump_traceback_later()
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
        return int(pytest.main([*options, *(str(ROOT / test) for test in tests)]))
    except BaseException:
        return 1


@pytest.mark.long
@pytest.mark.parametrize("campaign", CAMPAIGNS, ids=lambda campaign: campaign.module)
def test_mutation_campaign(campaign: Campaign) -> None:
    source = (ROOT / "bot" / f"{campaign.module}.py").read_text()
    assert not is_noticed(campaign.module, ast.unparse(ast.parse(source)), campaign.tests), "unchanged"
    made = list(mutants(source))

    def judge(mutant: Mutant) -> bool:
        return is_noticed(campaign.module, mutant.source, campaign.tests)

    with ThreadPoolExecutor(WORKERS) as pool:
        noticed = list(pool.map(judge, made))
    left = [mutant for mutant, seen in zip(made, noticed, strict=True) if not seen]
    print(f"{campaign.module}: {len(made)} mutants, {len(left)} survive")
    for mutant in left:
        print(f"  line {mutant.line}: {mutant.what}")
    assert len(left) <= campaign.known


def test_every_kind_of_change_is_made_and_each_is_another_program() -> None:
    source = (
        "def f(a, b):\n    if a < b and not a:\n        return a + 2\n    return -b if a is None else True\n"
    )
    made = list(mutants(source))
    assert len({mutant.source for mutant in made}) == len(made)
    assert [mutant.what for mutant in made if mutant.line == 2] == [
        "never", "Or for And", "LtE for Lt", "without its sign"
    ]  # fmt: skip
    assert {mutant.what for mutant in made} >= {"Sub for Add", "3 for 2", "IsNot for Is", "False for True"}
    for mutant in made:
        compile(mutant.source, "mutant", "exec")
