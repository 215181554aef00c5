"""What is changed in a what-if, what came of it, and what the recorded run itself came to."""

from __future__ import annotations

import io
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, Final

from nadofast.events import FillEvent
from nadofast.products import from_x18, mul_x18, to_x18
from nadofast.tape import Kind, Reader, Record

from .ledger import Ledger
from .model import EntryMode, PairState, Plan
from .recordfile import RecordingReader
from .recording import STATE
from .replay import ReplayError, setup_of
from .units import NS_PER_MS, NS_PER_S

Source = Path | tuple[bytes, ...]
"""A recording: its first file, or the contents of its files."""


@dataclass(frozen=True, slots=True)
class Variant:
    """What is changed, by name; as text, so that it can be sent and shown. latency_ms is one way.

    size_usd, entry_cap_bps, exit_cap_bps, leg_deadline_s, maker_timeout_s (0: exits cross at once), hold_s,
    reprice_ms, move_in_one_step (0, 1), entry_mode (ioc, maker_then_ioc), latency_ms; or `plan.NAME`, any
    whole number of the plan.
    """

    changes: tuple[tuple[str, str], ...] = ()

    @property
    def name(self) -> str:
        return " ".join(f"{name}={value}" for name, value in self.changes) or "as recorded"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a variant came to. Money is exact, x18; times in ns. end: why it ended, "" at the recording's end.

    open_x18: what was still held then, valued at the last mid in `net_x18`.
    """

    name: str
    cycles: int = 0
    complete: int = 0
    skipped: int = 0
    net_x18: int = 0
    fees_x18: int = 0
    volume_x18: int = 0
    exit_x18: int = 0
    exit_maker_x18: int = 0
    cycle_ns: int = 0
    unhedged_ns: int = 0
    open_x18: int = 0
    end: str = ""

    @property
    def net_bps(self) -> Decimal | None:
        return Decimal(self.net_x18) * 10_000 / self.volume_x18 if self.volume_x18 else None


class VariantError(ValueError):
    """A change that is not known or has no such value."""


SETTERS: Final[Mapping[str, Callable[[Plan, Decimal], Plan]]] = {
    "size_usd": lambda plan, v: replace(plan, ladder=(), sizing=replace(plan.sizing, budget_x18=to_x18(v))),
    "entry_cap_bps": lambda plan, v: replace(
        plan, entry_cap_bps=int(v), sizing=replace(plan.sizing, cap_bps=int(v))
    ),
    "exit_cap_bps": lambda plan, v: replace(plan, exit_cap_bps=int(v)),
    "leg_deadline_s": lambda plan, v: replace(plan, leg_deadline_ns=int(v * NS_PER_S)),
    "maker_timeout_s": lambda plan, v: replace(plan, maker_timeout_ms=int(v * 1_000)),
    "hold_s": lambda plan, v: replace(plan, hold_ns=int(v * NS_PER_S)),
    "move_in_one_step": lambda plan, v: replace(plan, moves_in_one_step=bool(v)),
    "reprice_ms": lambda plan, v: replace(plan, reprice_ns=int(v * NS_PER_MS)),
}
LATENCY: Final = "latency_ms"
ENTRY_MODE: Final = "entry_mode"
MOST: Final = 10**12
DEFAULT_LATENCY_NS: Final = NS_PER_MS


def changed(plan: Plan, variant: Variant) -> tuple[Plan, int]:
    """The plan of a variant, and its latency one way in ns. Raises VariantError."""
    latency_ns, numbers = DEFAULT_LATENCY_NS, {one.name for one in fields(Plan) if one.type in ("int", int)}
    for name, text in variant.changes:
        if name == ENTRY_MODE:
            plan = replace(plan, entry_mode=_mode(text))
            continue
        try:
            value = Decimal(text)
            field = name.removeprefix("plan.")
            if not value.is_finite() or not 0 <= value <= MOST:
                raise VariantError(f"{name}={text} is out of range")
            if name == LATENCY:
                latency_ns = int(value * NS_PER_MS)
            elif name in SETTERS:
                plan = SETTERS[name](plan, value)
            elif field != name and field in numbers:
                plan = replace(plan, **{field: int(value)})  # type: ignore[arg-type]
            else:
                known = ", ".join([*SETTERS, ENTRY_MODE, LATENCY])
                raise VariantError(f"{name} cannot be changed; known: {known}, plan.NAME")
        except InvalidOperation:
            raise VariantError(f"{name}={text}: no number") from None
    return plan, latency_ns


def _mode(text: str) -> EntryMode:
    try:
        return EntryMode(text)
    except ValueError:
        known = ", ".join(EntryMode)
        raise VariantError(f"{ENTRY_MODE}={text}: known: {known}") from None


def variants(texts: Iterable[str]) -> list[Variant]:
    """Every combination of `NAME=V1,V2,…`. Raises VariantError on a text of another form."""
    axes = []
    for text in texts:
        name, equals, values = text.partition("=")
        if not equals or not all(values.split(",")):
            raise VariantError(f"{text!r} is not NAME=VALUE,VALUE,…")
        axes.append([(name.strip(), value.strip()) for value in values.split(",")])
    return [Variant(combination) for combination in itertools.product(*axes)]


def records(source: Source | RecordingReader) -> Iterator[Record]:
    """The records of a recording, up to where it is damaged. Raises OSError."""
    if isinstance(source, tuple):
        for part in source:
            reader = Reader(io.BytesIO(part))
            yield from reader
            if reader.damage:
                return
    else:
        yield from RecordingReader(source) if isinstance(source, Path) else source


def recorded(source: Source | RecordingReader) -> Outcome:
    """What the recorded run itself came to, by the fills it was told, each once. Raises ReplayError."""
    run: _OwnRun | None = None
    for record in records(source):
        if record.kind is Kind.SETUP:
            run = _OwnRun(setup_of(record)[0])
        elif run is not None and record.kind is Kind.STATE:
            run.start(STATE.validate_json(record.payload))
        elif run is not None and record.kind is Kind.ORDER:
            run.learn(*json.loads(record.payload))
    if run is None:
        raise ReplayError("it holds no run: nothing to compare with")
    return run.outcome()


class _OwnRun:
    """The fills of a recorded run, added up. What it found open and took over is in `_held_x18` alone."""

    def __init__(self, plan: Plan) -> None:
        self._ids = tuple(product.product_id for product in plan.products)
        self._ledger = Ledger(self._ids)
        self._held_x18 = dict.fromkeys(self._ids, 0)
        self._has_started = False
        self._orders: set[str] = set()
        self._marks: dict[int, int] = {}
        self._exit_x18 = self._maker_x18 = 0

    def start(self, state: PairState) -> None:
        """The first state of the machine; later ones are what fills and the exchange made of it."""
        if not self._has_started:
            for product_id, leg in zip(self._ids, state.legs, strict=True):
                self._held_x18[product_id] += leg.held_x18
        self._has_started = True

    def learn(self, name: str, wall_ns: int, arguments: list[Any], named: Mapping[str, Any]) -> None:
        """A fact about orders."""
        if name == "adopt":
            self._orders.add(arguments[0]["order"]["digest"])
        elif name == "on_fill" and arguments[0]["fill"]["order_digest"] in self._orders:
            fill = FillEvent(**arguments[0]["fill"])
            if self._ledger.apply(fill):
                self._count(fill)

    def _count(self, fill: FillEvent) -> None:
        held_x18, qty_x18 = self._held_x18[fill.product_id], fill.filled_qty_x18
        self._held_x18[fill.product_id] += qty_x18 if fill.is_bid else -qty_x18
        self._marks[fill.product_id] = fill.price_x18
        if held_x18 != 0 and (held_x18 > 0) != fill.is_bid:
            notional_x18 = mul_x18(qty_x18, fill.price_x18)
            self._exit_x18 += notional_x18
            self._maker_x18 += 0 if fill.is_taker else notional_x18

    def outcome(self) -> Outcome:
        pnl = self._ledger.pnl(self._marks)
        open_x18 = sum(
            abs(mul_x18(held, self._marks.get(product_id, 0))) for product_id, held in self._held_x18.items()
        )
        return Outcome(
            "the run itself", net_x18=pnl.net_x18, fees_x18=pnl.fees_x18, volume_x18=pnl.volume_x18,
            exit_x18=self._exit_x18, exit_maker_x18=self._maker_x18, open_x18=open_x18,
        )  # fmt: skip


def figures(outcome: Outcome) -> dict[str, str]:
    """An outcome as people read it."""
    cycles = outcome.complete or 1
    maker = f"{100 * outcome.exit_maker_x18 / outcome.exit_x18:.0f} %" if outcome.exit_x18 else "-"
    timed = outcome.complete > 0
    return {
        "variant": outcome.name,
        "cycles": f"{outcome.complete}/{outcome.cycles}" if outcome.cycles else "-",
        "net USD": f"{from_x18(outcome.net_x18):+.4f}",
        "bps": "-" if outcome.net_bps is None else f"{outcome.net_bps:+.2f}",
        "fees USD": f"{from_x18(outcome.fees_x18):.4f}",
        "volume USD": f"{from_x18(outcome.volume_x18):.0f}",
        "maker exits": maker,
        "cycle s": f"{outcome.cycle_ns / cycles / 1e9:.2f}" if timed else "-",
        "one leg s": f"{outcome.unhedged_ns / max(1, outcome.cycles) / 1e9:.2f}" if outcome.cycles else "-",
        "open USD": f"{from_x18(outcome.open_x18):.0f}",
        "end": outcome.end or "-",
    }
