"""What only some commands need, and how to get it."""

from __future__ import annotations

import re
import sys

from .config import SettingsError


def not_installed(error: ModuleNotFoundError, requirement: str) -> Exception:
    """What to raise for it: how to install `requirement` if that is what is missing, else `error` itself.
    requirement: as in pyproject; the distribution is called like its module."""
    module = re.split(r"[<>=!~\[]", requirement, maxsplit=1)[0]
    if error.name != module:
        return error
    return SettingsError(f"{module} is needed: {sys.executable} -m pip install '{requirement}'")
