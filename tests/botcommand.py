"""A command of the bot, given in this process: a Python of its own costs more than all that most of them do.

For what trades nothing and is not killed. What it says and how it ends is as in a terminal.
"""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
from collections.abc import Mapping

import pytest

from bot import cli


def give(environ: Mapping[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """`python -m bot` with these arguments, in this environment and no other."""
    out, error = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        for name in os.environ.keys() - environ.keys():
            patch.delenv(name)
        for name, value in environ.items():
            patch.setenv(name, value)
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
            code = cli.main(list(arguments))
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), error.getvalue())
