"""The mutation campaigns, `make long SUITE=mutation`: survivors are printed, more than the known ones fail.

They take minutes, so they stay behind the `long` marker; that the tool works is tested always.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from mutate import mutants


@pytest.mark.long
@pytest.mark.parametrize("module", ["risk", "ledger", "sizing", "pair"])
def test_mutation_campaign(module: str) -> None:
    script = Path(__file__).with_name("campaign.py")
    assert subprocess.run([sys.executable, str(script), module], check=False).returncode == 0


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
