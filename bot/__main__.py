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


def _occupy_standard_descriptors() -> None:
    """Whoever started us with stdin, stdout or stderr closed: the event loop's first socket would take the
    number, and the loop aborts the process when such a one is closed."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(number, True)
    os.close(number)


def main() -> None:
    """Run the command line and leave with its exit code."""
    _occupy_standard_descriptors()
    signal.signal(signal.SIGINT, _too_early)
    signal.signal(signal.SIGTERM, _too_early)
    # Loading takes a good part of a second; a signal meanwhile shall not end in a traceback.
    from .cli import main as run

    # Commands end by KeyboardInterrupt and put the terminal right; a run has handlers of its own.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.exit(run())


if __name__ == "__main__":
    main()
