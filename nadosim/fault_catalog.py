"""The faults there are, their parameters, and how a request for one is read.

A request is an object of faults: `{"mute": 3, "drop": {"kind": "book_depth", "product_id": 4, "count": 2}}`.
A bare value stands for the fault's main parameter; an object holds parameters and those of the matching keys
scope, kind, product_id, connection, skip, count, probability and for_s that the fault looks at; a list holds
several. `null`, `false` and 0 switch a fault off, `{"clear": "all"}` everything. Without count, probability
or for_s a fault of an occasion happens once, and a state lasts until it is switched off.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Final, Literal

from .faults import CUT_SCOPES, OUTGOING, Faults, Rule
from .params import BadFault, Param
from .switches import PARAMS as SWITCHES

STATUSES: Final = ("started", "active", "stopping", "syncing", "live_syncing", "failed")
MAX_SECONDS: Final = 86_400.0
_SECONDS: Final = Param("number", 0.0, 0, MAX_SECONDS)
_MS: Final = Param("number", 0.0, 0, 60_000)
_MATCHING: Final[Mapping[str, Param]] = {
    "scope": Param("choice", choices=("all", "subscribe", "gateway", "http")),
    "kind": Param("text"),
    "product_id": Param("integer", low=0, high=10_000),
    "connection": Param("integer", low=1),
    "skip": Param("integer"),
    "count": Param("integer", low=1),
    "probability": Param("number", low=0, high=1),
    "for_s": Param("number", low=0, high=MAX_SECONDS),
}


@dataclass(frozen=True, slots=True)
class Spec:
    """One fault.

    nature: `occasion` happens to one message or request, `state` lasts, `action` is done at once.
    main: the parameter or matching key a bare value stands for; None if it takes only `true`.
    required: keys that must be given.
    """

    nature: Literal["occasion", "state", "action"]
    text: str
    main: str | None = "count"
    params: Mapping[str, Param] = field(default_factory=dict)
    required: tuple[str, ...] = ()


_MISHAPS: Final[Mapping[str, Spec]] = {
    # sockets
    "cut": Spec(
        "action",
        "drop sockets: how = fin (no close frame), rst or close (1001)",
        "scope",
        {"how": Param("choice", "fin", choices=("fin", "rst", "close"))},
    ),
    "half_open": Spec("action", "sockets stay open, nothing is read or sent any more, no pongs", "scope"),
    "stall_read": Spec(
        "occasion", "the exchange stops reading a socket for a while", "seconds", {"seconds": _SECONDS}
    ),
    "v2_refused": Spec("state", "/ws/v2 does not exist", None),
    "socket_refused": Spec(
        "state", "WebSocket handshakes are refused", "http", {"http": Param("integer", 503, 400, 599)}
    ),
    # messages on their way out
    "mute": Spec("state", "messages are swallowed; pongs go on", "for_s"),
    "drop": Spec("occasion", "a message is lost"),
    "drop_depth": Spec(
        "occasion", "a depth batch is lost on its way to everybody", "product_id", required=("product_id",)
    ),
    "duplicate": Spec("occasion", "a message is sent twice"),
    "reorder": Spec("occasion", "a message is sent after the next one"),
    "delay": Spec("state", "messages leave later, in order", "ms", {"ms": _MS, "jitter_ms": _MS}),
    "batch": Spec(
        "state",
        "messages of a connection leave together",
        "every_ms",
        {"every_ms": Param("number", 250.0, 1)},
    ),
    "corrupt_json": Spec("occasion", "a message is not JSON"),
    "extra_fields": Spec("occasion", "a message has a field nobody knows"),
    "swap_types": Spec("occasion", "wide integers of a message are numbers"),
    "truncated_frame": Spec("occasion", "half a frame, then the socket is dropped"),
    "oversized_frame": Spec(
        "occasion",
        "one frame far too large",
        "bytes",
        {"bytes": Param("integer", 8 << 20, 1 << 16, 1 << 28)},
    ),
    "bad_deflate": Spec("occasion", "a frame that does not inflate"),
    "deflate_bomb": Spec(
        "occasion",
        "a small frame that inflates to this",
        "bytes",
        {"bytes": Param("integer", 64 << 20, 1 << 16, 1 << 30)},
    ),
    # requests and replies
    "delay_request": Spec("state", "requests are looked at later", "ms", {"ms": _MS, "jitter_ms": _MS}),
    "lose_reply": Spec("occasion", "an execute is carried out and never answered"),
    "refuse": Spec(
        "occasion", "an execute is refused with this code", "code", {"code": Param("integer", 5000, 1, 9_999)}
    ),
    "rate_error": Spec(
        "occasion",
        "a request is one too many: form = code (HTTP 200) or http (429)",
        "form",
        {
            "form": Param("choice", "code", choices=("code", "http")),
            "code": Param("integer", 1000, 1000, 1015),
        },
    ),
    "out_of_order": Spec(
        "occasion",
        "a reply of /ws/v2 waits for the next one, at most this long",
        "ms",
        {"ms": Param("number", 500.0, 1, 60_000)},
    ),
    "query_only": Spec("state", "the address is blocked: HTTP 403 for executes, queries work", None),
    "http_error": Spec(
        "occasion", "an HTTP request fails", "status", {"status": Param("integer", 503, 500, 599)}
    ),
    "stale_snapshot": Spec("occasion", "market_liquidity answers with the book of the time this was asked"),
    "archive_lag": Spec(
        "state", "the archive does not know yet what accounts did last", "seconds", {"seconds": _SECONDS}
    ),
    # subscriptions
    "auth_refused": Spec(
        "occasion", "authenticate is refused", "code", {"code": Param("integer", 2028, 1, 9_999)}
    ),
    "lose_ack": Spec("occasion", "a control request is carried out and not acknowledged"),
    # the exchange
    "status": Spec(
        "state",
        "the status query claims this; executes are refused unless active",
        "status",
        {"status": Param("choice", "syncing", choices=STATUSES)},
    ),
    "chain_id": Spec(
        "state", "the contracts query claims this", "id", {"id": Param("integer", None, 1)}, ("id",)
    ),
    "pause_market": Spec("state", "simulated participants stand still", None),
    "clock_offset": Spec(
        "state", "the exchange's clock is wrong", "ms", {"ms": Param("number", 0.0, -1e9, 1e9)}, ("ms",)
    ),
    "liquidate": Spec(
        "action",
        "a leg is taken over: orders cancelled, position gone at the liquidation price, healthy or not",
        "subaccount",
        {"subaccount": Param("text")},
        ("subaccount",),
    ),
    "funding": Spec("action", "the funding hour ends now: every position pays or is paid", None),
    "maintenance": Spec(
        "action",
        "sockets dropped, executes refused, status not active for a while",
        "for_s",
        {
            "code": Param("integer", 1004, 1, 9_999),
            "status": Param("choice", "stopping", choices=STATUSES),
        },
    ),
    "restart": Spec(
        "action",
        "sockets dropped, depth chain starts anew, syncing for a while; orders kept or wiped",
        "for_s",
        {
            "orders": Param("choice", "kept", choices=("kept", "wiped")),
            "status": Param("choice", "syncing", choices=STATUSES),
        },
    ),
}
CATALOG: Final[Mapping[str, Spec]] = {
    **_MISHAPS,
    **{
        name: Spec("state", "an open question answered otherwise", "value", {"value": param}, ("value",))
        for name, param in SWITCHES.items()
    },
}
# States nobody takes an occasion of: counted when they are switched on.
NOTED: Final = frozenset({"status", "chain_id", "pause_market", "clock_offset", *SWITCHES})
DEFAULT_DOWN_S: Final = 2.0
# What a fault can be told to choose by: those that are not here happen to whatever comes.
_CHOOSES: Final[Mapping[str, tuple[str, ...]]] = {
    **dict.fromkeys(("cut", "half_open", "stall_read"), ("scope", "connection")),
    **dict.fromkeys(OUTGOING, ("scope", "kind", "product_id", "connection")),
    **dict.fromkeys(("delay_request", "lose_reply", "refuse", "rate_error"), ("scope", "kind", "connection")),
    **dict.fromkeys(("out_of_order", "lose_ack"), ("kind", "connection")),
    **dict.fromkeys(("drop_depth", "stale_snapshot", "liquidate"), ("product_id",)),
    **dict.fromkeys(("socket_refused", "query_only"), ("scope",)),
    "http_error": ("kind",),
    "auth_refused": ("connection",),
}

Act = Callable[[Rule], None]


def apply(
    faults: Faults,
    request: Mapping[str, Any],
    actions: Mapping[str, Act],
    check_first: Act | None = None,
) -> None:
    """Switch faults on or off as `request` says. All of it is read before any of it happens.

    actions: what to do for faults that act at once, and for `stale_snapshot` when it is switched on.
    check_first: raises BadFault for a rule that nothing can come of. Raises BadFault.
    """
    for step in _steps(faults, request, actions, check_first):
        step()


def check(request: Mapping[str, Any]) -> None:
    """Read a request without doing anything. Raises BadFault."""
    _steps(Faults(), request, {})


def _steps(
    faults: Faults, request: Mapping[str, Any], actions: Mapping[str, Act], check_first: Act | None = None
) -> list[Callable[[], None]]:
    if not request:
        raise BadFault(f"empty request; known faults: {', '.join(CATALOG)}, clear")
    steps: list[Callable[[], None]] = []
    for name, value in request.items():
        if name == "clear":
            steps.append(_clearing(faults, value))
        elif name not in CATALOG:
            raise BadFault(f"unknown fault {name!r}; known: {', '.join(CATALOG)}, clear")
        else:
            for one in value if isinstance(value, list) else [value]:
                steps.append(_switching(faults, name, one, actions, check_first))
    return steps


def _clearing(faults: Faults, value: Any) -> Callable[[], None]:
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list) or not all(n == "all" or n in [*CATALOG] for n in names):
        raise BadFault('clear: expected "all", the name of a fault, or a list of names')

    def step() -> None:
        for name in names:
            faults.clear(None if name == "all" else name)

    return step


def _switching(
    faults: Faults, name: str, value: Any, actions: Mapping[str, Act], check_first: Act | None
) -> Callable[[], None]:
    if _means_off(name, value):
        return lambda: faults.clear(name)
    rule = read(name, value)
    if check_first is not None:
        check_first(rule)
    spec, act = CATALOG[name], actions.get(name)

    def step() -> None:
        if act is not None:
            act(rule)
        if spec.nature == "action" or name in NOTED:
            faults.note(name)
        if spec.nature != "action" or rule.until_s is not None:
            faults.add(rule)

    return step


def _means_off(name: str, value: Any) -> bool:
    if name in SWITCHES:
        return value is None
    return value is None or value == 0 or (name == "status" and value == "active")


def read(name: str, value: Any) -> Rule:
    """One rule out of a bare value or an object. Raises BadFault."""
    spec = CATALOG[name]
    given = dict(value) if isinstance(value, Mapping) else _bare(name, spec, value)
    known = _keys(name, spec)
    for key in given:
        if key not in known:
            raise BadFault(f"{name}: it takes no {key!r}; known: {', '.join(known) or 'none'}")
    checked = {key: known[key].check(f"{name}.{key}", item) for key, item in given.items()}
    for key in spec.required:
        if key not in checked:
            raise BadFault(f"{name}: {key} is missing")
    parameters = {key: checked.pop(key, param.default) for key, param in spec.params.items()}
    for_s = checked.pop("for_s", DEFAULT_DOWN_S if name in ("maintenance", "restart") else None)
    rule = Rule(name, parameters, is_state=spec.nature == "state", **checked)
    if for_s is not None:
        rule.until_s = monotonic() + for_s
    elif spec.nature == "occasion" and "count" not in checked and "probability" not in checked:
        rule.count = 1
    if name == "cut" and rule.scope not in CUT_SCOPES:
        raise BadFault(f"cut: expected one of {', '.join(CUT_SCOPES)}, got {rule.scope!r}")
    return rule


def _keys(name: str, spec: Spec) -> dict[str, Param]:
    """What a fault looks at: a key that would change nothing is refused."""
    matching = [*_CHOOSES.get(name, ())]
    if spec.nature != "action" and name not in NOTED:
        matching += ["skip", "count", "probability"]
    if spec.nature != "action" or spec.main == "for_s":
        matching.append("for_s")
    return {**{key: _MATCHING[key] for key in matching}, **spec.params}


def _bare(name: str, spec: Spec, value: Any) -> dict[str, Any]:
    if value is True and name not in SWITCHES:
        return {}
    if spec.main is None:
        raise BadFault(f"{name}: expected true, false or an object, got {value!r}")
    return {spec.main: value}
