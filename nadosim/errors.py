"""Refusals of the exchange: one exception, and the text that goes with each code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

# Wording varies on the real exchange too; clients act on the code alone.
TEXTS: Final[Mapping[int, str]] = {
    1000: "Too many requests.",
    1015: "Too many requests.",
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
    2017: "Not enough balance, and spot leverage is off.",
    2018: "Invalid spot product.",
    2019: "Spot leverage applies to spot products only.",
    2020: "Order not found.",
    2022: "Invalid nonce.",
    2024: "No deposit yet for this subaccount.",
    2025: "Account value too low to link a signer.",
    2026: "This signer is linked already.",
    2027: "Invalid signature length.",
    2028: "Invalid signer.",
    2029: "The zero signer cannot be linked.",
    2030: "Too many changes of the linked signer.",
    2031: "Fill-or-kill order cannot be filled.",
    2032: "The sender is missing.",
    2033: "The nonce is missing.",
    2034: "Invalid signature: recovery value must be 27 or 28.",
    2035: "Invalid signature.",
    2036: "Subaccount health too low.",
    2038: "Invalid message.",
    2039: "digests and productIds differ in length.",
    2040: "Not a boolean.",
    2042: "The subaccount cannot be liquidated: it is healthy.",
    2043: "The liquidator's health would be too low.",
    2044: "Too much liquidated: initial health would be positive.",
    2045: "Invalid liquidation parameters.",
    2046: "Liquidation amount must be a multiple of the size increment.",
    2047: "Invalid liquidation amount.",
    2048: "Assets and positions are liquidated before loans.",
    2050: "Not allowed.",
    2055: "Order price must be positive.",
    2056: "Immediate-or-cancel order does not cross the book.",
    2060: "Product ids are invalid or repeated.",
    2061: "Product ids are of the wrong type.",
    2062: "Product ids are missing.",
    2064: "Reduce-only order would increase the position.",
    2065: "Reserved bits of the appendix must be zero.",
    2066: "Cancel and place have a different sender or signer.",
    2067: "Reduce-only needs a taker order type.",
    2068: "The exchange is in maintenance.",
    2069: "Market is not tradable.",
    2070: "Open interest is at its maximum.",
    2073: "Order would trade with an order of the same account.",
    2077: "A transfer is at least 5 USDT0.",
    2078: "Too many new recipients today.",
    2079: "A transfer needs another subaccount.",
    2080: "Compression is required.",
    2081: "An isolated subaccount cannot place isolated orders.",
    2082: "An isolated subaccount trades its own product only.",
    2083: "Spot products cannot be traded isolated.",
    2085: "An isolated order cannot be reduce-only.",
    2087: "Isolated subaccount could not be created.",
    2088: "An isolated subaccount places reduce-only orders only.",
    2089: "An isolated subaccount cannot link a signer.",
    2091: "Amount is too large.",
    2094: "Order size below the minimum.",
    2095: "Unsupported appendix version.",
    2111: "Too many orders in one request.",
    2114: "Orders of one request must have the same sender.",
    2115: "The liquidity pool has liquidated the subaccount.",
    2117: "Market accepts post-only orders only.",
    2118: "Invalid builder.",
    2119: "Market accepts reduce-only orders only.",
    2120: "Cancelled order was partially filled; new order not placed.",
    2121: "Cancel failed; new order not placed.",
    2122: "Market accepts isolated orders only.",
    2123: "required_unfilled_amount needs exactly one order.",
    2124: "Unfilled amount does not match.",
    2125: "Too many isolated subaccounts.",
    3000: "Provided digests with another filter.",
    3001: "Too many digests.",
    3002: "Subaccount is missing.",
    3003: "Interval is invalid.",
    4001: "Not implemented.",
    5000: "Internal error.",
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
