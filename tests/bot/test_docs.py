"""The docs are as the code is: made pages are current, every code has its heading, every command is run."""

from __future__ import annotations

import glob
import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest

from bot import cli
from bot.conditions import Code
from bot.model import ExitCode

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PYTHON_BOT = "python -m bot"
# Commands that no test here runs, each with the reason.
ELSEWHERE = {
    "make run": "the test below, in the environment there is",
    "make test": "it is running",
    "python -m bot flatten --force": "tests/e2e/test_force.py, with a bot that hangs",
    "python -m bot resume": "tests/e2e/test_real_money.py, with a halt",
    "nadofast-bot --install-completion": "it writes to the shell's own files; the test below shows what",
    "python -m bot record": "tests/e2e/test_record_and_replay.py: it records until it is told to end",
    "python -m bot export": "tests/e2e/test_record_and_replay.py, with a recorded run",
    "python -m bot replay": "tests/e2e/test_record_and_replay.py, with a recorded run",
    "python -m bot whatif": "tests/e2e/test_record_and_replay.py, with a recorded run",
}  # fmt: skip
TOOLS = ("podman", "docker")


@cache
def made() -> dict[Path, str]:
    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: dict[Path, str] = module.pages()
    return found


@pytest.mark.parametrize("name", ["api.md", "logged.md", "configuration.md"])
def test_pages_made_from_the_code_are_current(name: str) -> None:
    path = DOCS / name
    assert path.read_text(encoding="utf-8") == made()[path], "make docs"


def test_operations_explains_every_code_once() -> None:
    headings = re.findall(r"^#### `(\S+)`$", (DOCS / "operations.md").read_text(), re.MULTILINE)
    assert sorted(headings) == sorted(code.value for code in Code)


def test_usage_has_every_exit_code() -> None:
    rows = re.findall(r"^\| (\d) \|", (DOCS / "usage.md").read_text(), re.MULTILINE)
    assert rows == [str(int(code)) for code in ExitCode]


def test_every_link_in_the_docs_leads_somewhere() -> None:
    for page in (ROOT / "README.md", ROOT / "ARCHITECTURE.md", *DOCS.glob("*.md")):
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name}: {target}"


# ---------------------------------------------------------------------- commands


