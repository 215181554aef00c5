"""Open questions of the API as faults: each switch may be thrown at run time, and goes back by itself.

`{"dead_digest": "fill_remainder"}` throws a switch, `{"dead_digest": null}` puts it back to what it was
at the start; an object takes `value` and `for_s`. A list for `swapped_types` names several fields.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, get_args, get_origin, get_type_hints

from .config import OPEN_QUESTIONS, ExchangeConfig
from .faults import Faults
from .params import Param


def _params() -> dict[str, Param]:
    hints = get_type_hints(ExchangeConfig)
    return {name: _param(hints[name]) for name in OPEN_QUESTIONS}


def _param(hint: Any) -> Param:
    if get_origin(hint) is frozenset:
        (hint,) = get_args(hint)
    if hint is bool:
        return Param("flag")
    if hint is int:
        return Param("integer", low=0, high=1e6)
    return Param("choice", choices=get_args(hint))


PARAMS: Final[Mapping[str, Param]] = _params()


class Switchboard:
    """Keeps the switches of one exchange where the standing faults want them."""

    def __init__(self, faults: Faults, config: ExchangeConfig) -> None:
        self._faults = faults
        self._config = config
        self._at_start = {name: getattr(config, name) for name in OPEN_QUESTIONS}
        self._thrown: set[str] = set()

    def impose(self) -> None:
        """Cheap while no switch is thrown."""
        wanted = {name for name in self._faults.names if name in PARAMS}
        for name in wanted | self._thrown:
            setattr(self._config, name, self._value(name))
        self._thrown = wanted

    def _value(self, name: str) -> Any:
        rules = self._faults.all_standing(name)
        if not rules:
            return self._at_start[name]
        if isinstance(self._at_start[name], frozenset):
            return frozenset(rule.value["value"] for rule in rules)
        return rules[-1].value["value"]
