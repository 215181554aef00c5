"""Best bid and offer of one product: newest value of several links, or of a query."""

from libc.stdint cimport int64_t

from ._message cimport Message
from ._x18 cimport INT128_MAX, int128_to_py


cdef class Bbo:
    def __cinit__(self, int64_t product_id):
        self.product_id = product_id
        self.ask_price = INT128_MAX

    cdef bint bid_exists(self) noexcept nogil:
        return self.origin != ORIGIN_NONE and self.bid_price != 0

    cdef bint ask_exists(self) noexcept nogil:
        return self.origin != ORIGIN_NONE and self.ask_price != INT128_MAX

    cdef bint _holds(self, const Message* m) noexcept nogil:
        return (self.bid_price == m.bid_price and self.ask_price == m.ask_price
                and self.bid_qty == m.bid_qty and self.ask_qty == m.ask_qty)

    cdef bint take(self, const Message* m, int link, int64_t received_ns) noexcept nogil:
        """Take a stream value unless it is a duplicate or older, by (engine time, turn within that time)."""
        link &= MAX_LINKS - 1
        if self.link_ns[link] != m.timestamp_ns:
            self.link_ns[link] = m.timestamp_ns
            self.link_turn[link] = 0
        self.link_turn[link] += 1
        if m.timestamp_ns < self.stream_ns:
            return False
        if m.timestamp_ns == self.stream_ns and (
            self.link_turn[link] <= self.turn or (self.origin == ORIGIN_STREAM and self._holds(m))
        ):
            return False
        self.stream_ns = self.timestamp_ns = m.timestamp_ns
        self.turn = self.link_turn[link]
        self.received_ns = received_ns
        self.origin = ORIGIN_STREAM
        self.bid_price = m.bid_price
        self.bid_qty = m.bid_qty
        self.ask_price = m.ask_price
        self.ask_qty = m.ask_qty
        return True

    @property
    def bid_price_x18(self):
        return int128_to_py(self.bid_price)

    @property
    def bid_qty_x18(self):
        return int128_to_py(self.bid_qty)

    @property
    def ask_price_x18(self):
        return int128_to_py(self.ask_price)

    @property
    def ask_qty_x18(self):
        return int128_to_py(self.ask_qty)

    @property
    def is_set(self):
        return self.origin != ORIGIN_NONE

    @property
    def has_bid(self):
        return self.bid_exists()

    @property
    def has_ask(self):
        return self.ask_exists()

    @property
    def source(self):
        return ("", "stream", "rest")[self.origin]

    @property
    def mid_x18(self):
        if not self.bid_exists() or not self.ask_exists():
            return None
        return int128_to_py(self.bid_price + (self.ask_price - self.bid_price) // 2)

    @property
    def spread_x18(self):
        if not self.bid_exists() or not self.ask_exists():
            return None
        return int128_to_py(self.ask_price - self.bid_price)

    def __repr__(self):
        if self.origin == ORIGIN_NONE:
            return f"<Bbo product {self.product_id}: not set>"
        bid = int128_to_py(self.bid_price) if self.bid_exists() else None
        ask = int128_to_py(self.ask_price) if self.ask_exists() else None
        return f"<Bbo product {self.product_id}: bid {bid}, ask {ask} ({self.source})>"