def documented() -> list[str]:
    """Every command in a code block, or in backticks, of README and docs; without comments and prefixes."""
    found = []
    for page in (ROOT / "README.md", *sorted(DOCS.glob("*.md"))):
        text = page.read_text(encoding="utf-8")
        for language, block in re.findall(r"^```(\w*)\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
            if language in ("", "sh", "bash", "shell", "console"):
                found += [line.partition(" # ")[0].strip() for line in block.splitlines()]
        found += re.findall(rf"`(?:\.venv/bin/)?({PYTHON_BOT} [^`]+)`", text)
    plain = [command.replace(".venv/bin/", "") for command in found]
    starts = ("make ", "python ", "nadofast-bot ", *TOOLS)
    return sorted({command for command in plain if command.startswith(starts)})


def long_suites() -> list[str]:
    """Every SUITE that a page asks `make long` for."""
    pages = [ROOT / "README.md", *DOCS.glob("*.md")]
    return sorted({s for page in pages for s in re.findall(r"make long SUITE=(\w+)", page.read_text())})


@pytest.mark.parametrize("suite", long_suites())
def test_long_suites_in_the_docs_exist(suite: str) -> None:
    """By the names of files and functions, as -k looks for it."""
    texts = {path.stem: path.read_text() for path in ROOT.glob("tests/*/test_*.py")}
    names = [
        name
        for stem, text in texts.items()
        if "pytest.mark.long" in text
        for name in (stem, *re.findall(r"def (test_\w+)", text))
    ]
    assert [name for name in names if suite in name]


def of_the_bot() -> list[str]:
    """Those that can be run here, without `python -m bot`."""
    found = [c.removeprefix(f"{PYTHON_BOT} ") for c in documented() if c.startswith(f"{PYTHON_BOT} ")]
    return [c for c in found if not any(f"{PYTHON_BOT} {c}".startswith(known) for known in ELSEWHERE)]


def test_make_targets_in_the_docs_exist() -> None:
    targets = set(
        re.findall(r"^([a-z][a-z-]*)(?: [a-z][a-z-]*)*:", (ROOT / "Makefile").read_text(), re.MULTILINE)
    )
    targets |= {"sanitize", "debug"}
    for command in documented():
        if command.startswith("make "):
            assert shlex.split(command)[1] in targets, command


def test_what_is_not_run_here_is_documented_and_has_a_reason() -> None:
    commands = documented()
    for known, reason in ELSEWHERE.items():
        assert any(command.startswith(known) for command in commands), known
        assert reason


def test_other_programs_in_the_docs_exist() -> None:
    for command in documented():
        words = shlex.split(command)
        if words[0] == "python" and words[1] != "-m":
            assert (ROOT / words[1]).is_file(), command


@contextmanager
def running(tmp_path: Path, arguments: list[str]) -> Iterator[subprocess.Popen[str]]:
    with (tmp_path / "out").open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "bot", *arguments, "--hold-s", "60"], cwd=tmp_path, text=True, stdout=out,
            stderr=subprocess.STDOUT, env=os.environ | {"PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        deadline_s = time.monotonic() + 60
        while "entry  SOL-PERP" not in (tmp_path / "out").read_text():
            assert time.monotonic() < deadline_s, (tmp_path / "out").read_text()
            assert process.poll() is None, (tmp_path / "out").read_text()
            time.sleep(0.05)
        yield process
        if process.poll() is None:
            process.kill()
            process.wait()


def test_every_command_of_the_bot_works_as_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In one place, in the order of a trader: settings, checks, a run, looking, stopping, report."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("NADO_")]:
        monkeypatch.delenv(name)
    left = {command: shlex.split(command) for command in of_the_bot() if "NAME" not in command}
    assert len(left) > 15
    while_it_runs = ("status", "dashboard", "alive", "stop", "drain", "flatten")
    shown: list[str] = []

    def carry_out(prefix: str, *more: str) -> None:
        for command in [c for c in left if c.startswith(prefix)]:
            words = [
                x
                for word in left.pop(command)
                for x in (sorted(glob.glob(word.replace("…", "*"))) if {"*", "…"} & set(word) else [word])
            ]
            if any(word.startswith("sim-0x") for word in words):
                continue  # a name that only the example has
            code = cli.main([*words, *more])
            said = capsys.readouterr()
            shown.append(said.out)
            assert code == 0, f"{command}: {said.err}\n{said.out}"

    for command in [c for c in left if c.startswith("config init") and "testnet" in c]:
        assert cli.main([*left.pop(command)[:-1], "testnet.toml"]) == 0
    carry_out("config init")
    carry_out("config")
    carry_out("doctor")
    carry_out("bench")
    for command in [c for c in left if c.startswith("run ") and ("--dry-run" in c or "--canary" in c)]:
        done = subprocess.run(
            [sys.executable, "-m", "bot", *left.pop(command)], cwd=tmp_path, capture_output=True, text=True,
            timeout=120, check=False, env=os.environ | {"PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    runs = [c for c in left if c.startswith("run ") and "mainnet" not in c and "--help" not in c]
    first = next(command for command in runs if "--record" in command)
    with running(tmp_path, left[first]) as process:
        for command in runs:
            left.pop(command)
        for verb in while_it_runs[:3]:
            carry_out(verb, *(["--once"] if verb == "dashboard" else []))
        for verb in while_it_runs[3:]:
            carry_out(verb)
        assert process.wait(60) == 0
    assert sum("HEDGED" in text for text in shown) >= 2
    carry_out("report", "--out", str(tmp_path / "page.html"))
    assert (tmp_path / "page.html").exists()
    carry_out("run --help")
    assert list(left) == []


def test_make_run_trades(tmp_path: Path) -> None:
    """In the environment that runs this: how one is made is what `make test` has begun with."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("NADO_", "MAKE"))}
    for name in ("state_dir", "csv_path"):
        clean[f"NADO_BOT_OUTPUT__{name.upper()}"] = str(tmp_path / name)
    given = [f"BIN={Path(sys.executable).parent}", "CYCLES=1", "SEED=7"]
    done = subprocess.run(
        ["make", "--old-file", ".venv/.run", "run", *given], cwd=ROOT, env=clean, capture_output=True,
        text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 cycles complete (BUY_FIRST 1, SELL_FIRST 0)" in done.stdout
    assert "equal to the ledger to the last unit" in done.stdout


def test_completion_works_in_every_shell() -> None:
    environ = os.environ | {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1", "PYTHONPATH": str(ROOT)}
    program = shutil.which("nadofast-bot", path=str(Path(sys.executable).parent))
    assert program is not None
    for shell in ("bash", "zsh", "fish"):
        shown = subprocess.run(
            [program, "--show-completion", shell], env=environ, capture_output=True, text=True, timeout=60,
            check=False,
        )  # fmt: skip
        assert shown.returncode == 0, shown.stderr
        assert f"complete_{shell}" in shown.stdout
    asked = environ | {
        "_NADOFAST_BOT_COMPLETE": "complete_bash", "COMP_WORDS": "nadofast-bot fl", "COMP_CWORD": "1",
    }  # fmt: skip
    found = subprocess.run([program], env=asked, capture_output=True, text=True, timeout=60, check=False)
    assert found.stdout.split() == ["flatten"]


@pytest.mark.parametrize("command", ["config show", "status", "doctor", "report", "bench"])
def test_what_a_script_reads_is_json(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*command.split(), "--help"]) == 0
    assert "--json" in capsys.readouterr().out


def test_config_show_is_one_json_document(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["config", "show", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["run.cycles"]["value"] == "4"
