"""Parameters of faults: what values they take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal


class BadFault(ValueError):
    """A fault request that cannot be understood. The text says which part."""


@dataclass(frozen=True, slots=True)
class Param:
    """One parameter: kind of value, bounds of a number or choices of a text, and its default."""

    kind: Literal["integer", "number", "text", "choice", "flag"]
    default: Any = None
    low: float = 0
    high: float = 1e12
    choices: tuple[str | int, ...] = ()

    def check(self, name: str, value: Any) -> Any:
        """The value, or BadFault."""
        match self.kind:
            case "flag":
                if isinstance(value, bool):
                    return value
                raise BadFault(f"{name}: expected true or false, got {value!r}")
            case "choice":
                if value in self.choices and not isinstance(value, bool):
                    return value
                raise BadFault(f"{name}: expected one of {', '.join(map(str, self.choices))}, got {value!r}")
            case "text":
                if isinstance(value, str) and value:
                    return value
                raise BadFault(f"{name}: expected a text, got {value!r}")
        allowed = int if self.kind == "integer" else int | float
        is_number = isinstance(value, allowed) and not isinstance(value, bool)
        if not is_number or not self.low <= value <= self.high:
            raise BadFault(f"{name}: expected {self.kind} from {self.low:g} to {self.high:g}, got {value!r}")
        return value
