"""Every error nadofast raises, as one tree.

    NadoError                       retryable  terminal
    ├── ConfigError                    no        yes    wrong network, key, product table
    │   └── InvalidKey                 no        yes    not a private key (never echoes the key)
    ├── ParseError (ValueError)        no        no     a message that is not what it claims to be
    ├── BookError
    │   ├── SequenceGap                yes       no     a depth message does not join the book
    │   ├── BookInvalid                yes       no     the book may not be read or traded on
    │   └── InsufficientDepth          no        no     the visible book does not reach that far
    ├── TransportError
    │   ├── ConnectionLost             yes       no     the link broke, or never came up
    │   │   └── NotConnected           yes       no     no connection could be made: nothing was sent
    │   ├── RequestTimeout             yes       no     no answer in time: the outcome is unknown
    │   └── BadResponse                yes       no     an answer that is not the exchange's protocol
    ├── NoSignal                       yes       no     too little data to say anything: never "fine"
    ├── EventOverflow                 by case   no      a reader fell behind; what it missed is not found
    ├── ExchangeError                 by code   by code the exchange answered "failure"
    └── OrderDenied                    no        no     refused locally: nothing was sent

`retryable`: the same call may succeed later without a change. `terminal`: stop and tell a person.
"""

from __future__ import annotations

from typing import ClassVar


class NadoError(Exception):
    """Root of the tree."""

    retryable: bool = False
    terminal: bool = False


class ConfigError(NadoError):
    """Something the operator must change before anything can start."""

    terminal = True


class InvalidKey(ConfigError):
    """Not a usable private key. The message says what is wrong and never contains the key."""


class ParseError(NadoError, ValueError):
    """A message that cannot be read.

    offset: byte at which reading stopped. excerpt: at most 40 bytes around it.
    """

    def __init__(self, message: str, offset: int = 0, excerpt: str = "") -> None:
        self.message = message
        self.offset = offset
        self.excerpt = excerpt
        super().__init__(message, offset, excerpt)

    def __str__(self) -> str:
        near = f" near {self.excerpt!r}" if self.excerpt else ""
        return f"{self.message} at byte {self.offset}{near}"


class BookError(NadoError):
    """Something about an order book."""


class SequenceGap(BookError):
    """A depth message does not join the book: at least one message between was lost.

    expected_ns: timestamp of the book. got_ns: `last_max_timestamp` of the message.
    """

    retryable = True

    def __init__(self, product_id: int, expected_ns: int, got_ns: int) -> None:
        self.product_id = product_id
        self.expected_ns = expected_ns
        self.got_ns = got_ns
        super().__init__(
            f"product {product_id}: depth message follows {got_ns}, "
            f"book is at {expected_ns}; take a new snapshot"
        )


class BookInvalid(BookError):
    """The book has no snapshot, has a gap, is crossed or was cleared."""

    retryable = True

    def __init__(self, product_id: int, reason: str) -> None:
        self.product_id = product_id
        self.reason = reason
        super().__init__(f"product {product_id}: book is not valid ({reason})")


class InsufficientDepth(BookError):
    """The known part of the book holds less than was asked for. Depth is never invented."""

    def __init__(self, product_id: int, wanted_x18: int, visible_x18: int) -> None:
        self.product_id = product_id
        self.wanted_x18 = wanted_x18
        self.visible_x18 = visible_x18
        super().__init__(f"product {product_id}: {visible_x18} x18 visible, {wanted_x18} x18 wanted")


class TransportError(NadoError):
    """The way to the exchange failed; nothing is known about what the exchange did."""

    retryable = True


class ConnectionLost(TransportError):
    """The link broke, or never came up."""


class NotConnected(ConnectionLost):
    """No connection could be made, so nothing of the request left this process."""


class RequestTimeout(TransportError):
    """No answer within the deadline. An execute may have been applied."""


class BadResponse(TransportError):
    """Bytes came back, but not the exchange's protocol (proxy page, truncated JSON, wrong shape)."""


class NoSignal(NadoError):
    """A signal cannot be told: no BBO, one side empty, or too few values yet."""

    retryable = True


class EventOverflow(NadoError):
    """A reader of events fell behind, and `lost` account events cannot be told it any more.

    retryable: the next read may find them. Otherwise the next read goes on behind them: take the exchange's
    word on orders and positions first. missing: (digest, submission index) of fills among them that the
    archive does not show, where it was asked.
    """

    def __init__(
        self,
        message: str,
        *,
        lost: int = 0,
        retryable: bool = False,
        missing: tuple[tuple[str, int], ...] = (),
    ) -> None:
        self.lost = lost
        self.missing = missing
        self.retryable = retryable
        super().__init__(message)


class ExchangeError(NadoError):
    """The exchange answered `"status":"failure"`.

    error_code: as documented (error code table of the API), None if it sent none.
    """

    # Client classes of the error table: these may pass later, those need a person.
    RETRY_CODES: ClassVar[frozenset[int]] = frozenset({1000, 1004, 1015, 2023, 2068, 5000})
    TERMINAL_CODES: ClassVar[frozenset[int]] = frozenset(
        {1001, 1002, 1003, 2021, 2024, 2028, 2069, 2095, 2119}
    )

    def __init__(self, error_code: int | None, text: str, request_type: str = "") -> None:
        self.error_code = error_code
        self.text = text
        self.request_type = request_type
        self.retryable = error_code in self.RETRY_CODES
        self.terminal = error_code in self.TERMINAL_CODES
        where = f"{request_type}: " if request_type else ""
        super().__init__(f"{where}error {error_code}: {text}")

    @property
    def is_query_only(self) -> bool:
        """The edge answers questions of this address and takes no executes from it."""
        return "query_only" in self.text


class OrderDenied(NadoError):
    """Refused before anything was sent. rule: name of the rule that refused."""

    def __init__(self, rule: str, detail: str) -> None:
        self.rule = rule
        self.detail = detail
        super().__init__(f"denied by {rule}: {detail}")
