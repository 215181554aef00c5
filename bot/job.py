"""What one run was asked to do."""

from __future__ import annotations

from dataclasses import dataclass

from nadofast.secret import Secret

from .config import Settings
from .keeping import Say
from .logs import EventLog
from .restart import OnOpen
from .rollout import Task
from .venue import Venue


@dataclass(frozen=True, slots=True)
class Job:
    """ends_process: nothing but the last words comes after it. venue: where, as
    `venue.choose` decides it; None = decided at the start. task: what the start is for."""

    settings: Settings
    seed: int
    key: Secret | None
    ends_process: bool = False
    venue: Venue | None = None
    task: Task = Task.TRADE

    @property
    def on_open(self) -> OnOpen:
        """What happens to a pair that is found open."""
        return OnOpen.FLATTEN if self.only_closes else OnOpen(self.settings.run.on_open)

    @property
    def only_closes(self) -> bool:
        """What forbids to trade is no reason to stay exposed: it is said, and the start goes on."""
        return self.task is Task.FLATTEN

    def say_instead(self, log: EventLog) -> Say | None:
        """Where a start that only closes says what would end another one; None: it shall end."""
        if not self.only_closes:
            return None
        return lambda text: log.event(f"warning: {text}; closing all the same")
