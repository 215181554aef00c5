"""When something was broken in a `PairWorld`, and what of a stretch on one leg no fault explains."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Troubles:
    """Spans in which the pair could not do better: a socket or the stream away, the exchange or a leg shut,
    nobody to trade with. Lost messages and refused requests are none: to notice them is our business."""

    spans_s: list[tuple[float, float]] = field(default_factory=list)

    def add(self, since_s: float, for_s: float) -> None:
        self.spans_s.append((since_s, since_s + for_s))

    def beyond_s(self, since_s: float, until_s: float) -> float:
        """How much of this stretch lies outside of every span."""
        left_s, at_s = 0.0, since_s
        for begin_s, end_s in sorted(self.spans_s):
            if begin_s >= until_s:
                break
            left_s += max(0.0, begin_s - at_s)
            at_s = max(at_s, end_s)
        return left_s + max(0.0, until_s - at_s)
