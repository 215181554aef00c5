"""Property tests: no deadline per example (machines are shared), failures reproducible from the output."""

from __future__ import annotations

import pytest
from corekit import PRODUCT, Recorder
from hypothesis import settings

settings.register_profile("core", deadline=None, print_blob=True)
settings.load_profile("core")


@pytest.fixture
def feed() -> Recorder:
    """Live at 1000 with one level a side."""
    recorder = Recorder()
    assert recorder.core.load_snapshot(PRODUCT, [(100, 5)], [(102, 5)], 1000)
    return recorder
