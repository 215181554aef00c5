"""Requests in, envelopes out: the gateway's queries and executes without their transports.

Success and failure have the shape of the envelopes section of the API. A failure of an execute
carries its signature, so that concurrent replies can be told apart; `id` is echoed wherever one came.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from time import monotonic_ns
from typing import Any, Final

import orjson

from .errors import ExchangeError
from .exchange import Exchange
from .faults import Faults

log = logging.getLogger(__name__)

MALFORMED: Final = 2038
INTERNAL: Final = 5000
_NOTHING: Final[Mapping[str, Any]] = {}


class Malformed(Exception):
    """Not a request at all. The text says why."""


class LostReply(Exception):
    """The execute was carried out; its reply is not to be sent."""


class Gateway:
    """One exchange behind all its request transports."""

    def __init__(self, exchange: Exchange, faults: Faults) -> None:
        self._exchange = exchange
        self._faults = faults
        self.queries = 0
        self.executes = 0
        self.failures = 0
        self.replies_lost = 0

    async def answer_socket(self, text: str | bytes) -> bytes | None:
        """Reply to one socket message, query or execute; None when a fault swallows it."""
        try:
            message = decode(text)
            reply = (
                self.query(message) if isinstance(message.get("type"), str) else await self.execute(message)
            )
        except Malformed as error:
            reply = _failure(str(error), MALFORMED, None)
        except LostReply:
            return None
        return orjson.dumps(reply)

    def query(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Answer a query. Never raises for anything a client can send."""
        self.queries += 1
        kind = str(request.get("type"))
        request_type = f"query_{kind}"
        try:
            data = self._exchange.query(request)
            reply = {"status": "success", "data": data, "request_type": request_type}
        except ExchangeError as error:
            self.failures += 1
            reply = _failure(error.text, error.code, request_type)
        except Exception:
            log.exception("query %s failed", kind)
            reply = _failure("Internal error.", INTERNAL, request_type)
        return {**reply, **_id(request)}

    async def execute(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """Carry out an execute, the hold of taker orders included; never raises for a refusal.

        Raises Malformed for an unknown one, LostReply when a fault says so.
        """
        name, body = self._execute_of(message)
        self.executes += 1
        request_type = f"execute_{name}"
        signature, request_id = _tags(name, body, message)
        try:
            data = await self._execute(name, body)
            told = {} if data is None else {"data": data}
            reply = {"status": "success", **signature, **told, "request_type": request_type}
        except ExchangeError as error:
            self.failures += 1
            reply = _failure(error.text, error.code, request_type, signature)
        except Exception:
            log.exception("execute %s failed", name)
            reply = _failure("Internal error.", INTERNAL, request_type, signature)
        if reply["status"] == "failure" and not self._exchange.config.echo_id_on_failure:
            request_id = {}
        if self._faults.take_lost_reply():
            self.replies_lost += 1
            raise LostReply
        return {**reply, **request_id}

    async def _execute(self, name: str, body: Any) -> Any:
        """Commit after the pending execute's delay, measured on the monotonic clock, never early."""
        submission = self._exchange.submit(name, body)
        if submission.delay_ns:
            await _sleep_until(monotonic_ns() + submission.delay_ns)
        return submission.commit()

    def _execute_of(self, message: Mapping[str, Any]) -> tuple[str, Any]:
        """(name, body) of an execute. Raises Malformed if it is not exactly one known execute."""
        names = [name for name in message if name != "id"]
        known = self._exchange.execute_names
        if len(names) != 1 or names[0] not in known:
            raise Malformed(f"Unknown request; executes are {', '.join(known)}, queries name their type.")
        return names[0], message[names[0]]


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


def decode(text: str | bytes) -> dict[str, Any]:
    """JSON object of a request. Raises Malformed."""
    try:
        message = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise Malformed(f"Not JSON: {error.msg} at byte {error.pos}.") from None
    if not isinstance(message, dict):
        raise Malformed("A request is a JSON object.")
    return message


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
