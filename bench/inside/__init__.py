"""Loops compiled against nadofast's C face; built when they are needed, as a user's extension would be."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "bench" / "inside"
SETUP = """
from Cython.Build import cythonize
from setuptools import Extension, setup
setup(name="inside", ext_modules=cythonize([Extension("inside", [SOURCE], extra_compile_args=["-O3"])],
      build_dir="c", include_path=[ROOT]))
"""


def load() -> ModuleType:
    """Compile (a few seconds, only what changed) and import."""
    BUILD.mkdir(parents=True, exist_ok=True)
    source = Path(__file__).with_name("inside.pyx")
    setup = SETUP.replace("SOURCE", repr(str(source))).replace("ROOT", repr(str(ROOT)))
    command = [sys.executable, "-c", setup, "-q", "build_ext", "--inplace"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=BUILD, env=environment, capture_output=True, text=True, timeout=300)
    if done.returncode:
        raise RuntimeError(f"the loops did not compile:\n{done.stderr[-3000:]}")
    (library,) = BUILD.glob("inside*.so")
    spec = importlib.util.spec_from_file_location("inside", library)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
