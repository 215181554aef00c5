"""Requests in, envelopes out: the gateway's queries and executes without their transports.

Success and failure have the shape of the envelopes section of the API. A failure of an execute
carries its signature, so that concurrent replies can be told apart, and the `id` of an execute is echoed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from time import monotonic_ns
from typing import Any, Final

import orjson

from .errors import ExchangeError
from .exchange import Exchange
from .fault_state import Lies
from .faults import Faults
from .limits import Limits, execute_weight, query_weight, sender_of
from .messages import Malformed, decode

log = logging.getLogger(__name__)

MALFORMED: Final = 2038
INTERNAL: Final = 5000
BLOCKED: Final = 1002
_NOTHING: Final[Mapping[str, Any]] = {}


class LostReply(Exception):
    """The execute was carried out; its reply is not to be sent."""


class TooMany(Exception):
    """Over the rate limit, to be said as HTTP 429."""


class Blocked(Exception):
    """This address may query only, to be said as HTTP 403."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Where a request came from. connection: number of the socket, None over HTTP."""

    address: str
    connection: int | None = None

    @property
    def scope(self) -> str:
        return "http" if self.connection is None else "gateway"


class Gateway:
    """One exchange behind all its request transports."""

    def __init__(self, exchange: Exchange, faults: Faults, lies: Lies, limits: Limits | None = None) -> None:
        self._exchange = exchange
        self._faults = faults
        self._lies = lies
        self.limits = limits or Limits()
        self.queries = 0
        self.executes = 0
        self.failures = 0
        self.replies_lost = 0

    async def answer_socket(self, text: str | bytes, caller: Caller) -> bytes | None:
        """Reply to one socket message, query or execute; None when a fault swallows it."""
        message: Mapping[str, Any] = _NOTHING
        try:
            message = decode(text)
            await self.hold_up(caller, kind_of(message))
            if isinstance(message.get("type"), str):
                reply = self.query(message, caller)
            else:
                reply = await self.execute(message, caller)
        except Malformed as error:
            reply = {**_failure(str(error), MALFORMED, None), **_id(message)}
        except LostReply:
            return None
        return orjson.dumps(reply)

    async def hold_up(self, caller: Caller, kind: str) -> None:
        """The fault of a slow way in. kind: name of the request."""
        rule = self._faults.take("delay_request", scope=caller.scope, kind=kind, connection=caller.connection)
        if rule is not None:
            ms = rule.value["ms"] + self._faults.between(0.0, rule.value["jitter_ms"])
            await asyncio.sleep(ms / 1e3)

    def query(self, request: Mapping[str, Any], caller: Caller) -> dict[str, Any]:
        """Answer a query; it carries no id. Over HTTP it raises TooMany, whatever else comes has a reply."""
        self.queries += 1
        kind = str(request.get("type"))
        request_type = f"query_{kind}"
        self._lies.impose()
        try:
            self._charge_query(kind, request, caller)
            data = self._answer(kind, request)
            reply = {"status": "success", "data": data, "request_type": request_type}
        except ExchangeError as error:
            self.failures += 1
            reply = _failure(error.text, error.code, request_type)
        except TooMany:
            raise
        except Exception:
            log.exception("query %s failed", kind)
            reply = _failure("Internal error.", INTERNAL, request_type)
        return reply

    def _answer(self, kind: str, request: Mapping[str, Any]) -> Any:
        data = self._exchange.query(request)
        if kind != "market_liquidity":
            return data
        rule = self._faults.take("stale_snapshot", product_id=data["product_id"])
        if rule is None:
            return data
        old, depth = rule.value["_books"][data["product_id"]], int(request["depth"])
        return {**old, "bids": old["bids"][:depth], "asks": old["asks"][:depth]}

    def _charge_query(self, kind: str, request: Mapping[str, Any], caller: Caller) -> None:
        if not self.limits.queries.spend(caller.address, query_weight(request)):
            raise self._over_limit(caller)
        self._maybe_rate_error(kind, caller)

    def _maybe_rate_error(self, kind: str, caller: Caller) -> None:
        rule = self._faults.take("rate_error", scope=caller.scope, kind=kind, connection=caller.connection)
        if rule is not None:
            says_http = rule.value["form"] == "http" and caller.connection is None
            raise TooMany if says_http else ExchangeError(rule.value["code"])

    def _over_limit(self, caller: Caller) -> Exception:
        """A socket has no status to say it by: its reply has to be told from the others by id."""
        config = self._exchange.config
        says_http = config.rate_limit_reply == "http" and caller.connection is None
        return TooMany() if says_http else ExchangeError(config.rate_limit_code)

    async def execute(self, message: Mapping[str, Any], caller: Caller) -> dict[str, Any]:
        """Carry out an execute, the hold of taker orders included; never raises for a refusal.

        Raises Malformed for an unknown one, LostReply when a fault says so; over HTTP TooMany and Blocked.
        """
        name, body = self._execute_of(message)
        self.executes += 1
        request_type = f"execute_{name}"
        signature, request_id = _tags(name, body, message)
        self._lies.impose()
        try:
            data = await self._execute_charged(name, body, caller)
            told = {} if data is None else {"data": data}
            reply = {"status": "success", **signature, **told, "request_type": request_type}
        except ExchangeError as error:
            self.failures += 1
            reply = _failure(error.text, error.code, request_type, signature)
        except (TooMany, Blocked):
            raise
        except Exception:
            log.exception("execute %s failed", name)
            reply = _failure("Internal error.", INTERNAL, request_type, signature)
        if reply["status"] == "failure" and not self._exchange.config.echo_id_on_failure:
            request_id = {}
        if name == "cancel_and_place" and not self._exchange.config.echo_id_of_replace:
            request_id = {}
        if self._faults.take("lose_reply", scope=caller.scope, kind=name, connection=caller.connection):
            self.replies_lost += 1
            raise LostReply
        return {**reply, **request_id}

    async def _execute_charged(self, name: str, body: Any, caller: Caller) -> Any:
        """The execute, if the caller may and the wallet can still afford it.

        What has no good signature is paid for by the address it came from, not by the wallet it names.
        """
        if self._faults.take("query_only", scope=caller.scope):
            raise Blocked if caller.connection is None else ExchangeError(BLOCKED, "Address may query only.")
        wallet, weight = sender_of(name, body), execute_weight(name, body)
        if wallet is None:
            budget, key = self.limits.queries, caller.address
        else:
            budget, key = self.limits.executes, wallet
        if not budget.spend(key, weight):
            raise self._over_limit(caller)
        self._maybe_rate_error(name, caller)
        self._maybe_refuse(name, caller)
        signed = self._exchange.good_signatures
        try:
            submission = self._exchange.submit(name, body)
            if not submission.delay_ns:
                return submission.commit()
        finally:  # nothing was awaited: whatever was signed is of this request
            if wallet is not None and self._exchange.good_signatures == signed:
                self.limits.executes.give_back(wallet, weight)
                self.limits.queries.spend(caller.address, weight)
        await _sleep_until(monotonic_ns() + submission.delay_ns)
        return submission.commit()

    def _maybe_refuse(self, name: str, caller: Caller) -> None:
        down = self._faults.standing("maintenance")
        if down is not None:
            raise ExchangeError(down.value["code"])
        rule = self._faults.take("refuse", scope=caller.scope, kind=name, connection=caller.connection)
        if rule is not None:
            raise ExchangeError(rule.value["code"])

    def _execute_of(self, message: Mapping[str, Any]) -> tuple[str, Any]:
        """(name, body) of an execute. Raises Malformed if it is not exactly one known execute."""
        names = [name for name in message if name != "id"]
        known = self._exchange.execute_names
        if len(names) != 1 or names[0] not in known:
            raise Malformed(f"Unknown request; executes are {', '.join(known)}, queries name their type.")
        return names[0], message[names[0]]


