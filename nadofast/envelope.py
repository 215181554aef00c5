"""The envelope of every gateway answer: a success with data, or a failure with a code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from . import wire
from .errors import BadResponse, ExchangeError
from .secret import excerpt


def unwrap(envelope: Any, kind: str) -> Any:
    """`data` of a success. Raises ExchangeError on a failure, BadResponse on anything else."""
    status = envelope.get("status") if isinstance(envelope, dict) else None
    if status == wire.STATUS_SUCCESS:
        return envelope.get("data")
    if status == wire.STATUS_FAILURE:
        raise refusal(envelope, kind)
    raise BadResponse(f"{kind}: answer has no status: {excerpt(orjson.dumps(envelope))}")


def refusal(envelope: Mapping[str, Any], kind: str) -> ExchangeError:
    """The ExchangeError of a failure. Act on its code: the text is the exchange's, and may be anything."""
    request_type = envelope.get("request_type")
    return ExchangeError(
        error_code(envelope),
        excerpt(str(envelope.get("error", ""))),
        kind if request_type is None else excerpt(str(request_type)),
    )


def error_code(envelope: Mapping[str, Any]) -> int | None:
    """None if there is none, or none that can be read."""
    try:
        return wire.integer(envelope.get("error_code"))
    except ValueError:
        return None
