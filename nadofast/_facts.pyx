"""Account events and trades are facts: each is told once, whichever link brings it, and positions never backwards."""

from libc.stdint cimport int32_t, int64_t

from ._bbo cimport MAX_LINKS
from ._message cimport KIND_FILL, KIND_POSITION_CHANGE


cdef int SEEN_GENERATION = 16384            # account events remembered: one to two generations
cdef int PRODUCTS_KEPT = 4096               # and positions


cdef class TradeOrder:
    """Trades of one product over several links: each once, whichever link brings it first.

    A trade has no key, and equal ones are legal. Every link sends them in the engine's order, so (engine
    time, turn within that time) tells them apart; a link that was cut lacks an end, never a middle.
    """

    cdef int64_t told_ns
    cdef int32_t told_turn
    cdef int64_t[16] link_ns
    cdef int32_t[16] link_turn

    cdef bint is_new(self, int64_t timestamp_ns, int link) noexcept nogil:
        link &= MAX_LINKS - 1
        if self.link_ns[link] != timestamp_ns:
            self.link_ns[link] = timestamp_ns
            self.link_turn[link] = 0
        self.link_turn[link] += 1
        if timestamp_ns < self.told_ns:
            return False
        if timestamp_ns == self.told_ns and self.link_turn[link] <= self.told_turn:
            return False
        self.told_ns = timestamp_ns
        self.told_turn = self.link_turn[link]
        return True

    cdef void leave(self, int link) noexcept nogil:
        self.link_ns[link & (MAX_LINKS - 1)] = 0


cdef class Facts:
    """What was told. An account event counts as told only when its handler took it."""

    def __cinit__(self):
        self.young = set()
        self.old = set()
        self.trade_orders = {}
        self.position_ns = {}

    # --- account events: a set of the most recent keys, in two generations ---

    cdef tuple key_of(self, object event, int kind):
        # The key of a fill without a Python call: fills are by far the most frequent.
        if kind == KIND_FILL:
            return (kind, event.order_digest, event.submission_idx)
        return (kind, event.key)

    cdef bint is_new(self, tuple key, object event, int kind) except -1:
        if key in self.young or key in self.old:
            return False
        return kind != KIND_POSITION_CHANGE or event.timestamp_ns >= self.position_ns.get(_place(event), 0)

    cdef int told(self, tuple key, object event, int kind) except -1:
        self.young.add(key)
        if len(self.young) >= SEEN_GENERATION:
            self.old = self.young
            self.young = set()
        if kind == KIND_POSITION_CHANGE:
            if len(self.position_ns) >= PRODUCTS_KEPT:
                self.position_ns.clear()
            self.position_ns[_place(event)] = event.timestamp_ns
        return 0

    # --- trades ---

    cdef bint trade_is_new(self, object event, int link) except -1:
        cdef TradeOrder order = self.trade_orders.get(event.product_id)
        if order is None:
            if len(self.trade_orders) >= PRODUCTS_KEPT:
                self.trade_orders.clear()
            order = self.trade_orders[event.product_id] = TradeOrder()
        return order.is_new(event.timestamp_ns, link)

    cdef int forget_trades(self, object product_id) except -1:
        """No link is left that could tell one again."""
        self.trade_orders.pop(product_id, None)
        return 0

    cdef int leave(self, int link) except -1:
        cdef TradeOrder order
        for order in self.trade_orders.values():
            order.leave(link)
        return 0


cdef tuple _place(object event):
    return (event.subaccount, event.product_id, event.isolated)
