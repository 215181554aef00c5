"""A recorded run, run again: the same messages through the compiled core, the same decisions and journal.

Recorded is what came from outside, and when: messages, snapshots, timers, the exchange's word on positions,
facts about orders, nonces. Made anew is what the code makes of it, and each piece is held against the record:

- books and prices, by `FeedCore.receive`; quotes and depths are read from those books;
- orders by digest, by `OrderTracker`; what the strategy sees of an order is read from those;
- decisions, by `machine.decide` on the fold of the inputs;
- digests, from the price and size decided here and the nonce and expiration recorded: the id an order gets
  says that it is the same order. Its signature proves who sent it and nothing else, so no key is needed;
- the journal, by `Journal`, line for line.

A difference is counted and the first one is kept. The run goes on with what was made here.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import orjson
from pydantic import ValidationError

from nadofast import Bbo, OrderBook, OrderTracker, TrackedOrder
from nadofast._core import FeedCore
from nadofast._hash import order_digest
from nadofast.appendix import OrderType, pack_appendix
from nadofast.events import FillEvent, OrderUpdateEvent
from nadofast.fallback import ConnectionMode
from nadofast.orders import OutcomeFacts
from nadofast.signing import domain_separator
from nadofast.tape import Kind, Record
from nadofast.tappedcore import replay_call

from .desk import DeskOrder
from .inputs import Entry, World, depth_value, order_value, quote_value
from .journal import Fsync, Journal, JournalConfig
from .machine import decide
from .market import Market
from .model import Action, PairState, Plan, Replace, Send
from .recording import HASH_BYTES, PLAN, STATE, decision
from .risk import CLIENT_ID_BASE, OrderIntent, Purpose

STREAM: Final = "stream"
"""How connections with market data are called; a second one is "stream 1"."""


class ReplayError(Exception):
    """The recording is none, or not of a run; one line."""


@dataclass(slots=True)
class Replayed:
    """What came out. same, different: how many quotes, orders … were as recorded, or not, by kind.

    first_difference: in words, "" if there is none. recorded_ns: how long the run took by its own clock.
    """

    same: Counter[str] = field(default_factory=Counter)
    different: Counter[str] = field(default_factory=Counter)
    first_difference: str = ""
    decisions: list[bytes] = field(default_factory=list)
    messages: int = 0
    recorded_ns: int = 0

    @property
    def is_identical(self) -> bool:
        return not self.different and self.same["decisions"] > 0

    def compare(self, what: str, made: Any, recorded: Any, at_ns: int) -> None:
        if made == recorded:
            self.same[what] += 1
            return
        self.different[what] += 1
        if not self.first_difference:
            self.first_difference = f"{what} at {at_ns}: made {made!r}, recorded {recorded!r}"


def setup_of(record: Record) -> tuple[Plan, int]:
    """Plan and chain id of a run. Raises ReplayError when they are not as this version writes them."""
    said = json.loads(record.payload)
    try:
        return PLAN.validate_python(said["plan"]), said["chain_id"]
    except KeyError as error:
        raise ReplayError(f"recorded by another version: {error} is missing") from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ReplayError(
            f"recorded by another version: {where} of its plan: {first['msg'].lower()}"
        ) from None


class ReplayedFeed:
    """What a `Market` reads of a feed, from a core that is fed by hand."""

    mode = ConnectionMode.WEBSOCKET

    def __init__(self, core: FeedCore) -> None:
        self._core = core

    def bbo(self, product_id: int) -> Bbo:
        return self._core.bbo(product_id)

    def book(self, product_id: int) -> OrderBook:
        return self._core.book(product_id)

    def last_data_age_ms(self, product_id: int | None = None) -> float:
        return 0.0


class Replay:
    """Give it the records in order by `take`, then ask `result`. journal_path: where the journal is made.

    Nothing here reads a clock, draws a number or opens a socket.
    """

    def __init__(self, journal_path: Path) -> None:
        self.result = Replayed()
        self.clock_ns = 0
        self.wall_ns = 0
        self._journal_path = journal_path
        self._links: dict[int, int] = {}
        self._events: deque[Any] = deque(maxlen=1_000)
        self._core: FeedCore | None = None
        self._market: Market | None = None
        self._plan: Plan | None = None
        self._chain_id = 0
        self._world = World()
        self._state: PairState | None = None
        self._turn_ns: int | None = None
        self._intents: dict[int, OrderIntent] = {}
        self._digests: dict[int, str] = {}
        self._tracker = OrderTracker(clock_ns=lambda: self.clock_ns)
        self._journal: ReplayedJournal | None = None
        self._first_ns: int | None = None
        self._take: Mapping[Kind, Callable[[Record], None]] = {
            Kind.CHANNEL: self._on_channel,
            Kind.RECEIVED: self._on_received,
            Kind.CORE: self._on_core,
            Kind.SETUP: self._on_setup,
            Kind.INPUT: self._on_input,
            Kind.STATE: self._on_state,
            Kind.DECIDED: self._on_decided,
            Kind.ORDER: self._on_order,
            Kind.JOURNAL: self._on_journal,
            Kind.LINE: self._on_line,
            Kind.END: self._on_end,
        }

    def take(self, record: Record) -> None:
        """The next record. Raises ReplayError on one that cannot follow what came so far."""
        if self._first_ns is None:
            self._first_ns = record.at_ns
        self.result.recorded_ns = record.at_ns - self._first_ns
        take = self._take.get(record.kind)
        if take is None:
            return
        try:
            take(record)
        except (KeyError, TypeError, ValueError, IndexError, AttributeError, zlib.error) as error:
            raise ReplayError(
                f"{record.kind.name} at {record.at_ns}: {type(error).__name__}: {error}"
            ) from error

    def close(self) -> None:
        """Let go of the journal."""
        if self._journal is not None:
            self._journal.close()

    @property
    def state(self) -> PairState | None:
        return self._state

    # ------------------------------------------------------------------ market data

    def _on_channel(self, record: Record) -> None:
        said = orjson.loads(record.payload)
        name, _, number = said["name"].partition(" ")
        if name == STREAM:
            self._links[said["number"]] = int(number or 0)

    def _on_received(self, record: Record) -> None:
        link = self._links.get(record.channel)
        if link is not None and self._core is not None:
            self._core.receive(record.message, record.at_ns, link)
            self.result.messages += 1

    def _on_core(self, record: Record) -> None:
        name, arguments = orjson.loads(record.payload)
        if name == "new":
            self._core = FeedCore(arguments, on_event=self._events.append)
        elif self._core is not None:
            replay_call(self._core, name, arguments)

    def _on_setup(self, record: Record) -> None:
        if self._core is None:
            raise ReplayError("there is no market data in it")
        self._plan, self._chain_id = setup_of(record)
        self._market = Market(ReplayedFeed(self._core), self._plan.products)  # type: ignore[arg-type]

    # ------------------------------------------------------------------ inputs and decisions

    def _on_input(self, record: Record) -> None:
        seq, kind, value = orjson.loads(record.payload)
        if self._market is None:
            raise ReplayError("it begins in the middle: give the first file of the run")
        self._expect_no_decision(record.at_ns)
        made = self._made(kind, value)
        if made is not None:
            self.result.compare(f"{kind}s", made, value, record.at_ns)
            value = made
        self._world.apply(Entry(seq, record.at_ns, kind, value))
        if kind == "turn":
            self._turn_ns = record.at_ns

    def _made(self, kind: str, value: Mapping[str, Any]) -> dict[str, Any] | None:
        """The same input as it is known here; None for what only the outside knows."""
        assert self._market is not None
        assert self._plan is not None
        if kind == "order":
            return self._made_order(value)
        if kind not in ("quote", "depth"):
            return None
        product_id = self._plan.products[value["leg"]].product_id
        if kind == "quote":
            quote = self._market.quote(product_id)
            return quote_value(value["leg"], quote.bid_x18, quote.ask_x18)
        return depth_value(value["leg"], self._market.depth(product_id))

    def _made_order(self, value: Mapping[str, Any]) -> dict[str, Any] | None:
        intent = self._intents.get(value["tag"])
        if intent is None or value["denied"] is not None:  # the gate's word, or nobody's decision
            return None
        tracked = self._tracker.get(self._digests.get(intent.tag, ""))
        return order_value(value["leg"], DeskOrder(intent, 0, 0, tracked=tracked).view())

    def _on_state(self, record: Record) -> None:
        self._state = STATE.validate_json(record.payload)

    def _on_decided(self, record: Record) -> None:
        made = self._decide()
        recorded = record.payload
        if made is None:
            raise ReplayError(f"a decision without a turn at {record.at_ns}")
        self.result.compare("decisions", made, recorded, record.at_ns)

    def _expect_no_decision(self, at_ns: int) -> None:
        """A turn whose decision was not recorded, though more was: it failed there, and does not here."""
        if (made := self._decide()) is not None:
            self.result.compare("decisions", made, b"nothing", at_ns)

    def _decide(self) -> bytes | None:
        """On the turn that waits, if one does."""
        if self._turn_ns is None or self._state is None or self._plan is None:
            return None
        now_ns, self._turn_ns = self._turn_ns, None
        self._state, actions = decide(self._state, self._world.inputs(now_ns), self._plan, now_ns)
        self._remember(actions)
        made = decision(self._state, actions)
        if len(made) > HASH_BYTES:
            self.result.decisions.append(made[HASH_BYTES:])
        return made

    def _remember(self, actions: Iterable[Action]) -> None:
        for action in actions:
            if isinstance(action, Send):
                self._intents.update({intent.tag: intent for intent in action.intents})
            elif isinstance(action, Replace):
                self._intents[action.intent.tag] = action.intent

    # ------------------------------------------------------------------ orders

    def _on_order(self, record: Record) -> None:
        name, wall_ns, arguments, named = json.loads(record.payload)
        self.clock_ns, self.wall_ns = record.at_ns, wall_ns
        values = [self._value(one, record.at_ns) for one in arguments]
        getattr(self._tracker, name)(*values, **named)

    def _value(self, value: Any, at_ns: int) -> Any:
        """An argument of a tracker from its JSON."""
        if not isinstance(value, dict):
            return value
        ((kind, fields),) = value.items()
        match kind:
            case "fill":
                return self._told(FillEvent(**fields), at_ns)
            case "update":
                return self._told(OrderUpdateEvent(**fields), at_ns)
            case "outcome":
                return OutcomeFacts(**fields)
            case "order":
                return self._signed(fields, at_ns)
        raise ValueError(f"unknown value {kind!r}")

    def _told(self, event: Any, at_ns: int) -> Any:
        """The event as the stream told it here, if it did; else it was read from the archive, which may say
        when a fill was less exactly, but not what it was."""
        for seen in reversed(self._events):
            if seen == event:
                self.result.same["events of the stream"] += 1
                return seen
            if isinstance(event, FillEvent) and isinstance(seen, FillEvent) and seen.key == event.key:
                if (made := _trade(seen)) != (told := _trade(event)):
                    self.result.compare("fills", made, told, at_ns)
                break
        self.result.same["events of the archive"] += 1
        return event

    def _signed(self, fields: dict[str, Any], at_ns: int) -> TrackedOrder:
        """The order as it was decided here, with the nonce and the expiration it got then."""
        tag = (fields["client_id"] or 0) - CLIENT_ID_BASE
        intent = self._intents.get(tag)
        made = dict(fields)
        if intent is None:
            self.result.same["orders not decided by the machine"] += 1
        else:
            order_type = OrderType.POST_ONLY if intent.ttl_ms else OrderType.IOC
            made |= {
                "product_id": intent.product_id,
                "price_x18": intent.price_x18,
                "amount_x18": intent.amount_x18,
                "appendix": pack_appendix(order_type, reduce_only=intent.purpose is Purpose.TAKE),
            }
        digest = order_digest(
            domain_separator(self._chain_id, f"0x{made['product_id']:040x}"),
            bytes.fromhex(made["sender"][2:]),
            made["price_x18"], made["amount_x18"], made["expiration_s"], made["nonce"], made["appendix"],
        )  # fmt: skip
        made["digest"] = "0x" + digest.hex()
        self.result.compare("digests", made["digest"], fields["digest"], at_ns)
        self._digests[tag] = made["digest"]
        return TrackedOrder(**made)

    # ------------------------------------------------------------------ journal

    def _on_journal(self, record: Record) -> None:
        said = orjson.loads(record.payload)
        self.clock_ns, self.wall_ns = record.at_ns, said["wall_ns"]
        if "record" in said:
            digests = [said["record"]] if isinstance(said["record"], str) else said["record"]
            orders = [self._tracker.get(digest) for digest in digests]
            known = [order for order in orders if order is not None]
            if len(known) != len(orders) or self._journal is None:
                self.result.compare("journal lines", "no such order", said["record"], record.at_ns)
            else:
                self._journal.record_all(known)
            return
        self._journal_path.parent.mkdir(parents=True, exist_ok=True)
        self._journal_path.write_bytes(zlib.decompress(base64.b64decode(said["before_zlib"])))
        config = JournalConfig(**{**said["config"], "fsync": Fsync.NONE})
        self._journal = ReplayedJournal(
            self._journal_path, account=said["open"], config=config, wall_ns=lambda: self.wall_ns
        )
        self._tracker.on_change(self._journal.note)

    def _on_line(self, record: Record) -> None:
        lines = self._journal.lines if self._journal is not None else deque()
        made = lines.popleft() if lines else b"nothing"
        self.result.compare("journal lines", made, record.payload, record.at_ns)

    def _on_end(self, record: Record) -> None:
        """All of the run was recorded: what is made here beyond it is a difference."""
        self._expect_no_decision(record.at_ns)
        for line in self._journal.lines if self._journal is not None else ():
            self.result.compare("journal lines", line, b"nothing", record.at_ns)


def _trade(fill: FillEvent) -> tuple[object, ...]:
    """What a fill was, whoever tells of it."""
    return fill.product_id, fill.filled_qty_x18, fill.price_x18, fill.is_taker, fill.is_bid, fill.fee_x18


class ReplayedJournal(Journal):
    """Keeps what it has written until that was compared."""

    def __init__(self, path: Path, **named: Any) -> None:
        self.lines: deque[bytes] = deque()
        super().__init__(path, **named)

    def _append(self, *lines: bytes) -> None:
        super()._append(*lines)
        self.lines.extend(lines)
