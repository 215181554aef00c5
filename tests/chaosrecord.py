"""What a campaign has been through, line by line, for the matrix of `make chaos`.

Nothing is written unless NADOFAST_CHAOS names a file.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path

VARIABLE = "NADOFAST_CHAOS"


def note(
    subject: str,
    faults: str | Iterable[str],
    phase: str,
    *,
    recovery_ms: float | None = None,
    facts: int = 0,
    failure: str = "",
) -> None:
    """One line a fault: it was on in this phase, and how the run ended.

    recovery_ms: as `tests/chaos/matrix.py` says for the subject. facts: fills or orders held one by one
    against the exchange's own record. failure: empty when every one of them agreed.
    """
    path = os.environ.get(VARIABLE)
    if not path:
        return
    names = [faults] if isinstance(faults, str) else list(faults) or ["none"]
    with Path(path).open("a") as out:
        for number, fault in enumerate(names):
            out.write(
                json.dumps(
                    {
                        "subject": subject,
                        "fault": fault,
                        "phase": phase,
                        "recovery_ms": recovery_ms,
                        "facts": 0 if number else facts,
                        "failure": failure,
                    }
                )
                + "\n"
            )
