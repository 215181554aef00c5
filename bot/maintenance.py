"""The exchange's fixed maintenance windows: Mondays and Thursdays 14:00 UTC, about ten minutes.

No pair is opened shortly before or during one, because it could not be closed while it lasts.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

MONDAY: Final = 0
THURSDAY: Final = 3


@dataclass(frozen=True, slots=True)
class MaintenanceWindows:
    """margin_s: how long before a window entries end. length_s: how long after its start they stay so."""

    weekdays: tuple[int, ...] = (MONDAY, THURSDAY)
    hour_utc: int = 14
    length_s: float = 600.0
    margin_s: float = 300.0

    def reason(self, now_s: float) -> str:
        """Why no entry may be made at this UTC time; "" outside of every window."""
        now = datetime.fromtimestamp(now_s, UTC)
        today = now.replace(hour=self.hour_utc, minute=0, second=0, microsecond=0)
        # A margin may reach back over midnight, a long window over the next one.
        for start in (today - timedelta(days=1), today, today + timedelta(days=1)):
            opens, closes = start - timedelta(seconds=self.margin_s), start + timedelta(seconds=self.length_s)
            if start.weekday() in self.weekdays and opens <= now < closes:
                return f"maintenance window of {start:%a %H:%M} UTC"
        return ""
