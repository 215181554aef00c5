"""Rules of the house that no single part can keep: what is imported, said, settable, explained and gated."""

from __future__ import annotations

import ast
import inspect
import re
import tomllib
from collections.abc import Iterator
from configparser import ConfigParser
from pathlib import Path
from typing import Any

import pytest
from coverage_goals import GOALS, files_of, judge

import nadofast
from bot.config import ExpectSection, Settings
from bot.execution import rest_price_x18
from bot.expected import mismatches
from nadofast import FeedConfig
from nadofast.gateway import GatewayConfig
from nadofast.products import Product, to_x18

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("nadofast", "bot", "nadosim")
OTHERS = (
    "backpack", "binance", "bybit", "coinbase", "deribit", "dydx", "edgex", "grvt", "hyperliquid", "kraken",
    "lighter.xyz", "okx", "paradex",
)  # fmt: skip
# Writing a recording must not wait for a disk: one thread takes what the loop queued. Variants of a recorded
# run are played by workers, where nothing trades.
ALLOWED_THREADS = {"bot/recordfile.py", "bot/farm.py"}
# Replaying a recording at its own pace, waiting for another process to end, or to have looked at a lock
# before a start: nothing trades, no loop to block.
ALLOWED_SLEEPS = {"bot/tapes.py", "bot/takeover.py", "bot/force.py", "bot/statedir.py"}
PAGES = {
    "README.md": ("What is in the box", "Measured", "Honest limits"),
    "ARCHITECTURE.md": ("A market message's way", "Book synchronisation", "An order's way"),
    "docs/exchange.md": (
        "Transport", "Numbers", "Identity and signatures", "Order types", "Streams", "Methods",
        "The official Python SDK", "Products", "Limits", "Recommendations", "Still open",
    ),
    "docs/performance.md": ("Instructions",),
    "docs/simulator.md": ("Switches", "Bad days", "What is not modelled"),
    "docs/operations.md": ("Codes", "Service"),
    "docs/usage.md": ("Settings", "Exit codes"),
    "docs/api.md": ("`Feed`", "`OrderGateway`", "`NadoClient`", "`DNPairBot`"),
    "docs/configuration.md": ("Secrets", "[risk]"),
    "docs/names.md": ("Connection", "The pair"),
}  # fmt: skip


def sources(*packages: str) -> Iterator[tuple[str, str]]:
    """Path and text of every file of Python or Cython."""
    for package in packages:
        for path in sorted((ROOT / package).glob("*.p*")):
            if path.suffix in (".py", ".pyi", ".pyx", ".pxd"):
                yield f"{package}/{path.name}", path.read_text()


def test_no_other_exchange_is_spoken_of() -> None:
    for name, text in sources(*PACKAGES):
        words = set(re.findall(r"[a-z.]+", text.lower()))
        assert not words & set(OTHERS), name


def test_sockets_come_first_and_no_setting_turns_that_round() -> None:
    """What a roll-back may do, and nobody by accident, is to do without sockets altogether."""
    fields = {
        f"{section}.{key}": value
        for section, field in Settings.model_fields.items()
        for key, value in getattr(field.annotation, "model_fields", {section: field}).items()
    }
    assert len(fields) > 50
    assert not [key for key in fields if re.search(r"priority|transport|prefer|auth_method", key)]
    switches = {key: value.default for key, value in fields.items() if re.search(r"socket\.enabled", key)}
    assert switches == {"websocket.enabled": True}
    assert FeedConfig().websocket
    assert GatewayConfig().websocket


def test_one_thread_and_nothing_that_blocks() -> None:
    """No thread but the recording's, no sleep of the process, no client that waits for its answer."""
    found: dict[str, set[str]] = {"thread": set(), "sleep": set(), "client": set()}
    for name, text in sources("nadofast", "bot"):
        if not name.endswith(".py"):
            continue
        for node in ast.walk(ast.parse(text)):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            found["thread"] |= {name} & {name for n in names if n in ("threading", "concurrent.futures")}
            found["client"] |= {name for n in names if n.split(".")[0] in ("requests", "urllib3", "httpx")}
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                dotted = f"{node.value.id}.{node.attr}"
                found["sleep"] |= {name for _ in range(dotted == "time.sleep")}
                found["thread"] |= {name for _ in range(dotted == "asyncio.to_thread")}
                found["thread"] |= {name for _ in range(node.attr == "run_in_executor")}
    assert found["thread"] <= ALLOWED_THREADS
    assert found["sleep"] <= ALLOWED_SLEEPS
    assert not found["client"]


def test_no_wait_swallows_a_cancellation() -> None:
    """`asyncio.wait_for` of Python 3.11 does, in the turn in which what it waits for comes."""
    calls = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr == "wait_for"
    ]
    assert calls == []


