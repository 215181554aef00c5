"""What a caller asks of the order gateway, and what it gets back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from . import models, wire
from .appendix import OrderType
from .envelope import error_code
from .secret import excerpt


class OutcomeKind(Enum):
    """CONFIRMED: the engine took it. REJECTED: the engine refused it. DENIED: nothing was sent.
    UNKNOWN: it may or may not be there; `OrderGateway.resolve` finds out, a new signature never does."""

    CONFIRMED = "confirmed"
    REJECTED = "rejected"
    DENIED = "denied"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class OrderRequest:
    """An order to be signed and sent. amount_x18 < 0 sells.

    expiration_s: Unix time the order dies at, exchange clock; None: now + the gateway's default.
    discard_after_ms: the engine ignores the request if it arrives later than this from now; None: as measured
    for an entry (`OrderGateway.entry_discard_ms`), the gateway's longer default for a reduce-only order.
    client_id comes back in events; it is not unique and not signed.
    """

    product_id: int
    price_x18: int
    amount_x18: int
    order_type: OrderType
    reduce_only: bool = False
    expiration_s: int | None = None
    discard_after_ms: int | None = None
    client_id: int | None = None


@dataclass(frozen=True, slots=True)
class CancelledOrder:
    """An order a cancel took off the book; unfilled_x18 is final. Both amounts signed, sells negative."""

    digest: str
    product_id: int
    amount_x18: int
    unfilled_x18: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of one request as far as it is known.

    digest: of the order the request was about (of a cancel by product: the cancel's own), "" if it was never
    signed. path: the way the answer came: "ws", "rest", "stream", "query", "archive", "" if there was none.
    sent_ns, replied_ns: monotonic; sent means handed to the transport, 0 if nothing was.
    """

    kind: OutcomeKind
    digest: str
    error_code: int | None = None
    reason: str = ""
    path: str = ""
    sent_ns: int = 0
    replied_ns: int = 0
    cancelled: tuple[CancelledOrder, ...] = ()

    @property
    def is_confirmed(self) -> bool:
        return self.kind is OutcomeKind.CONFIRMED

    @property
    def is_unknown(self) -> bool:
        return self.kind is OutcomeKind.UNKNOWN


def denied(rule: str, detail: str, digest: str = "") -> Outcome:
    """Refused before anything was sent."""
    return Outcome(OutcomeKind.DENIED, digest, reason=f"{rule}: {detail}")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one answer says. kind is UNKNOWN if it settles nothing."""

    kind: OutcomeKind
    error_code: int | None = None
    reason: str = ""
    cancelled: tuple[CancelledOrder, ...] = ()


# A cancel is a statement about what rests now: these refusals are final for a second copy, too.
CANCEL_FINAL_CODES: Final = frozenset({wire.Code.ORDER_NOT_FOUND, wire.Code.UNFILLED_DIFFERS})

# What is left of the old order is not what the caller believed: read it again.
REREAD_CODES: Final = frozenset(
    {wire.Code.OLD_ORDER_FILLED, wire.Code.CANCEL_FAILED, wire.Code.UNFILLED_DIFFERS}
)


def judge(
    envelope: Mapping[str, Any], *, is_resend: bool, final_codes: frozenset[int] = frozenset()
) -> Verdict:
    """Classify an execute's answer.

    is_resend: the same bytes may have arrived before. Then only an acceptance or one of final_codes settles
    the matter: any other refusal speaks about the second copy.
    """
    if envelope.get("status") == wire.STATUS_SUCCESS:
        return Verdict(OutcomeKind.CONFIRMED, cancelled=_cancelled(envelope.get("data")))
    text = excerpt(str(envelope.get("error", "")))
    return judge_refusal(error_code(envelope), text, is_resend=is_resend, final_codes=final_codes)


def judge_refusal(
    code: int | None, text: str, *, is_resend: bool, final_codes: frozenset[int] = frozenset()
) -> Verdict:
    """As `judge`, for a failure's code and text."""
    if code == wire.Code.DUPLICATE_DIGEST:
        # A copy arrived. Whether it was taken or refused, and lives or is over, is not said: look.
        return Verdict(OutcomeKind.UNKNOWN, code, "the exchange has seen this digest before")
    if code in final_codes:
        return Verdict(OutcomeKind.REJECTED, code, text)
    if is_resend or code is None or code in wire.Code.INTERNAL:
        return Verdict(OutcomeKind.UNKNOWN, code, text)
    return Verdict(OutcomeKind.REJECTED, code, text)


def _cancelled(data: Any) -> tuple[CancelledOrder, ...]:
    if not isinstance(data, Mapping) or "cancelled_orders" not in data:
        return ()
    orders = models.decode("cancel reply", models.cancelled_orders, data)
    return tuple(
        CancelledOrder(order.digest, order.product_id, order.amount_x18, order.unfilled_x18)
        for order in orders
    )
