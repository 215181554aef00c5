"""C face of what was told once."""


cdef class Facts:
    cdef set young            # keys of account events
    cdef set old
    cdef dict trade_orders    # product id → TradeOrder
    cdef dict position_ns     # (subaccount, product id, isolated) → engine time of the last change told

    cdef tuple key_of(self, object event, int kind)
    cdef bint is_new(self, tuple key, object event, int kind) except -1
    cdef int told(self, tuple key, object event, int kind) except -1
    cdef bint trade_is_new(self, object event, int link) except -1
    cdef int forget_trades(self, object product_id) except -1
    cdef int leave(self, int link) except -1
