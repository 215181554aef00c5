"""Every message of the sample files that a subscription socket or the gateway could send."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

DATA = Path(__file__).parent.parent / "data"


def _events(sample: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield from sample.get("events", [])
    yield from (event for scenario in sample.get("scenarios", {}).values() for event in scenario)
    if "event_with_optional_fields" in sample:
        yield sample["event_with_optional_fields"]
    if "seeding_example" in sample:
        yield from sample["seeding_example"]["queued_events"]
        yield sample["gap_example"]["event"]


def _replies(value: Any) -> Iterator[dict[str, Any]]:
    """Acks, responses and failures, wherever a sample file keeps them."""
    if isinstance(value, list):
        for item in value:
            yield from _replies(item)
    elif isinstance(value, dict):
        if (isinstance(value.get("status"), str) and "request_type" in value) or (
            "type" not in value and ({"result", "error"} & set(value)) and "method" not in value
        ):
            yield value
        else:
            for item in value.values():
                yield from _replies(item)


def load(path: Path) -> dict[str, Any]:
    sample: dict[str, Any] = json.loads(path.read_text())
    return sample


def stream_events() -> list[tuple[str, dict[str, Any]]]:
    """(file, event) of every stream event sample."""
    paths = sorted((DATA / "samples").glob("stream_*.json"))
    return [(path.stem, event) for path in paths for event in _events(load(path))]


def replies() -> list[tuple[str, dict[str, Any]]]:
    """(file, message) of every reply: subscription control, executes and queries."""
    paths = sorted((DATA / "samples").glob("*.json"))
    return [(path.stem, reply) for path in paths for reply in _replies(load(path))]


def compact(message: Any) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode()
