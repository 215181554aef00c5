"""The verdict on what the tests reach: a goal for each group of files, and a page that names what is missed.

    coverage json -q -o build/coverage/found.json
    python tests/coverage_goals.py build/coverage/found.json [GROUP ...]      by default all groups

Prints each group, then each file below 95 % with the lines and branches that no test reached. Fails if a
group misses its goal, if one of its files is not there or was not measured, or if docs/coverage.md does not
name a file below 95 %.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "coverage.md"
FILE_GOAL = 95.0
CONNECTION = (
    "accountsync authsockets backfill batcher booksync busypoll callbacks clockkeeper connection "
    "connection_mode control delivery depthsignals dispatch events fallback fanout feed fillledger "
    "fills gap health kinds lanes messagequeue messages metrics models pool positions queries sequence "
    "signals standby streamgroup streamlink timesync upstream waiting wsclient"
)
# Group → goal in percent of lines and branches, and its files.
GOALS: dict[str, tuple[float, list[str]]] = {
    "nadofast": (95.0, ["nadofast/*.py", "nadofast/*.pyx"]),
    "connection": (95.0, [f"nadofast/{name}.py" for name in CONNECTION.split()]),
    "bot": (90.0, ["bot/*.py"]),
    "gate-pair-sizes-ledger": (95.0, ["bot/risk.py", "bot/pair.py", "bot/sizing.py", "bot/ledger.py"]),
    "nadosim": (90.0, ["nadosim/*.py"]),
    "all": (90.0, ["nadofast/*.py", "nadofast/*.pyx", "bot/*.py", "nadosim/*.py"]),
}


def files_of(group: str, root: Path = ROOT) -> set[str]:
    """Paths of a group's files. FileNotFoundError for one that was renamed: it must not fall out unseen."""
    found: set[str] = set()
    for pattern in GOALS[group][1]:
        paths = {path.relative_to(root).as_posix() for path in root.glob(pattern)}
        if not paths:
            raise FileNotFoundError(pattern)
        found |= paths
    return found


def percent(summaries: list[dict[str, Any]]) -> float:
    """Of lines and branches together, as `coverage report` counts them."""
    reached = sum(one["covered_lines"] + one.get("covered_branches", 0) for one in summaries)
    there = sum(one["num_statements"] + one.get("num_branches", 0) for one in summaries)
    return 100.0 * reached / there if there else 100.0


def judge(measured: dict[str, Any], groups: list[str], page: str, root: Path = ROOT) -> list[str]:
    """What is wrong; prints the figures. measured: path → what coverage's JSON says of that file."""
    wrong: list[str] = []
    named = set(re.findall(r"`(\w+/\w+\.pyx?)`", page))
    low: set[str] = set()
    for group in groups:
        files = files_of(group, root)
        wrong += [f"{path} was not measured" for path in sorted(files - measured.keys())]
        figures = {path: percent([measured[path]["summary"]]) for path in files & measured.keys()}
        share, goal = percent([measured[path]["summary"] for path in figures]), GOALS[group][0]
        print(f"{group:24} {share:6.2f} %  goal {goal:.0f} %  {len(figures)} files")
        if share < goal:
            wrong.append(f"{group} has {share:.2f} % and not {goal:.0f} %")
        low |= {path for path, figure in figures.items() if figure < FILE_GOAL}
    for path in sorted(low):
        one = measured[path]
        missed = [*one["missing_lines"], *(f"{a}->{b}" for a, b in one.get("missing_branches", []))]
        print(f"{path}  {percent([one['summary']]):.1f} %: {' '.join(map(str, missed))}")
    wrong += [
        f"{path} is below {FILE_GOAL:.0f} % and {PAGE.name} does not name it" for path in sorted(low - named)
    ]
    return wrong


def main() -> None:
    found, groups = sys.argv[1], sys.argv[2:] or list(GOALS)
    wrong = judge(json.loads(Path(found).read_text())["files"], groups, PAGE.read_text())
    if wrong:
        sys.exit("\n".join(wrong))


if __name__ == "__main__":
    main()
