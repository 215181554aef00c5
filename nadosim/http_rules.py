"""Rules of the HTTP transport: compression offered, errors that stay with one request, replies compressed."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

import orjson
from aiohttp import web
from aiohttp.typedefs import Middleware

from .errors import TEXTS
from .faults import Faults
from .gateway import Blocked, TooMany, malformed
from .messages import Malformed

log = logging.getLogger(__name__)

RATE_LIMIT: Final = 1000
COMPRESSION_REQUIRED: Final = 2080
CODINGS: Final = frozenset({"gzip", "br", "deflate"})
COMPRESS_FROM_BYTES: Final = 1024
BLOCKED_BODY: Final = orjson.dumps({"reason": "ip_query_only", "blocked": True})

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def guard(faults: Faults) -> Middleware:
    """Middleware: what is wrong with one request stays with that request."""

    @web.middleware
    async def one_bad_request(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            refusal = None if request.path.startswith("/sim/") else _refusal(request, faults)
            return await handler(request) if refusal is None else refusal
        except Malformed as error:
            return _body(422, malformed(error))
        except Blocked:
            return _body(403, BLOCKED_BODY)
        except TooMany:
            return _body(429, _failure(RATE_LIMIT))
        except (web.HTTPException, ConnectionError, TimeoutError):
            raise
        except Exception:
            log.exception("%s %s failed", request.method, request.path)
            return web.Response(status=500, text="internal error")

    return one_bad_request


def _refusal(request: web.Request, faults: Faults) -> web.Response | None:
    """Why the request does not get through: compression is not offered, or a fault stands in the way."""
    if "upgrade" in request.headers:
        scope = "subscribe" if request.path.endswith("/subscribe") else "gateway"
        rule = faults.take("socket_refused", scope=scope)
        return None if rule is None else _error_page(rule.value["http"])
    if not _accepted(request) & CODINGS:
        return _body(403, _failure(COMPRESSION_REQUIRED))
    rule = faults.take("http_error", scope="http", kind=request.path)
    return None if rule is None else _error_page(rule.value["status"])


def _error_page(status: int) -> web.Response:
    """What the edge in front of the exchange says: no JSON."""
    return web.Response(status=status, text=f"<html><title>{status}</title></html>", content_type="text/html")


def _accepted(request: web.Request) -> set[str]:
    """Content codings the client takes, without weights."""
    accepted = request.headers.get("Accept-Encoding", "")
    return {coding.partition(";")[0].strip().lower() for coding in accepted.split(",")}


def _failure(code: int) -> bytes:
    return orjson.dumps({"status": "failure", "error": TEXTS[code], "error_code": code})


def _body(status: int, body: bytes) -> web.Response:
    return web.Response(status=status, body=body, content_type="application/json")


def refused(status: int, code: int) -> web.HTTPException:
    kinds: dict[int, Any] = {403: web.HTTPForbidden, 429: web.HTTPTooManyRequests}
    error: web.HTTPException = kinds[status](text=_failure(code).decode(), content_type="application/json")
    return error


def compressed(request: web.Request, body: bytes) -> web.Response:
    """A JSON reply, compressed as the client accepts when it is worth it."""
    response = web.Response(body=body, content_type="application/json")
    accepted = _accepted(request)
    if len(body) >= COMPRESS_FROM_BYTES:
        if "gzip" in accepted:
            response.enable_compression(web.ContentCoding.gzip)
        elif "deflate" in accepted:
            response.enable_compression(web.ContentCoding.deflate)
    return response
