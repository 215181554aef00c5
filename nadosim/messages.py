"""Messages of clients: JSON objects, or a refusal that says why."""

from __future__ import annotations

from typing import Any

import orjson


class Malformed(Exception):
    """Not a request at all. The text says why."""


def decode(text: str | bytes) -> dict[str, Any]:
    """JSON object of a request. Raises Malformed."""
    try:
        message = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise Malformed(f"Not JSON: {error.msg} at byte {error.pos}.") from None
    if not isinstance(message, dict):
        raise Malformed("A request is a JSON object.")
    try:
        # JSON is read deeper than it is written, or than Python shows it: what is repeated has to be both.
        orjson.dumps(message)
    except orjson.JSONEncodeError:
        raise Malformed("Nested too deeply.") from None
    return message
