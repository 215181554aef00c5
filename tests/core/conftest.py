"""Property tests: no deadline per example (machines are shared), failures reproducible from the output."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("core", deadline=None, print_blob=True)
settings.load_profile("core")
