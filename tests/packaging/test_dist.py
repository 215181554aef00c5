"""Wheel and sdist, installed in a clean environment outside the repository, as a stranger would.

Takes about a minute: two virtual environments, one compilation of the core.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CONSTRAINTS = ROOT / "constraints.txt"

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

CONSUMER = """
# cython: language_level=3
from nadofast._book cimport OrderBook

def levels(OrderBook book):
    cdef OrderBook same = book
    return len(same)
"""

CONSUMER_SETUP = """
from Cython.Build import cythonize
from setuptools import setup
setup(name="consumer", ext_modules=cythonize("consumer.pyx", compiler_directives={"language_level": "3"}))
"""


def run(*command: str | Path, cwd: Path, build: str = "release") -> str:
    env = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    env["NADOFAST_BUILD"] = build
    done = subprocess.run(
        [str(c) for c in command], cwd=cwd, env=env, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, f"{command} failed:\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def fresh_environment(where: Path, *packages: str | Path) -> Path:
    run(sys.executable, "-m", "venv", where, cwd=where.parent)
    python = where / "bin" / "python"
    pip_install(python, *packages)
    return python


def pip_install(python: Path, *packages: str | Path, options: tuple[str, ...] = ()) -> None:
    run(python, "-m", "pip", "install", "-q", "-c", CONSTRAINTS, *options, *packages, cwd=python.parent)


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sdist, and a wheel made from it in a clean environment: what is not shipped cannot be compiled."""
    out = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--sdist", "--no-isolation", "--outdir", out, ROOT, cwd=out)
    (sdist,) = out.glob("*.tar.gz")
    builder = fresh_environment(out / "builder", "Cython", "setuptools<81", "wheel", "picows")
    options = ("-q", "--no-build-isolation", "--no-deps", "-w", str(out))
    # Without optimisation, in half the time: what is asked here is whether the files are all there.
    run(builder, "-m", "pip", "wheel", *options, sdist, cwd=out, build="debug")
    return out


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


def test_wheel_imports_and_cimports_in_a_clean_environment(dist: Path, tmp_path: Path) -> None:
    (wheel,) = dist.glob("*.whl")
    python = fresh_environment(tmp_path / "clean", wheel)
    assert "imported" in run(python, "-c", USE, cwd=tmp_path)

    pip_install(python, "Cython", "setuptools<81")
    consumer = tmp_path / "consumer"
    consumer.mkdir()
    (consumer / "consumer.pyx").write_text(CONSUMER)
    (consumer / "setup.py").write_text(CONSUMER_SETUP)
    run(python, "setup.py", "-q", "build_ext", "--inplace", cwd=consumer)
    check = "import consumer, nadofast; print('levels', consumer.levels(nadofast.OrderBook(4)))"
    assert "levels 0" in run(python, "-c", check, cwd=consumer)


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
