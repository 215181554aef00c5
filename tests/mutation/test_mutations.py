"""The mutation campaigns, `make long SUITE=mutation`: survivors are printed, one that is not explained fails.

They take minutes, so they stay behind the `long` marker; that the tool works is tested always.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from explained import Place, explained, in_vain, place
from mutate import mutants


@pytest.mark.long
@pytest.mark.parametrize("module", ["risk", "ledger", "sizing", "pair"])
def test_mutation_campaign(module: str) -> None:
    script = Path(__file__).with_name("campaign.py")
    assert subprocess.run([sys.executable, str(script), module], check=False).returncode == 0


ROOT = Path(__file__).resolve().parents[2]


def test_every_kind_of_change_is_made_and_each_is_another_program() -> None:
    source = (
        "def f(a, b):\n    if a < b and not a:\n        return a + 2\n    return -b if a is None else True\n"
        "async def g(a):\n    'A text.'\n    a()\n    await a()\n"
    )
    made = list(mutants(source))
    assert len({mutant.source for mutant in made}) == len(made)
    assert [mutant.what for mutant in made if mutant.line == 2] == [
        "never", "Or for And", "LtE for Lt", "without its sign"
    ]  # fmt: skip
    assert {mutant.what for mutant in made} >= {"Sub for Add", "3 for 2", "IsNot for Is", "False for True"}
    assert [mutant.line for mutant in made if mutant.what == "left out"] == [7, 8]
    for mutant in made:
        compile(mutant.source, "mutant", "exec")


def test_the_table_of_survivors_is_about_lines_that_are_there() -> None:
    known = explained()
    for module in ("risk", "ledger", "sizing", "pair"):
        source = (ROOT / "bot" / f"{module}.py").read_text()
        assert in_vain(module, (place(module, source, one) for one in mutants(source)), known) == []


def test_an_explanation_stays_with_its_line_and_goes_with_it() -> None:
    short, moved = "def f(a):\n    return a < 1\n", "x = 0\n\n\ndef f(a):\n    return a < 1\n"
    where = place("m", short, next(mutants(short)))
    assert where == Place("m", "return a < 1", 7, "LtE for Lt")
    assert in_vain("m", (place("m", moved, one) for one in mutants(moved)), [where]) == []
    assert in_vain("m", [], [where]) == [where]
    assert in_vain("other", [], [where]) == []
