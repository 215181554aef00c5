"""Wheel and sdist, installed in a clean environment outside the repository, as a stranger would.

One compilation of the core, without optimisation; the environments are linked from the one of this run.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from collections.abc import Iterable
from email import message_from_bytes
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]

USE = """
import sys
import nadofast
assert "site-packages" in nadofast.__file__, nadofast.__file__
book = nadofast.OrderBook(4)
book.load_snapshot([(3000 * 10**18, 10**18)], [("3001000000000000000000", "2000000000000000000")], 5)
assert book.best_bid == (3000 * 10**18, 10**18)
assert book.best_ask == (3001 * 10**18, 2 * 10**18)
heavy = {"web3", "aiohttp", "nado_protocol", "eth_account", "pydantic"} & set(sys.modules)
assert not heavy, heavy
print("imported", nadofast.__version__)
"""

CONSUMER_USE = """
import json
from fractions import Fraction
import nadofast, microprice
X18 = 10**18
book = nadofast.OrderBook(4)
book.load_snapshot([(3000 * X18, X18)], [(3001 * X18, 3 * X18)], 5)
depth = {"type": "book_depth", "last_max_timestamp": "5", "min_timestamp": "6", "max_timestamp": "6",
         "product_id": 4, "bids": [[str(3000 * X18), str(7 * X18)]], "asks": []}
def plain():
    (bid, bid_qty), (ask, ask_qty) = book.best_bid, book.best_ask
    return float(Fraction(bid * ask_qty + ask * bid_qty, (bid_qty + ask_qty) * X18))
assert abs(microprice.microprice(book) - plain()) < 1e-9
(price,) = microprice.follow(book, [json.dumps(depth).encode()])
assert abs(price - plain()) < 1e-9 and abs(price - 3000.7) < 1e-9, price
try:
    microprice.microprice(nadofast.OrderBook(4))
except ValueError:
    print("all good")
"""

# A compiler in a hurry: what is asked here is whether the files are all there, not how fast they run.
HASTY = """#!/bin/sh
exec {ccache} {cc} "$@" -O0 -g0
"""


def run(*command: str | Path, cwd: Path, **environ: str) -> str:
    env = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV", "NADOFAST_BUILD")}
    done = subprocess.run(
        [str(c) for c in command], cwd=cwd, env=env | environ, capture_output=True, text=True, timeout=600,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{command} failed:\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def environment(where: Path, *needs: str) -> Path:
    """The Python of a virtual environment that holds `needs`, what they require in turn, and nothing else.

    All is linked from the environment of this run: no registry is asked, nothing is installed twice.
    """
    run(sys.executable, "-m", "venv", "--without-pip", where, cwd=where.parent)
    lend(where, *needs)
    return where / "bin" / "python"


def lend(where: Path, *needs: str) -> None:
    """Link distributions, and what they require, into a virtual environment."""
    (packages,) = where.glob("lib/python*/site-packages")
    for name in required(needs):
        lent = metadata.distribution(name)
        for top in {file.parts[0] for file in lent.files or ()} - {"..", "__pycache__"}:
            if not (packages / top).exists():
                (packages / top).symlink_to(str(lent.locate_file(top)))


def required(needs: Iterable[str]) -> set[str]:
    """Names of these distributions and of all they require here. AssertionError if a version does not fit."""
    found: set[str] = set()
    waiting = list(needs)
    while waiting:
        need = Requirement(waiting.pop())
        name = canonicalize_name(need.name)
        if name in found or (need.marker is not None and not need.marker.evaluate({"extra": ""})):
            continue
        assert metadata.version(name) in need.specifier, f"{need}: {metadata.version(name)} is installed"
        found.add(name)
        waiting += metadata.requires(name) or ()
    return found


def hasty_compiler(directory: Path) -> str:
    """What to give as CC."""
    cc = os.environ.get("CC") or sysconfig.get_config_var("CC")
    path = directory / "hasty-cc"
    first = cc.split()[0]
    is_cached = Path(shutil.which(first) or first).resolve().name == "ccache"
    path.write_text(HASTY.format(ccache="" if is_cached else shutil.which("ccache") or "", cc=cc))
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    ("cc", "starts"), [("ccache gcc", "exec  ccache gcc "), ("gcc", "exec /none/ccache gcc ")]
)
def test_a_compiler_behind_ccache_is_not_put_behind_it_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cc: str, starts: str
) -> None:
    monkeypatch.setenv("CC", cc)
    monkeypatch.setattr(shutil, "which", lambda name: f"/none/{name}")
    assert Path(hasty_compiler(tmp_path)).read_text().splitlines()[1].startswith(starts)


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sdist, and a wheel made from it in a clean environment: what is not shipped cannot be compiled."""
    out = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--sdist", "--no-isolation", "--outdir", out, ROOT, cwd=out)
    (sdist,) = out.glob("*.tar.gz")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    builder = environment(out / "builder", "pip", "wheel", *project["build-system"]["requires"])
    options = ("-q", "--no-build-isolation", "--no-deps", "--no-index", "-w", str(out))
    run(builder, "-m", "pip", "wheel", *options, sdist, cwd=out, CC=hasty_compiler(out))
    return out


