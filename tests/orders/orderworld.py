"""A small exchange and the network before it, in virtual time: what the gateway's promises are tried against.

The exchange is a dictionary by digest and a few rules, written from the protocol and not from the client. The
network loses, repeats, delays and reorders what it carries, in both directions, as a seed says.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from nadofast import TimeSample, TimeSync, models
from nadofast.errors import ConnectionLost, ExchangeError, NotConnected, RequestTimeout
from nadofast.events import FillEvent, OrderUpdateEvent

EPOCH_MS = 1_790_000_000_000
HOLD_S = 0.030


@dataclass
class Entry:
    """One order at the exchange. filled is absolute."""

    digest: str
    client_id: int
    sender: str
    product_id: int
    price: int
    amount: int
    appendix: int
    nonce: int
    is_taker: bool
    filled: int = 0
    rests: bool = False
    fills: list[tuple[int, int, float]] = field(default_factory=list)
    balances: list[models.PerpBalance] = field(default_factory=list)

    @property
    def left(self) -> int:
        return abs(self.amount) - self.filled


class ModelExchange:
    """orders: by digest, every order that ever entered. publish(event): the private stream."""

    def __init__(
        self,
        loop: Any,
        rng: random.Random,
        digest_of: Callable[[Any], str],
        *,
        refills: bool,
        archive_lag_s: float,
    ) -> None:
        self._loop, self._rng, self._digest_of = loop, rng, digest_of
        self._refills = refills
        self._lag_s = archive_lag_s
        self.orders: dict[str, Entry] = {}
        self._held: set[str] = set()
        self._index = 0
        self.balance = models.PerpBalance(4, 0, 0, 0)
        self.is_silent = False
        self.publish: Callable[[Any], None] = lambda _: None
        self.down_until_s = 0.0

    def now_ms(self) -> int:
        return EPOCH_MS + int(self._loop.time() * 1000)

    async def execute(self, message: dict[str, Any]) -> dict[str, Any]:
        """The envelope of an execute, after its hold."""
        kind, body = next(iter(message.items()))
        tag = {"signature": body.get("signature")}
        code, data = 0, None
        if self._loop.time() < self.down_until_s:
            code = 1004
        elif kind == "cancel_orders":
            code, data = self._cancel(body["tx"])
        else:
            code, data = await self._place(body)
        if code:
            return {"status": "failure", "error": "no", "error_code": code, **tag}
        return {"status": "success", "data": data, **tag}

    async def _place(self, body: dict[str, Any]) -> tuple[int, Any]:
        order = body["order"]
        digest, nonce, appendix = self._digest_of(body), int(order["nonce"]), int(order["appendix"])
        if self.now_ms() >= nonce >> 20:
            return 2011, None
        known = self.orders.get(digest)
        if digest in self._held or (
            known is not None and (known.rests or known.left == 0 or not self._refills)
        ):
            return 2013, None
        self._held.add(digest)
        is_taker = appendix >> 9 & 3 == 1
        if is_taker:
            await asyncio.sleep(HOLD_S)
        self._held.discard(digest)
        if self._loop.time() < self.down_until_s:
            return 1004, None
        entry = known or Entry(
            digest,
            body["id"],
            order["sender"],
            body["product_id"],
            int(order["priceX18"]),
            int(order["amount"]),
            appendix,
            nonce,
            is_taker,
        )
        self.orders[digest] = entry
        if is_taker and self._rng.random() < 0.2:
            return 2056, None
        if is_taker:
            self._match(entry, self._rng.choice((0, 30, 100)))
            if entry.left:
                self._tell(entry, "cancelled", 0)
        else:
            entry.rests = True
            self._tell(entry, "placed", entry.left)
            for _ in range(self._rng.randrange(3)):
                self._loop.call_later(self._rng.uniform(0, 2), self._hit, entry)
        return 0, {"digest": digest}

    def _cancel(self, tx: dict[str, Any]) -> tuple[int, Any]:
        entry = self.orders.get(tx["digests"][0])
        if entry is None or not entry.rests:
            return 2020, None
        entry.rests = False
        self._tell(entry, "cancelled", 0)
        row = {
            "digest": entry.digest, "product_id": entry.product_id, "sender": entry.sender,
            "price_x18": str(entry.price), "amount": str(entry.amount),
            "expiration": "1", "nonce": str(entry.nonce),
            "appendix": str(entry.appendix), "order_type": "post_only", "placed_at": 1,
            "unfilled_amount": str(entry.left if entry.amount > 0 else -entry.left),
        }  # fmt: skip
        return 0, {"cancelled_orders": [row]}

    def _hit(self, entry: Entry) -> None:
        if entry.rests:
            self._match(entry, self._rng.choice((25, 60, 100)))

    def _match(self, entry: Entry, percent: int) -> None:
        quantity = entry.left * percent // 100
        if not quantity:
            return
        entry.filled += quantity
        self._index += 1
        index = self._index
        entry.fills.append((index, quantity, self._loop.time()))
        side = 1 if entry.amount > 0 else -1
        quote = -side * (quantity * entry.price // 10**18) - quantity // 1000
        self.balance = models.PerpBalance(
            4, self.balance.amount_x18 + side * quantity, self.balance.v_quote_x18 + quote, 0
        )
        entry.balances.append(self.balance)
        entry.rests = entry.rests and entry.left > 0
        self._tell(entry, "filled", entry.left)
        self.publish(self._fill(entry, index, quantity))

    def _fill(self, entry: Entry, index: int, quantity: int) -> FillEvent:
        return FillEvent(
            entry.product_id,
            self._stamp(),
            entry.sender,
            entry.digest,
            entry.appendix,
            quantity,
            entry.left,
            abs(entry.amount),
            entry.price,
            entry.is_taker,
            entry.amount > 0,
            quantity // 1000,
            index,
            entry.client_id,
        )

    def _tell(self, entry: Entry, reason: str, amount: int) -> None:
        self.publish(
            OrderUpdateEvent(entry.product_id, self._stamp(), entry.digest, amount, reason, entry.client_id)
        )

    def _stamp(self) -> int:
        self._index += 1
        return self.now_ms() * 1_000_000 + self._index

    # ---- questions

    def query_order(self, digest: str) -> models.OpenOrder:
        entry = self.orders.get(digest)
        if entry is None or not entry.rests:
            raise ExchangeError(2020, "not found", "order")
        return self._row(entry)

    def open_orders(self, product_id: int) -> list[models.OpenOrder]:
        return [self._row(e) for e in self.orders.values() if e.rests and e.product_id == product_id]

    def _row(self, entry: Entry) -> models.OpenOrder:
        left = entry.left if entry.amount > 0 else -entry.left
        return models.OpenOrder(
            entry.digest,
            entry.product_id,
            entry.sender,
            entry.price,
            entry.amount,
            left,
            1,
            entry.nonce,
            entry.appendix,
            "x",
            1,
            entry.client_id,
        )

    def archived(self, digest: str) -> list[models.ArchivedOrder]:
        entry, seen = self.orders.get(digest), self._loop.time() - self._lag_s
        filled = sum(quantity for _, quantity, at in entry.fills if at <= seen) if entry else 0
        if entry is None or not filled:
            return []
        side = 1 if entry.amount > 0 else -1
        return [
            models.ArchivedOrder(
                digest, entry.sender, entry.product_id, entry.amount, side * filled, 0, 0, 0, 0
            )
        ]

    def matches(self) -> list[models.ArchivedMatch]:
        seen = self._loop.time() - self._lag_s
        rows = [
            models.ArchivedMatch(
                digest=e.digest, sender=e.sender, product_id=e.product_id, price_x18=e.price,
                cumulative_base_x18=0, base_filled_x18=quantity if e.amount > 0 else -quantity,
                quote_filled_x18=0, fee_x18=quantity // 1000, submission_idx=index, is_taker=e.is_taker,
                isolated=False, timestamp_s=EPOCH_MS // 1000 + int(at), appendix=e.appendix,
                amount_x18=e.amount, balance_after=balance,
            )
            for e in self.orders.values()
            for (index, quantity, at), balance in zip(e.fills, e.balances, strict=True) if at <= seen
        ]  # fmt: skip
        return sorted(rows, key=lambda row: -row.submission_idx)

    def newest_s(self) -> int:
        """Somebody trades every 0.2 s, unless the market is silent."""
        if self.is_silent:
            return max((row.timestamp_s for row in self.matches()), default=0)
        return (EPOCH_MS // 1000) + int((self._loop.time() - self._lag_s) * 5) // 5


@dataclass
class Storm:
    """Shares of what goes wrong; all zero once it is over. rest_up: HTTP itself works."""

    lose_request: float = 0.0
    lose_answer: float = 0.0
    duplicate: float = 0.0
    slow: float = 0.0
    cut: float = 0.0
    rate: float = 0.0
    query_only: float = 0.0
    rest_fails: float = 0.0

    @staticmethod
    def seeded(rng: random.Random) -> Storm:
        return Storm(*(rng.choice((0.0, 0.0, 0.1, 0.3)) for _ in range(7)), rng.choice((0.0, 0.0, 0.3)))

    def strikes(self, name: str, rng: random.Random) -> bool:
        """Whether this goes wrong now."""
        if rng.random() >= getattr(self, name):
            return False
        self.on_strike(name)
        return True

    @staticmethod
    def on_strike(name: str) -> None:
        """Told of every one; replaced by whoever counts them."""

    def calm(self) -> None:
        for name in self.__dataclass_fields__:
            setattr(self, name, 0.0)


class ModelLink:
    """Stands for the concurrent socket."""

    name = "model"
    last_error = ""
    connects = 1

    def __init__(self, loop: Any, rng: random.Random, exchange: ModelExchange, storm: Storm) -> None:
        self._loop, self._rng, self._exchange, self._storm = loop, rng, exchange, storm
        self._down_until_s = 0.0
        self.is_dead = False
        self.on_text: Callable[[bytes], None] = lambda _: None
        self.on_lost: Callable[[str], None] = lambda _: None
        self.tasks: set[asyncio.Task[None]] = set()

    @property
    def is_live(self) -> bool:
        return self._loop.time() >= self._down_until_s

    def blocked(self) -> str | None:
        return None if self.is_live else "down"

    def cut(self, reason: str) -> None:
        self._down_until_s = self._loop.time() + self._rng.uniform(0.05, 1.0)
        self.on_lost(reason)

    def send(self, message: bytes) -> None:
        if not self.is_live:
            raise ConnectionLost("down")
        if self._storm.strikes("cut", self._rng):
            self._loop.call_later(self._rng.uniform(0, 0.06), self.cut, "cut")
        if self._storm.strikes("lose_request", self._rng) or self.is_dead:
            return
        task = self._loop.create_task(self._carry(orjson.loads(message)))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def send_all(self, messages: Sequence[bytes]) -> None:
        for message in messages:
            self.send(message)

    async def _carry(self, message: dict[str, Any]) -> None:
        await asyncio.sleep(self._delay_s())
        if self._storm.strikes("rate", self._rng):
            answer = {
                "status": "failure",
                "error": "fast",
                "error_code": 1000,
                "signature": _signature(message),
            }
        else:
            answer = await self._exchange.execute(message)
        if self._storm.strikes("lose_answer", self._rng):
            return
        for _ in range(2 if self._storm.strikes("duplicate", self._rng) else 1):
            await asyncio.sleep(self._delay_s())
            if not self.is_dead:
                self.on_text(orjson.dumps(answer))

    def _delay_s(self) -> float:
        late = self._storm.strikes("slow", self._rng)
        return self._rng.uniform(0.2, 3.0) if late else self._rng.uniform(0.001, 0.02)


def _signature(message: dict[str, Any]) -> str:
    body = next(iter(message.values()))
    found: str = body.get("place_order", body)["signature"]
    return found


class ModelRest:
    """Stands for HTTP: what `OrderGateway` and the resolver ask of `Rest`."""

    def __init__(self, loop: Any, rng: random.Random, exchange: ModelExchange, storm: Storm) -> None:
        self._loop, self._rng, self._exchange, self._storm = loop, rng, exchange, storm
        self.is_dead = False
        self._inner: set[asyncio.Task[Any]] = set()

    async def _way(self) -> None:
        if self._rng.random() < self._storm.rest_fails:
            raise self._rng.choice((NotConnected("refused"), RequestTimeout("silent")))
        await asyncio.sleep(self._rng.uniform(0.001, 0.01))

    async def execute(self, message: bytes) -> dict[str, Any]:
        await self._way()
        if self.is_dead:
            raise NotConnected("dead")
        if self._rng.random() < self._storm.rate:
            raise ExchangeError(1015, "HTTP 429", "execute")
        if self._rng.random() < self._storm.query_only:
            raise ExchangeError(1002, 'HTTP 403 {"reason":"ip_query_only","blocked":true}', "execute")
        # Whoever asked may go; what has arrived is carried out.
        task = self._loop.create_task(self._exchange.execute(orjson.loads(message)))
        self._inner.add(task)
        task.add_done_callback(self._inner.discard)
        answer: dict[str, Any] = await asyncio.shield(task)
        if self._rng.random() < self._storm.lose_answer:
            if self._rng.random() < 0.5:
                raise ConnectionLost("the answer broke off")
            await asyncio.sleep(5)
            raise RequestTimeout("no answer")
        if answer["status"] != "success":
            raise ExchangeError(answer["error_code"], "no", "execute")
        return answer

    async def sync_time(self, timesync: TimeSync, samples: int) -> None:
        sent_ns = timesync._clock_ns()
        await self._way()
        server_ms = self._exchange.now_ms()
        await asyncio.sleep(self._rng.uniform(0.001, 0.01))
        timesync.update(TimeSample(sent_ns, timesync._clock_ns(), server_ms))

    async def order(self, product_id: int, digest: str) -> models.OpenOrder:
        await self._way()
        return self._exchange.query_order(digest)

    async def subaccount_orders(self, subaccount: str, product_id: int) -> list[models.OpenOrder]:
        await asyncio.sleep(0.005)
        return self._exchange.open_orders(product_id)

    async def archive_orders(self, digests: list[str]) -> list[models.ArchivedOrder]:
        await self._way()
        return [row for digest in digests for row in self._exchange.archived(digest)]

    async def archive_matches(
        self, subaccount: str, product_ids: Any, *, limit: int, max_submission_idx: int | None = None
    ) -> list[models.ArchivedMatch]:
        await asyncio.sleep(0.005)
        below = 1 << 60 if max_submission_idx is None else max_submission_idx
        return [row for row in self._exchange.matches() if row.submission_idx <= below][:limit]

    async def subaccount_info(self, subaccount: str) -> models.SubaccountInfo:
        await self._way()
        perp = {4: self._exchange.balance}
        return models.SubaccountInfo(subaccount, True, 0, {}, perp, {}, (0, 0, 0))

    async def archive_newest_s(self) -> int:
        await self._way()
        return self._exchange.newest_s()
