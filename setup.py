"""Build of the compiled core. Metadata lives in pyproject.toml; this file only knows how to compile.

NADOFAST_BUILD chooses the kind of build:
  release   (default) optimised, Cython checks off
  debug     no optimisation, every Cython check on, assertions on, no vector instructions
  coverage  line tracing for coverage of .pyx files
  sanitize  address and undefined-behaviour sanitizers (run Python with the runtime preloaded)
  guided    the same, and a call at every basic block for the guided fuzzer
"""

import os
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

KINDS = ("release", "debug", "coverage", "sanitize", "guided")
KIND = os.environ.get("NADOFAST_BUILD") or "release"
if KIND not in KINDS:
    raise SystemExit(f"NADOFAST_BUILD={KIND!r}: expected one of {', '.join(KINDS)}")

CHECKED = KIND in ("debug", "sanitize", "guided", "coverage")
DIRECTIVES = {
    "language_level": "3",
    "boundscheck": CHECKED,
    "wraparound": False,
    "cdivision": True,
    "initializedcheck": CHECKED,
    "overflowcheck": False,
    "embedsignature": True,
    "linetrace": KIND == "coverage",
    "profile": KIND == "coverage",
}
SANITIZE = ["-O1", "-g3", "-fsanitize=address,undefined", "-fno-omit-frame-pointer"]
COMPILE_ARGS = {
    "release": ["-O3", "-fno-strict-aliasing", "-fvisibility=hidden"],
    "debug": ["-O0", "-g3", "-UNDEBUG"],
    "coverage": ["-O0", "-g1"],
    "sanitize": SANITIZE,
    "guided": [*SANITIZE, "-fsanitize-coverage=trace-pc"],
}[KIND]
LINK_ARGS = ["-fsanitize=address,undefined"] if KIND in ("sanitize", "guided") else []
MACROS = [("CYTHON_TRACE", "1"), ("CYTHON_TRACE_NOGIL", "1")] if KIND == "coverage" else []
MACROS.append(("CYTHON_WITHOUT_ASSERTIONS", "1")) if KIND == "release" else None
MACROS.append(("NADO_PORTABLE", "1")) if KIND == "debug" else None


def extensions() -> list[Extension]:
    sources = sorted(Path("nadofast").glob("*.pyx"))
    return [
        Extension(
            f"nadofast.{source.stem}",
            [source.as_posix()],
            extra_compile_args=["-Wall", "-Wno-unused-function", "-Wno-unused-variable", *COMPILE_ARGS],
            extra_link_args=LINK_ARGS,
            define_macros=MACROS,
        )
        for source in sources
    ]


# Generated C goes to the build tree, one per kind, so that kinds never mix and C is never shipped. Coverage
# reads it to learn which lines are code, and looks for it beside the source.
setup(
    ext_modules=cythonize(
        extensions(),
        build_dir=None if KIND == "coverage" else f"build/cython-{KIND}",
        compiler_directives=DIRECTIVES,
        nthreads=os.cpu_count() or 1,
    ),
    options={"build_ext": {"parallel": os.cpu_count() or 1}},
)
