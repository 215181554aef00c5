"""What a run leaves behind so that it can be run again: messages, inputs, facts about orders, decisions.

Everything goes, in the order in which the loop met it, into one `RecordFile`. The order tracker and the
journal read no clock of their own here: they get the time their newest record bears, so that whoever reads
the records again has it too. No signature is written, and of a login nothing but that there was one.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

import orjson
from pydantic import TypeAdapter

from nadofast.events import FillEvent, OrderUpdateEvent
from nadofast.gateway import GatewayConfig
from nadofast.network import Network
from nadofast.orders import OrderTracker, OutcomeFacts, TrackedOrder
from nadofast.tape import Kind
from nadofast.upstream import FeedConfig

from .config import Settings
from .inputs import Entry
from .journal import Journal, JournalConfig
from .model import Action, PairState, Plan
from .recordfile import RecordConfig, RecordFile

SIGNATURE: Final = re.compile(rb"0x[0-9a-fA-F]{128,}")
REDACTED: Final = b"0x-"
LOGIN: Final = b'"authenticate"'
ORDER_FIELDS: Final = (
    "digest", "product_id", "sender", "price_x18", "amount_x18", "expiration_s", "nonce", "appendix",
    "client_id",
)  # fmt: skip
FACTS: Final = (
    "adopt", "restore", "on_gap", "on_sent", "on_outcome", "on_fill", "on_order_update", "on_cancelled",
    "on_resent", "on_last_word", "on_resting", "on_absent", "on_archived",
)  # fmt: skip
"""What changes a tracker."""
PLAN: Final = TypeAdapter(Plan)
STATE: Final = TypeAdapter(PairState)
HASH_BYTES: Final = 8


class Recording:
    """A tap for feed, gateway and REST; `entry` and `decided` for the `InputLog`; `tracker()`, `journal()`.

    failure: why nothing is recorded any more. From then on `entry` raises OSError, which blocks entries and
    no exit; everything else goes on. Raises OSError if the directory cannot be used.
    """

    def __init__(self, directory: Path, config: RecordConfig | None = None) -> None:
        self._file = RecordFile(directory, config)
        self._channels: dict[str, bytes] = {}
        self._state: PairState | None = None
        self.now_ns = time.monotonic_ns()
        self.wall_ns = time.time_ns()

    @property
    def path(self) -> Path:
        return self._file.path

    @property
    def failure(self) -> str | None:
        return self._file.failure

    @property
    def records(self) -> int:
        return self._file.records

    def close(self, reason: str = "closed") -> None:
        """Say that this is the end, and write what waits."""
        self._put(Kind.END, _json({"reason": reason}))
        self._file.close()

    # ------------------------------------------------------------------ the wire

    def received(self, link: str, at_ns: int, message: bytes) -> None:
        """See `Tap`."""
        self._put(Kind.RECEIVED, self._channel(link) + redact(message), at_ns)

    def sent(self, link: str, message: bytes) -> None:
        """See `Tap`."""
        self._put(Kind.SENT, self._channel(link) + redact(message))

    def core_call(self, name: str, arguments: Sequence[Any]) -> None:
        """See `Tap`."""
        self._put(Kind.CORE, _json([name, arguments]))

    def _channel(self, link: str) -> bytes:
        number = self._channels.get(link)
        if number is None:
            number = self._channels[link] = bytes([len(self._channels)])
            self._put(Kind.CHANNEL, _json({"number": number[0], "name": link}))
        return number

    # ------------------------------------------------------------------ the strategy

    def setup(self, plan: Plan, network: Network) -> None:
        """What the run was asked to do, before its first order."""
        head = {
            "chain_id": network.chain_id,
            "network": network.name,
            "plan": PLAN.dump_python(plan, mode="json"),
        }
        self._put(Kind.SETUP, json.dumps(head).encode())

    def entry(self, entry: Entry) -> None:
        """For `InputLog.record`. Raises OSError when the recording has failed."""
        self._file.put(Kind.INPUT, entry.at_ns, _json([entry.seq, entry.kind, entry.value]))

    def decided(self, before: PairState, after: PairState, actions: Sequence[Action]) -> None:
        """For `InputLog.on_decision`."""
        if before is not self._state:  # set from outside: the first one, or one that was taken up
            self._put(Kind.STATE, STATE.dump_json(before))
        self._state = after
        self._put(Kind.DECIDED, decision(after, actions))

    # ------------------------------------------------------------------ orders and journal

    def tracker(self) -> OrderTracker:
        """One that keeps every fact it is told."""
        return RecordedTracker(self)

    def order_fact(self, name: str, arguments: Sequence[Any], named: Mapping[str, Any]) -> None:
        """A call that changes the tracker."""
        self._stamp()
        record = [name, self.wall_ns, [_plain(one) for one in arguments], dict(named)]
        self._put(Kind.ORDER, json.dumps(record).encode(), self.now_ns)

    def journal(self, path: Path, *, account: str, config: JournalConfig) -> Journal:
        """As `Journal`. Raises JournalError."""
        return RecordedJournal(self, path, account=account, config=config)

    def journal_opens(self, path: Path, account: str, config: JournalConfig) -> None:
        """What it holds already; its lines from now on follow."""
        self._stamp()
        with contextlib.suppress(OSError):
            # Deflated, because a large one would fill the buffer that the first entry needs.
            before = zlib.compress(path.read_bytes() if path.is_file() else b"", level=1)
            head = {
                "open": account, "wall_ns": self.wall_ns, "config": asdict(config),
                "before_zlib": base64.b64encode(before).decode(),
            }  # fmt: skip
            self._put(Kind.JOURNAL, _json(head), self.now_ns)

    def journal_records(self, digests: list[str]) -> None:
        """The intents of these orders are about to be written."""
        self._stamp()
        self._put(Kind.JOURNAL, _json({"record": digests, "wall_ns": self.wall_ns}), self.now_ns)

    def journal_line(self, line: bytes) -> None:
        """It was written."""
        self._put(Kind.LINE, line)

    # ------------------------------------------------------------------ parts

    def _stamp(self) -> None:
        self.now_ns, self.wall_ns = time.monotonic_ns(), time.time_ns()

    def _put(self, kind: Kind, payload: bytes, at_ns: int | None = None) -> None:
        with contextlib.suppress(OSError):  # kept as `failure`
            self._file.put(kind, time.monotonic_ns() if at_ns is None else at_ns, payload)


class RecordedTracker(OrderTracker):
    """Tells a recording of every fact, then takes it. Its clock is the time of the newest record."""

    def __init__(self, recording: Recording) -> None:
        super().__init__(clock_ns=lambda: recording.now_ns)
        self.recording = recording


def _told(name: str) -> Callable[..., Any]:
    take = getattr(OrderTracker, name)

    def method(self: RecordedTracker, *arguments: Any, **named: Any) -> Any:
        self.recording.order_fact(name, arguments, named)
        return take(self, *arguments, **named)

    return method


for _name in FACTS:
    setattr(RecordedTracker, _name, _told(_name))


class RecordedJournal(Journal):
    """Tells a recording what it is asked for and every line it writes."""

    def __init__(self, recording: Recording, path: Path, *, account: str, config: JournalConfig) -> None:
        self._recording = recording
        recording.journal_opens(path, account, config)
        super().__init__(path, account=account, config=config, wall_ns=lambda: recording.wall_ns)

    def record_all(self, orders: Sequence[TrackedOrder]) -> None:
        self._recording.journal_records([order.digest for order in orders])
        super().record_all(orders)

    def _append(self, *lines: bytes) -> None:
        super()._append(*lines)
        for line in lines:
            self._recording.journal_line(line)


def decision(after: PairState, actions: Sequence[Action]) -> bytes:
    """A decision as it is compared: a hash of state and actions, then the actions, if any, to be read."""
    said = repr(list(actions)).encode() if actions else b""
    return hashlib.blake2b(repr(after).encode() + said, digest_size=HASH_BYTES).digest() + said


def redact(message: bytes) -> bytes:
    """The message without what would be worth stealing."""
    if LOGIN in message:
        return b'{"method":"authenticate"}'
    return SIGNATURE.sub(REDACTED, message) if b"0x" in message else message


def feed_config(settings: Settings, tap: Recording | None) -> FeedConfig:
    """As it is set, with somebody listening if there is one."""
    usual, websocket = FeedConfig(), settings.websocket
    ages = replace(
        usual.fallback,
        market_age_s=websocket.rest_market_age_s, account_age_s=websocket.rest_account_age_s,
    )  # fmt: skip
    return replace(
        usual, link=replace(usual.link, tap=tap), query_link=replace(usual.query_link, tap=tap),
        fallback=ages, websocket=websocket.enabled,
    )  # fmt: skip


def gateway_config(settings: Settings, tap: Recording | None) -> GatewayConfig:
    """The same for orders."""
    usual = GatewayConfig()
    return replace(
        usual, link=replace(usual.link, tap=tap), websocket=settings.websocket.enabled,
        presign_slack_ms=settings.entry.sign_ahead_ms,
    )  # fmt: skip


def _plain(value: Any) -> Any:
    """An argument of a tracker as JSON."""
    if isinstance(value, TrackedOrder):
        return {"order": {name: getattr(value, name) for name in ORDER_FIELDS}}
    if isinstance(value, FillEvent):
        return {"fill": asdict(value)}
    if isinstance(value, OrderUpdateEvent):
        return {"update": asdict(value)}
    if isinstance(value, OutcomeFacts):
        return {"outcome": asdict(value)}
    return value


def _json(value: Any) -> bytes:
    return orjson.dumps(value)