def kind_of(message: Mapping[str, Any]) -> str:
    """Type of a query, name of an execute: what faults can name a request by."""
    kind = message.get("type")
    return kind if isinstance(kind, str) else next((name for name in message if name != "id"), "")


async def _sleep_until(due_ns: int) -> None:
    """Sleep to a moment of the monotonic clock, never less: loop timers are rounded to milliseconds."""
    while True:
        left_ns = due_ns - monotonic_ns()
        if left_ns <= 0:
            return
        await asyncio.sleep(left_ns / 1e9)


def _tags(name: str, body: Any, message: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Parts of the reply that repeat the request: {"signature"} and {"id"}, each empty if none came."""
    place = body.get("place_order") if name == "cancel_and_place" and isinstance(body, Mapping) else body
    signed = place if isinstance(place, Mapping) else {}
    signature = signed.get("signature")
    return {"signature": signature} if isinstance(signature, str) else {}, _id(signed) or _id(message)


def _id(request: Mapping[str, Any]) -> dict[str, Any]:
    return {"id": request["id"]} if isinstance(request.get("id"), int | str) else {}


def _failure(
    text: str, code: int, request_type: str | None, signature: Mapping[str, Any] = _NOTHING
) -> dict[str, Any]:
    reply = {"status": "failure", **signature, "error": text, "error_code": code}
    if request_type is not None:
        reply["request_type"] = request_type
    return reply


def malformed(error: Malformed) -> bytes:
    """Body of the 422 answer over HTTP."""
    return orjson.dumps(_failure(str(error), MALFORMED, None))
