"""Seeds of the campaigns."""

from __future__ import annotations

import os

import pytest


@pytest.fixture
def seeds() -> range:
    """`NADOFAST_SEEDS`, as `first:end`."""
    first, _, end = os.environ.get("NADOFAST_SEEDS", "0:2").partition(":")
    return range(int(first), int(end))
