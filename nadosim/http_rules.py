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
from .gateway import Blocked, Malformed, TooMany, malformed

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
            if not request.path.startswith("/sim/"):
                _check(request, faults)
            return await handler(request)
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


def _check(request: web.Request, faults: Faults) -> None:
    """Compression must be offered, and no fault stands in the way."""
    if "upgrade" in request.headers:
        if rule := faults.take(
            "socket_refused", scope="subscribe" if "subscribe" in request.path else "gateway"
        ):
            raise _error(rule.value["http"])
        return
    if not _accepted(request) & CODINGS:
        raise refused(403, COMPRESSION_REQUIRED)
    if rule := faults.take("http_error", scope="http", kind=request.path):
        raise _error(rule.value["status"])


def _error(status: int) -> web.HTTPException:
    """An error page of the edge in front of the exchange: no JSON."""
    kind = type("EdgeError", (web.HTTPException,), {"status_code": status})
    error: web.HTTPException = kind(text=f"<html><title>{status}</title></html>", content_type="text/html")
    return error


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