def test_the_client_depends_on_little() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = {re.split(r"[=<>~\[]", need)[0] for need in project["dependencies"]}
    assert names == {"picows", "uvloop", "orjson", "coincurve"}
    imported = {
        (node.module or "").split(".")[0]
        for name, text in sources("nadofast")
        if name.endswith(".py")
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.ImportFrom) and node.level == 0
    } | {
        alias.name.split(".")[0]
        for name, text in sources("nadofast")
        if name.endswith(".py")
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    foreign = {name for name in imported if name not in __import__("sys").stdlib_module_names}
    assert foreign - {"nadofast"} == {"picows", "orjson", "coincurve", "aiohttp"} | (foreign & {"uvloop"})


def test_coverage_is_gated() -> None:
    ini = ConfigParser()
    ini.read(ROOT / "tests" / "coverage.ini")
    assert ini["run"]["plugins"] == "Cython.Coverage"
    assert ini.getboolean("run", "branch")
    assert set(ini["run"]["source"].split(",")) == set(PACKAGES)
    assert {name: goal for name, (goal, _) in GOALS.items()} == {
        "nadofast": 95, "connection": 95, "bot": 90, "gate-pair-sizes-ledger": 95, "nadosim": 90, "all": 90,
    }  # fmt: skip
    everything = {f"{package}/{path.name}" for package in PACKAGES for path in (ROOT / package).glob("*.py*")}
    assert files_of("all") == {name for name in everything if name.endswith((".py", ".pyx"))}
    makefile = (ROOT / "Makefile").read_text()
    assert re.search(
        r"^judged = .*\n.* tests/coverage_goals.py build/coverage/found.json$", makefile, re.MULTILINE
    )
    recipes = dict(re.findall(r"^(coverage[a-z-]*):.*\n((?:\t.*\n)+)", makefile, re.MULTILINE))
    assert recipes["coverage"].endswith("; $(judged) nadofast connection\n")
    assert recipes["coverage-all"].endswith("; $(judged)\n")
    assert not re.search(r"\|\||^\t-", "".join(recipes.values()), re.MULTILINE), (
        "a verdict must not be swallowed"
    )
    suites = {path.parent.name for path in (ROOT / "tests").glob("*/test_*.py")}
    parts = re.findall(
        r"tests/(\w+)(?= |$)", "\n".join(re.findall(r"^TESTS_.*", makefile, re.MULTILINE)), re.MULTILINE
    )
    # Those that start another build, play mutants of the code, read the sources, or are measured by nobody.
    assert suites - set(parts) == {"fuzz", "mutation", "packaging", "report", "requirements"}


def measured(covered: int, branches: int = 0) -> dict[str, Any]:
    """A file of ten lines and ten branches, as coverage tells of it."""
    counts = {
        "num_statements": 10,
        "covered_lines": covered,
        "num_branches": 10,
        "covered_branches": branches,
    }
    return {"summary": counts, "missing_lines": [7], "missing_branches": [[7, -1]]}


def test_what_coverage_misses_fails_unless_the_page_names_it(capsys: pytest.CaptureFixture[str]) -> None:
    good, low = "bot/ledger.py", "bot/pair.py"
    found = {path: measured(10, 10) for path in files_of("gate-pair-sizes-ledger")}
    assert judge(found, ["gate-pair-sizes-ledger"], "") == []
    found[low] = measured(9, 9)
    assert judge(found, ["gate-pair-sizes-ledger"], f"`{good}`") == [
        f"{low} is below 95 % and coverage.md does not name it"
    ]
    assert f"{low}  90.0 %: 7 7->-1" in capsys.readouterr().out
    assert judge(found, ["gate-pair-sizes-ledger"], f"| `{low}` | why |") == []
    found[low] = measured(5, 10)  # lines and branches count alike
    assert judge(found, ["gate-pair-sizes-ledger"], f"`{low}`") == [
        "gate-pair-sizes-ledger has 93.75 % and not 95 %"
    ]
    del found[good]
    assert f"{good} was not measured" in judge(found, ["gate-pair-sizes-ledger"], f"`{low}`")
    with pytest.raises(FileNotFoundError):
        files_of("gate-pair-sizes-ledger", ROOT / "docs")


def test_every_dependency_says_what_it_is_for() -> None:
    """In the line that names it; tools that everybody knows are left to their names."""
    known = {"pytest", "ruff", "mypy"}
    text = (ROOT / "pyproject.toml").read_text().partition("[project.scripts]")[0].partition("[project]")[2]
    lines = re.findall(r'^    "([A-Za-z-]+)[><=~]\S*",(.*)$', text, re.MULTILINE)
    assert len(lines) > 15
    assert [name for name, rest in lines if name not in known and len(rest.partition("# ")[2]) < 10] == []


def test_no_queue_of_the_loop_is_unbounded() -> None:
    """None is made without a size, but for deques whose owner bounds them, as its own tests say."""
    bounded_by_owner = {
        "nadofast/booksync.py", "nadofast/messagequeue.py", "nadofast/ratelimit.py", "bot/alerts.py",
        "bot/logs.py", "bot/recordfile.py", "bot/replay.py", "bot/risk.py", "bot/screen.py",
    }  # fmt: skip
    for name, text in sources("nadofast", "bot"):
        for node in ast.walk(ast.parse(text)) if name.endswith(".py") else ():
            if not isinstance(node, ast.Call):
                continue
            called = ast.unparse(node.func).rpartition(".")[2]
            is_sized = any(key.arg in ("maxlen", "maxsize") for key in node.keywords)
            if called in ("Queue", "SimpleQueue", "PriorityQueue", "LifoQueue"):
                assert is_sized, name
            if called == "deque" and not is_sized:
                assert name in bounded_by_owner, name


def test_public_names_are_explained() -> None:
    """Every public class, function and method says what it is for; a property may leave it to its name."""
    silent = []
    for name in nadofast.__all__:
        found = getattr(nadofast, name)
        if not (inspect.isclass(found) or inspect.isfunction(found)):
            continue
        if found.__module__.startswith("nadofast._"):
            continue  # compiled: explained in its stub, which a type checker and an editor show
        if not inspect.getdoc(found):
            silent.append(name)
        if inspect.isclass(found):
            silent += [
                f"{name}.{member}"
                for member, value in vars(found).items()
                if not member.startswith("_") and inspect.isfunction(value) and not value.__doc__
            ]
    assert not silent
    for stub in (ROOT / "nadofast").glob("*.pyi"):
        for node in ast.walk(ast.parse(stub.read_text())):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                assert ast.get_docstring(node), f"{stub.name}: {node.name}"


def test_no_module_is_out_of_the_tests_reach() -> None:
    """Starting at what tests import, imports lead to every module: none is there for nothing."""
    code: dict[str, str] = {}
    for name, text in sources("nadofast", "bot"):
        module = name.rsplit(".", 1)[0].replace("/", ".")
        code[module] = code.get(module, "") + text
    seen: set[str] = set()
    waiting = [ROOT / "tests", ROOT / "bench"]
    found = {word for root in waiting for path in root.rglob("*.py") for word in mentioned(path.read_text())}
    while new := (found & code.keys()) - seen:
        seen |= new
        for name in new:
            found |= mentioned(code[name], name.split(".")[0])
    missing = {name for name in code if not name.split(".")[1].startswith("__")} - seen
    assert not missing


def mentioned(text: str, package: str = "") -> set[str]:
    """`package.module` of everything an import statement may mean, relative ones inside `package`."""
    found = {f"{top}.{name}" for top, name in re.findall(r"\b(nadofast|bot)\.(\w+)", text)}
    for top, names in re.findall(r"from (\.|nadofast|bot)\.? c?import \(?([^)\n]+|[^)]+\))", text):
        base = package if top == "." else top
        found |= {f"{base}.{name}" for name in re.findall(r"\w+", names)}
    found |= {f"{package}.{name}" for name in re.findall(r"from \.(\w+) c?import", text) if package}
    if "import nadofast" in text or "from nadofast import" in text:
        found |= {"nadofast.__init__"}
    return found


@pytest.mark.parametrize("page", PAGES)
def test_the_pages_are_there(page: str) -> None:
    headings = "\n".join(line for line in (ROOT / page).read_text().splitlines() if line.startswith("#"))
    for wanted in PAGES[page]:
        assert wanted in headings, wanted


@pytest.mark.parametrize(
    ("amount", "bid", "ask", "price"),
    [
        (-1, "3000.0", "3000.1", "3000.1"),  # one tick of spread: inside would cross
        (1, "3000.0", "3000.1", "3000.0"),
        (-1, "3000.0", "3000.2", "3000.1"),
        (1, "3000.0", "3000.2", "3000.1"),
        (-1, "3000.0", "3002.0", "3001.9"),
        (1, "3000.0", "3002.0", "3000.1"),
    ],
)
def test_a_resting_exit_improves_by_one_tick_where_there_is_room(
    amount: int, bid: str, ask: str, price: str
) -> None:
    rate = to_x18("0.0001")
    eth = Product(4, "ETH-PERP", to_x18("0.1"), to_x18("0.001"), to_x18(100), rate, rate, 10**18, 10**18)
    assert rest_price_x18(eth, amount, to_x18(bid), to_x18(ask)) == to_x18(price)


def test_what_the_operator_expects_is_held_against_the_exchange() -> None:
    rate = to_x18("0.0001")
    eth = Product(4, "ETH-PERP", to_x18("0.1"), to_x18("0.001"), to_x18(100), rate, rate, 10**18, 10**18)
    sol = Product(8, "SOL-PERP", to_x18("0.01"), to_x18("0.1"), to_x18(100), rate, rate, 10**18, 10**18)
    assert mismatches((eth, sol), ExpectSection()) == []
    right = {"first_product_id": 4, "second_product_id": 8, "first_tick": "0.10", "second_tick": "0.01"}
    assert mismatches((eth, sol), ExpectSection.model_validate(right)) == []
    for key, wrong in (
        ("first_product_id", 8), ("second_product_id", 4), ("first_tick", "0.01"), ("second_tick", "0.1"),
        ("first_size_step", "0.01"), ("second_size_step", "0.01"),
    ):  # fmt: skip
        (text,) = mismatches((eth, sol), ExpectSection.model_validate(right | {key: wrong}))
        assert text.startswith(f"expect.{key}: {wrong} expected, the exchange says ")
