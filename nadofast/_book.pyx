"""Level-2 book of one product: two sides of 128-bit integers (see `_ladder`), and the rules that bind them.

Rules S3–S10 of book synchronisation are enforced here, S1, S2 and S6 in `_feed`; see ARCHITECTURE.md. A
message is applied only after it was read completely, continuity first, then both sides; memory is reserved
before the first change. So a message is taken whole or not at all.
"""

from cpython.unicode cimport PyUnicode_AsUTF8AndSize
from libc.stdint cimport int64_t
from libc.stdlib cimport free, qsort
from libc.string cimport memset

from ._ladder cimport (
    Entries,
    Entry,
    Ladder,
    Walk,
    entries_reserve,
    ladder_clear,
    ladder_count,
    ladder_fill,
    ladder_free,
    ladder_init,
    ladder_known,
    ladder_put,
    ladder_qty,
    ladder_settle,
    ladder_tidy,
    ladder_worst,
    walk_next,
    walk_next_known,
    walk_start,
)
from ._parse cimport View, acquire_view, build_error, kind_name, release_view, unknown_kind
from ._message cimport KIND_DEPTH, KIND_UNKNOWN, Level, Levels, Message, message_init
from ._scan cimport scan
from ._x18 cimport (
    INT128_MAX,
    int128,
    int128_from_py,
    int128_to_py,
    scan_int128,
    uint128,
    uint128_to_py,
)

from .errors import BookInvalid, InsufficientDepth, SequenceGap


cdef enum:
    NO_END = 1 << 30          # more levels than a side can hold
    BID = 1                   # key = price * this: better is greater
    ASK = -1
    NEAR_HORIZON = 10         # known levels a side below which a new snapshot is due (S10)
    SPARE = 256               # levels that are counted beyond those

cdef tuple REASON_TEXTS = (
    None, "no snapshot", "cleared", "gap", "engine start", "crossed", "differs from the best bid and offer"
)

# One scratch for apply() of all books: nothing that runs while it is in use calls back.
cdef Message _scratch
message_init(&_scratch)


cdef int _compare(const void* left, const void* right) noexcept nogil:
    cdef int128 a = (<const Entry*>left).key
    cdef int128 b = (<const Entry*>right).key
    return (a > b) - (a < b)


cdef inline bint _has_room(Ladder* side, Py_ssize_t more) noexcept nogil:
    return side.rest.count + more <= side.rest.capacity or entries_reserve(&side.rest, more)


cdef inline bint _read(const Ladder* side, int sign, Py_ssize_t index, Level* out) noexcept nogil:
    cdef Walk walk
    cdef Entry entry = side.best
    cdef Py_ssize_t i
    if index < 0 or entry.qty == 0:
        return False
    if index > 0:
        walk = walk_start(side)
        for i in range(index + 1):
            if not walk_next(side, &walk, &entry):
                return False
    out.price = entry.key * sign
    out.qty = entry.qty
    return True


# --- snapshots from Python --------------------------------------------------------------------------------

cdef int _amount(object value, int128* out) except -1:
    """A price or quantity: int, or decimal str as queries return it."""
    cdef const char* text
    cdef Py_ssize_t size = 0
    if isinstance(value, str):
        text = PyUnicode_AsUTF8AndSize(value, &size)
        if size == 0 or scan_int128(text, text + size, out) != text + size:
            raise ValueError(f"not an integer of at most 128 bits: {value[:48]!r}")
    else:
        int128_from_py(value, out)
    if out[0] < 0:
        raise ValueError("a negative price or quantity")
    return 0


cdef Py_ssize_t _load(Entries* entries, int sign, object levels) except -1:
    """Levels of a snapshot, sorted, without those of quantity 0. Returns how many were shown."""
    cdef int128 price = 0
    cdef int128 qty = 0
    cdef Py_ssize_t shown = 0
    cdef Py_ssize_t i
    for price_x18, qty_x18 in levels:
        _amount(price_x18, &price)
        _amount(qty_x18, &qty)
        shown += 1
        if qty == 0:
            continue
        if not entries_reserve(entries, 1):
            raise MemoryError
        entries.items[entries.count].key = price * sign
        entries.items[entries.count].qty = qty
        entries.count += 1
    if entries.count > 1:
        qsort(entries.items, <size_t>entries.count, sizeof(Entry), _compare)
    for i in range(1, entries.count):
        if entries.items[i].key == entries.items[i - 1].key:
            raise ValueError("a snapshot with the same price twice")
    return shown


# --- 256-bit arithmetic of averages: price × quantity exceeds 128 bits ------------------------------------

cdef struct Wide:
    uint128 high
    uint128 low


