"""Refusals of the exchange: one exception, and the text that goes with each code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

# Wording varies on the real exchange too; clients act on the code alone.
TEXTS: Final[Mapping[int, str]] = {
    1000: "Too many requests.",
    1004: "The exchange is in maintenance.",
    2000: "Invalid order price. Price must be a multiple of the price increment.",
    2001: "Invalid order amount. Amount must be a multiple of the size increment.",
    2002: "Invalid order amount. Amount must not be zero.",
    2004: "Order is expired.",
    2005: "Too many open orders in this market.",
    2006: "Insufficient account health.",
    2007: "Order price too far from oracle price.",
    2008: "Post-only order crosses the book.",
    2009: "Order type is not supported.",
    2011: "Request received after its recv_time.",
    2012: "The recv_time is more than 100 seconds ahead.",
    2013: "An order with this digest exists already.",
    2014: "Order belongs to another subaccount.",
    2015: "The market for the given product or ticker ID was not found.",
    2016: "Invalid product ID.",
    2019: "Spot leverage applies to spot products only.",
    2020: "Order not found.",
    2022: "Invalid nonce.",
    2024: "No deposit yet for this subaccount.",
    2025: "Account value too low to link a signer.",
    2026: "This signer is linked already.",
    2027: "Invalid signature length.",
    2028: "Invalid signer.",
    2031: "Fill-or-kill order cannot be filled.",
    2034: "Invalid signature: recovery value must be 27 or 28.",
    2035: "Invalid signature.",
    2038: "Invalid message.",
    2039: "digests and productIds differ in length.",
    2055: "Order price must be positive.",
    2056: "Immediate-or-cancel order does not cross the book.",
    2064: "Reduce-only order would increase the position.",
    2065: "Reserved bits of the appendix must be zero.",
    2066: "Cancel and place have a different sender or signer.",
    2067: "Reduce-only needs a taker order type.",
    2069: "Market is not tradable.",
    2080: "Compression is required.",
    2087: "Isolated subaccount could not be created.",
    2094: "Order size below the minimum.",
    2095: "Unsupported appendix version.",
    2111: "Too many orders in one request.",
    2114: "Orders of one request must have the same sender.",
    2117: "Market accepts post-only orders only.",
    2118: "Invalid builder.",
    2119: "Market accepts reduce-only orders only.",
    2120: "Cancelled order was partially filled; new order not placed.",
    2121: "Cancel failed; new order not placed.",
    2122: "Market accepts isolated orders only.",
    2123: "required_unfilled_amount needs exactly one order.",
    2124: "Unfilled amount does not match.",
    3000: "Provided digests with another filter.",
    3001: "Too many digests.",
}


class ExchangeError(Exception):
    """The exchange refuses a request. code: as documented. text: what goes into the `error` field."""

    def __init__(self, code: int, detail: str = "") -> None:
        self.code = code
        text = TEXTS.get(code, "Request refused.")
        self.text = f"{text} {detail}" if detail else text
        super().__init__(code, self.text)

    def __str__(self) -> str:
        return f"{self.code}: {self.text}"
