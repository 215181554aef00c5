"""`python -m bot`, and the console script."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType


def _too_early(number: int, frame: FrameType | None) -> None:
    """A signal while the program is still loading: there is nothing to flatten and nothing to end."""
    os.write(2, f"bot: {signal.Signals(number).name} before anything was started\n".encode())
    os._exit(1)


def main() -> None:
    """Run the command line and leave with its exit code."""
    signal.signal(signal.SIGINT, _too_early)
    signal.signal(signal.SIGTERM, _too_early)
    # Loading takes a good part of a second; a signal meanwhile shall not end in a traceback.
    from .cli import main as run

    sys.exit(run())


if __name__ == "__main__":
    main()