cdef inline void _add_product(Wide* total, uint128 a, uint128 b) noexcept nogil:
    """total += a * b, exact for a and b below 2**127 and fewer than 2**16 additions of such products."""
    cdef uint128 mask = 0xFFFFFFFFFFFFFFFFULL
    cdef uint128 low = (a & mask) * (b & mask)
    cdef uint128 cross = (a >> 64) * (b & mask) + (low >> 64)
    cdef uint128 other = (a & mask) * (b >> 64) + (cross & mask)
    cdef uint128 high = (a >> 64) * (b >> 64) + (cross >> 64) + (other >> 64)
    low = (other << 64) | (low & mask)
    total.low += low
    total.high += high + <uint128>(total.low < low)


cdef uint128 _divide(Wide total, uint128 by) noexcept nogil:
    """Truncated quotient, which fits: total.high < by."""
    cdef uint128 quotient = 0
    cdef uint128 rest = total.high
    cdef bint carry
    cdef int bit
    if rest == 0:
        return total.low / by
    for bit in range(127, -1, -1):
        carry = (rest >> 127) != 0
        rest = (rest << 1) | ((total.low >> bit) & 1)
        quotient <<= 1
        if carry or rest >= by:
            rest -= by
            quotient |= 1
    return quotient


# --- rules of the whole book -----------------------------------------------------------------------------

cdef inline int _continuity(OrderBook book, const Message* m, bint strict) noexcept nogil:
    """BOOK_SAME if the message may be applied; BOOK_IGNORED or BOOK_GAP otherwise."""
    if strict:
        if m.max_ns <= book.snapshot_ns:                              # S3
            return BOOK_IGNORED
        if book.joined and (m.last_max_ns != book.timestamp_ns or m.max_ns < m.last_max_ns):
            return BOOK_GAP                                           # S5; time never runs back
        return BOOK_SAME if m.last_max_ns <= book.timestamp_ns else BOOK_GAP          # S4
    # Redundant links: what overlaps is applied, totals being absolute; what is known is a duplicate.
    if m.max_ns <= book.timestamp_ns:
        return BOOK_IGNORED
    if m.last_max_ns > book.timestamp_ns or (m.last_max_ns == 0 and book.timestamp_ns > 0):
        return BOOK_GAP                                               # S5, "0": engine start
    return BOOK_SAME


cdef inline bint _is_short(Ladder* side) noexcept nogil:
    """Whether few known levels are left. They are counted when enough may have gone since they last were."""
    if not side.limited or side.spare >= 0:
        return False
    side.spare = ladder_known(side, NEAR_HORIZON + SPARE) - NEAR_HORIZON
    return side.spare < 0


cdef inline bint _is_crossed(OrderBook book) noexcept nogil:
    return (book.bid_side.best.qty != 0 and book.ask_side.best.qty != 0
            and book.bid_side.best.key >= -book.ask_side.best.key)


