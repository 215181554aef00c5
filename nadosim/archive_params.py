"""Parameters of archive requests, and the filter most of them share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from .errors import ExchangeError
from .fields import MALFORMED, lenient_int
from .x18 import INT128_MAX, INT128_MIN, NS_PER_S

DEFAULT_LIMIT: Final = 100
MAX_LIMIT: Final = 500


@dataclass(frozen=True, slots=True)
class Filter:
    """None: not restricted. idx: largest submission_idx wanted. max_time_s likewise."""

    subaccounts: frozenset[str] | None
    product_ids: frozenset[int] | None
    max_time_s: int | None
    idx: int | None
    isolated: bool | None
    limit: int

    def takes(
        self,
        subaccounts: Iterable[str],
        product_id: int,
        timestamp_ns: int,
        submission_idx: int,
        *,
        is_isolated: bool,
    ) -> bool:
        """subaccounts: ids any of which may be asked for."""
        return (
            self.isolated in (None, is_isolated)
            and (self.subaccounts is None or not self.subaccounts.isdisjoint(subaccounts))
            and (self.product_ids is None or product_id in self.product_ids)
            and (self.max_time_s is None or timestamp_ns // NS_PER_S <= self.max_time_s)
            and (self.idx is None or submission_idx <= self.idx)
        )


def parse_filter(params: Mapping[str, Any]) -> Filter:
    """The newest entry wanted may be named `idx`, `submission_idx` or `max_idx`."""
    subaccounts = optional_list(params, "subaccounts")
    idx_name = next((k for k in ("idx", "submission_idx", "max_idx") if params.get(k) is not None), "idx")
    return Filter(
        subaccounts=None if subaccounts is None else frozenset(str(s).lower() for s in subaccounts),
        product_ids=None if params.get("product_ids") is None else frozenset(integers(params, "product_ids")),
        max_time_s=optional_integer(params, "max_time"),
        idx=optional_integer(params, idx_name),
        isolated=params["isolated"] if isinstance(params.get("isolated"), bool) else None,
        limit=limit(params),
    )


def limit(params: Mapping[str, Any], maximum: int = MAX_LIMIT) -> int:
    """How many entries are wanted; never more than the maximum."""
    value = optional_integer(params, "limit")
    return min(maximum, DEFAULT_LIMIT if value is None else max(0, value))


def integer(params: Mapping[str, Any], name: str) -> int:
    value = optional_integer(params, name)
    if value is None:
        raise ExchangeError(MALFORMED, name)
    return value


def optional_integer(params: Mapping[str, Any], name: str) -> int | None:
    value = params.get(name)
    return None if value is None else lenient_int(value, INT128_MIN, INT128_MAX, name)


def integers(params: Mapping[str, Any], name: str) -> list[int]:
    """Each once, in the order given: repeats would cost work and tell nothing."""
    values = optional_list(params, name)
    if values is None:
        raise ExchangeError(MALFORMED, name)
    return list(dict.fromkeys(integer({name: value}, name) for value in values))


def optional_list(params: Mapping[str, Any], name: str) -> list[Any] | None:
    value = params.get(name)
    if value is not None and not isinstance(value, list):
        raise ExchangeError(MALFORMED, name)
    return value