@pytest.fixture(scope="module")
def installed(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment outside the repository with the wheel, what it declares to require, and nothing else."""
    (wheel,) = dist.glob("*.whl")
    with zipfile.ZipFile(wheel) as opened:
        (name,) = (name for name in opened.namelist() if name.endswith(".dist-info/METADATA"))
        declared = message_from_bytes(opened.read(name)).get_all("Requires-Dist") or []
    needs = [text for text in declared if "extra ==" not in text]
    assert len(needs) >= 4
    where = tmp_path_factory.mktemp("installed") / "clean"
    python = environment(where, *needs)
    pip = (sys.executable, "-m", "pip", "--python", python)
    run(*pip, "install", "-q", "--no-deps", "--no-index", wheel, cwd=where)
    return where


def test_what_is_shipped(dist: Path) -> None:
    (wheel,) = dist.glob("*.whl")
    (sdist,) = dist.glob("*.tar.gz")
    in_wheel = zipfile.ZipFile(wheel).namelist()
    with tarfile.open(sdist) as tar:
        in_sdist = ["/".join(name.split("/")[1:]) for name in tar.getnames()]
    for source in (ROOT / "nadofast").glob("*.p[yx][xdi]"):
        assert f"nadofast/{source.name}" in in_wheel
        assert f"nadofast/{source.name}" in in_sdist
    assert "nadofast/py.typed" in in_wheel
    for names in (in_wheel, in_sdist):
        assert not [n for n in names if n.endswith((".c", ".o")) or n.startswith(("tests/", "bench/"))]
    assert not [n for n in in_sdist if n.endswith(".so")]
    assert {n.split("/")[0] for n in in_wheel if n.endswith(".py")} == {"nadofast", "bot", "nadosim"}


def test_wheel_imports_and_cimports_in_a_clean_environment(installed: Path, tmp_path: Path) -> None:
    """The Cython example compiles against the installed package, and computes what plain Python does."""
    python = installed / "bin" / "python"
    assert "imported" in run(python, "-c", USE, cwd=tmp_path)

    lend(installed, "Cython", "setuptools")
    consumer = tmp_path / "consumer"
    shutil.copytree(
        ROOT / "examples" / "cython_consumer", consumer, ignore=shutil.ignore_patterns("*.so", "*.c", "build")
    )
    run(python, "setup.py", "-q", "build_ext", "--inplace", cwd=consumer, CC=hasty_compiler(tmp_path))
    assert run(python, "-c", CONSUMER_USE, cwd=consumer) == "all good\n"


def test_picows_is_pinned_to_the_same_version_on_both_sides() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    built_with = [r for r in project["build-system"]["requires"] if r.startswith("picows")]
    runs_with = [r for r in project["project"]["dependencies"] if r.startswith("picows")]
    assert built_with == runs_with
    assert built_with[0].startswith("picows==")


def test_version_and_changelog_agree() -> None:
    import nadofast

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert nadofast.__version__ == project["project"]["version"]
    assert f"## {nadofast.__version__}" in (ROOT / "CHANGELOG.md").read_text()