cdef class OrderBook:
    def __cinit__(self, int64_t product_id):
        if product_id < 0:
            raise ValueError("a product id is not negative")
        self.product_id = product_id
        if not ladder_init(&self.bid_side, BID) or not ladder_init(&self.ask_side, ASK):
            raise MemoryError
        self.reason = REASON_NO_SNAPSHOT

    def __dealloc__(self):
        ladder_free(&self.bid_side)
        ladder_free(&self.ask_side)

    # --- C face ---

    cdef bint valid(self) noexcept nogil:
        return self.reason == REASON_NONE

    cdef bint read_bid(self, Py_ssize_t index, Level* out) noexcept nogil:
        """The index-th best bid, 0 being the best."""
        return _read(&self.bid_side, BID, index, out)

    cdef bint read_ask(self, Py_ssize_t index, Level* out) noexcept nogil:
        return _read(&self.ask_side, ASK, index, out)

    cdef Py_ssize_t known_bids(self) noexcept nogil:
        return ladder_known(&self.bid_side, NO_END)

    cdef Py_ssize_t known_asks(self) noexcept nogil:
        return ladder_known(&self.ask_side, NO_END)

    cdef bint is_near_horizon(self) noexcept nogil:
        """S10: the touch has moved so far that few known levels are left."""
        return self.valid() and (_is_short(&self.bid_side) or _is_short(&self.ask_side))

    cdef void invalidate(self, int reason) noexcept nogil:
        """An invalid book holds nothing, so that nothing can be read from it (S6)."""
        ladder_clear(&self.bid_side)
        ladder_clear(&self.ask_side)
        self.reason = reason

    cdef int take(self, const Message* m, bint strict) noexcept nogil:
        """Apply a scanned book_depth message of this product. Returns BOOK_*."""
        cdef Ladder* bids = &self.bid_side
        cdef Ladder* asks = &self.ask_side
        cdef bint bid_changed, ask_changed
        cdef Py_ssize_t bids_gone = 0
        cdef Py_ssize_t asks_gone = 0
        cdef Py_ssize_t i
        cdef int status
        if self.reason != REASON_NONE:
            return BOOK_NOT_VALID
        status = _continuity(self, m, strict)
        if status == BOOK_GAP:
            self.invalidate(
                REASON_ENGINE_START if m.last_max_ns == 0 and not strict else REASON_GAP
            )
        if status != BOOK_SAME:
            return status
        if not _has_room(bids, m.bids.count) or not _has_room(asks, m.asks.count):
            return BOOK_NO_MEMORY
        for i in range(m.bids.count):
            ladder_put(bids, BID, &m.bids.items[i])
            bids_gone += m.bids.items[i].qty == 0
        for i in range(m.asks.count):
            ladder_put(asks, ASK, &m.asks.items[i])
            asks_gone += m.asks.items[i].qty == 0
        bids.spare -= bids_gone
        asks.spare -= asks_gone
        self.timestamp_ns = m.max_ns
        self.joined = True
        bid_changed = ladder_settle(bids)
        ask_changed = ladder_settle(asks)
        if _is_crossed(self):
            self.invalidate(REASON_CROSSED)                               # S8
            return BOOK_CROSSED
        if bids.misses or bids.rest.count:
            ladder_tidy(bids)
        if asks.misses or asks.rest.count:
            ladder_tidy(asks)
        return BOOK_CHANGED if bid_changed or ask_changed else BOOK_SAME

    cdef int replace(self, object bids, object asks, int64_t timestamp_ns, Py_ssize_t depth) except -1:
        """Load a snapshot, all or nothing. Returns BOOK_CHANGED, or BOOK_CROSSED and the book is invalid."""
        cdef Entries new_bids
        cdef Entries new_asks
        cdef Py_ssize_t bids_shown, asks_shown
        if timestamp_ns < 0 or depth < 1:
            raise ValueError("timestamp_ns and depth are not negative")
        memset(&new_bids, 0, sizeof(Entries))
        memset(&new_asks, 0, sizeof(Entries))
        try:
            bids_shown = _load(&new_bids, BID, bids)
            asks_shown = _load(&new_asks, ASK, asks)
        except BaseException:
            free(new_bids.items)
            free(new_asks.items)
            raise
        # S10: as many levels as were asked for means there may be more behind the last one.
        ladder_fill(&self.bid_side, &new_bids, bids_shown >= depth)
        ladder_fill(&self.ask_side, &new_asks, asks_shown >= depth)
        self.timestamp_ns = self.snapshot_ns = timestamp_ns
        self.joined = False
        self.reason = REASON_NONE
        if _is_crossed(self):
            self.invalidate(REASON_CROSSED)
            return BOOK_CROSSED
        return BOOK_CHANGED

    cdef str reason_text(self):
        return REASON_TEXTS[self.reason]

    cdef int _sign(self, object side) except 0:
        """BID or ASK: the side an amount is taken from; a buyer walks the asks."""
        if side == "buy" or side == "ask" or side == "asks":
            return ASK
        if side == "sell" or side == "bid" or side == "bids":
            return BID
        raise ValueError(f"side is 'buy' or 'sell' (or 'ask', 'bid'), not {side!r}")

    cdef const Ladder* _ladder(self, int sign) noexcept nogil:
        return &self.bid_side if sign == BID else &self.ask_side

    # --- Python face: writing ---

    def load_snapshot(self, bids, asks, timestamp_ns, depth=100):
        self.replace(bids, asks, timestamp_ns, depth)

    def apply(self, data):
        cdef View view
        cdef int status
        acquire_view(data, &view)
        try:
            if scan(&_scratch, view.data, view.size) < 0:
                raise build_error(&_scratch)
            if _scratch.kind != KIND_DEPTH:
                kind = unknown_kind(&_scratch) if _scratch.kind == KIND_UNKNOWN else kind_name(_scratch.kind)
                raise ValueError(f"a book_depth message is needed, not {kind}")
        finally:
            release_view(&view)
        if _scratch.product_id != self.product_id:
            raise ValueError(f"message of product {_scratch.product_id}, book of product {self.product_id}")
        expected_ns = self.timestamp_ns
        status = self.take(&_scratch, True)
        if status == BOOK_NOT_VALID:
            raise BookInvalid(self.product_id, self.reason_text())
        if status == BOOK_GAP:
            raise SequenceGap(self.product_id, expected_ns, _scratch.last_max_ns)
        if status == BOOK_NO_MEMORY:
            raise MemoryError
        return status == BOOK_CHANGED or status == BOOK_CROSSED

    def clear(self):
        self.invalidate(REASON_CLEARED)
        self.timestamp_ns = self.snapshot_ns = 0
        self.joined = False

    # --- Python face: reading ---

    @property
    def is_valid(self):
        return self.reason == REASON_NONE

    @property
    def invalid_reason(self):
        return self.reason_text()

    @property
    def best_bid(self):
        cdef Level level
        if not self.read_bid(0, &level):
            return None
        return int128_to_py(level.price), int128_to_py(level.qty)

    @property
    def best_ask(self):
        cdef Level level
        if not self.read_ask(0, &level):
            return None
        return int128_to_py(level.price), int128_to_py(level.qty)

    @property
    def mid_x18(self):
        cdef Level bid
        cdef Level ask
        if not self.read_bid(0, &bid) or not self.read_ask(0, &ask):
            return None
        return int128_to_py(bid.price + (ask.price - bid.price) // 2)

    @property
    def spread_x18(self):
        cdef Level bid
        cdef Level ask
        if not self.read_bid(0, &bid) or not self.read_ask(0, &ask):
            return None
        return int128_to_py(ask.price - bid.price)

    @property
    def horizon(self):
        cdef int128 lowest = 0
        cdef int128 highest = INT128_MAX
        if self.bid_side.limited:
            lowest = self.bid_side.horizon
        elif self.bid_side.best.qty:
            lowest = ladder_worst(&self.bid_side)
        if self.ask_side.limited:
            highest = -self.ask_side.horizon
        elif self.ask_side.best.qty:
            highest = -ladder_worst(&self.ask_side)
        return int128_to_py(lowest), int128_to_py(highest)

    @property
    def known_levels(self):
        return self.known_bids(), self.known_asks()

    def __len__(self):
        return ladder_count(&self.bid_side) + ladder_count(&self.ask_side)

    def __repr__(self):
        state = "valid" if self.reason == REASON_NONE else self.reason_text()
        return f"<OrderBook product {self.product_id}: {state}, {len(self)} levels>"

    def bids(self, Py_ssize_t n):
        return _listed(&self.bid_side, BID, n)

    def asks(self, Py_ssize_t n):
        return _listed(&self.ask_side, ASK, n)

    def qty_x18(self, side, price_x18):
        cdef int sign = self._sign(side)
        cdef int128 price = 0
        _amount(price_x18, &price)
        return int128_to_py(ladder_qty(self._ladder(sign), price))

    def liquidity_x18(self, side, Py_ssize_t levels):
        cdef const Ladder* walked = self._ladder(self._sign(side))
        cdef Walk walk = walk_start(walked)
        cdef Entry entry
        cdef uint128 total = 0
        self._need_valid()
        if levels < 0:
            raise ValueError("levels is not negative")
        while levels > 0 and walk_next_known(walked, &walk, &entry):
            levels -= 1
            total += <uint128>entry.qty
            if total > <uint128>INT128_MAX:
                raise OverflowError("the liquidity does not fit 128 bits")
        return uint128_to_py(total)

    def vwap_x18(self, side, qty_x18):
        cdef int sign = self._sign(side)
        cdef int128 vwap = 0
        self._average(self._ladder(sign), sign, qty_x18, &vwap)
        return int128_to_py(vwap)

    def slippage_bps(self, side, qty_x18):
        cdef int sign = self._sign(side)
        cdef const Ladder* walked = self._ladder(sign)
        cdef int128 vwap = 0
        self._average(walked, sign, qty_x18, &vwap)
        cdef int128 best = walked.best.key * sign
        if best == 0:
            return 0.0
        return <double>((vwap - best) * -sign) / <double>best * 10_000.0

    cdef int _need_valid(self) except -1:
        if self.reason != REASON_NONE:
            raise BookInvalid(self.product_id, self.reason_text())
        return 0

    cdef int _average(self, const Ladder* side, int sign, object qty_x18, int128* out) except -1:
        """Truncated average price of the best qty_x18; InsufficientDepth at the horizon or the end (S10)."""
        cdef Walk walk = walk_start(side)
        cdef Wide total
        cdef Entry entry
        cdef int128 wanted = 0
        cdef int128 rest
        cdef int128 part
        self._need_valid()
        int128_from_py(qty_x18, &wanted)
        if wanted <= 0:
            raise ValueError("qty_x18 must be positive")
        total.high = 0
        total.low = 0
        rest = wanted
        while walk_next_known(side, &walk, &entry):
            part = entry.qty if entry.qty < rest else rest
            _add_product(&total, <uint128>(entry.key * sign), <uint128>part)
            rest -= part
            if rest == 0:
                out[0] = <int128>_divide(total, <uint128>wanted)
                return 0
        raise InsufficientDepth(self.product_id, qty_x18, int128_to_py(wanted - rest))


cdef list _listed(const Ladder* side, int sign, Py_ssize_t n):
    cdef Walk walk = walk_start(side)
    cdef Entry entry
    cdef list found = []
    if n < 0:
        raise ValueError("n is not negative")
    while n > 0 and walk_next(side, &walk, &entry):
        n -= 1
        found.append((int128_to_py(entry.key * sign), int128_to_py(entry.qty)))
    return found
