"""What can be wrong with a running bot, each under one code that status, dashboard, metrics, event lines and
alerts all use. `docs/operations.md` says of every code what it means and what to do.

A condition is standing: it begins and ends. A halt is one that only a person ends. An event happens once.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from .alerts import Level
from .status import Status, TroubleView

BAD_DELTA_PCT: Final = 1.0
NEAR_LIMIT: Final = 0.8
STALE_MS: Final = 5_000.0
BLIND_S: Final = 1.5


class Code(StrEnum):
    """Every reason somebody may be called for."""

    # latched, by the reason of the halt
    DAILY_LOSS = "daily-loss"
    DISK = "disk"
    DEFECT = "defect"
    EMERGENCY = "emergency"
    HALT_UNREADABLE = "halt-unreadable"
    HALTED = "halted"
    # standing
    BLIND = "blind"
    NO_DATA = "no-data"
    MARKET_REST = "market-rest"
    ACCOUNT_REST = "account-rest"
    REST_ONLY = "rest-only"
    RECOVERING = "recovering"
    NET_DELTA = "net-delta"
    NEAR_DAILY_LOSS = "near-daily-loss"
    # once
    POSITION_TAKEN_OVER = "position-taken-over"
    STOP = "stop"
    DEAD = "dead"


HALT_CODES: Final[Mapping[str, Code]] = {
    "daily loss": Code.DAILY_LOSS,
    "journal": Code.DISK,
    "trades CSV": Code.DISK,
    "record of the inputs": Code.DISK,
    "internal error": Code.DEFECT,
    "emergency unwind": Code.EMERGENCY,
}
"""How the reason of a halt begins → its code. DISK is a halt when a record was lost that trading needs."""

LEVELS: Final[Mapping[Code, Level]] = {
    Code.DAILY_LOSS: Level.CRITICAL,
    Code.DISK: Level.CRITICAL,
    Code.DEFECT: Level.CRITICAL,
    Code.EMERGENCY: Level.CRITICAL,
    Code.HALT_UNREADABLE: Level.CRITICAL,
    Code.HALTED: Level.CRITICAL,
    Code.BLIND: Level.CRITICAL,
    Code.NO_DATA: Level.CRITICAL,
    Code.MARKET_REST: Level.WARNING,
    Code.ACCOUNT_REST: Level.WARNING,
    Code.REST_ONLY: Level.WARNING,
    Code.RECOVERING: Level.WARNING,
    Code.NET_DELTA: Level.WARNING,
    Code.NEAR_DAILY_LOSS: Level.WARNING,
    Code.POSITION_TAKEN_OVER: Level.WARNING,
    Code.STOP: Level.INFO,
    Code.DEAD: Level.CRITICAL,
}


def halt_code(reason: str) -> Code:
    """The code of a halt, from the words that it was latched with."""
    for beginning, code in HALT_CODES.items():
        if reason.startswith(beginning):
            return code
    return Code.HALT_UNREADABLE if "cannot be read" in reason else Code.HALTED


def conditions(status: Status) -> tuple[TroubleView, ...]:
    """What is wrong now, the worst first."""
    found = []
    if status.halt:
        found.append(_trouble(halt_code(status.halt), "", status.halt))
    found += [_trouble(Code.DISK, what, f"{what}: {why}") for what, why in sorted(status.lost.items())]
    if status.blind_s >= BLIND_S:
        found.append(_trouble(Code.BLIND, "", "nothing is heard from the exchange, on any way"))
    for leg in status.legs:
        if leg.age_ms is None or leg.age_ms > STALE_MS:
            found.append(_trouble(Code.NO_DATA, leg.symbol, f"no fresh market data of {leg.symbol}"))
    for function, code in (("market", Code.MARKET_REST), ("account", Code.ACCOUNT_REST)):
        if status.modes.get(function) == "rest" and not status.is_rest_only:
            found.append(_trouble(code, "", f"{function} data by REST, not by the stream"))
    if status.is_rest_only:
        found.append(
            _trouble(Code.REST_ONLY, "", "no WebSocket, by configuration: everything goes over REST")
        )
    if status.phase == "RECOVERING":
        found.append(_trouble(Code.RECOVERING, "", "something does not add up; the exchange is asked"))
    if status.phase == "HEDGED" and abs(status.net_delta_pct) > BAD_DELTA_PCT:
        text = f"the held pair is more than {BAD_DELTA_PCT:g} % of gross from neutral"
        found.append(_trouble(Code.NET_DELTA, "", text))
    for limit in status.limits:
        if limit.name == "daily loss" and limit.used >= NEAR_LIMIT * limit.limit > 0:
            text = f"{100 * NEAR_LIMIT:.0f} % of the day's loss is used"
            found.append(_trouble(Code.NEAR_DAILY_LOSS, "", text))
    return tuple(found)


def _trouble(code: Code, subject: str, text: str) -> TroubleView:
    return TroubleView(code.value, subject, LEVELS[code].value, text)
