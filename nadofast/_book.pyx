"""Level-2 book of one product: two sorted arrays of 128-bit integers.

Rules S3–S10 of book synchronisation are enforced here, S1, S2 and S6 in `_feed`; see ARCHITECTURE.md. A
message is applied only after it was read completely, continuity first, then both sides; memory is reserved
before the first change. So a message is taken whole or not at all. Work is where trading is: the best
level is the last of its array, most changes touch the last few entries.
"""

from cpython.unicode cimport PyUnicode_AsUTF8AndSize
from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport free, qsort, realloc
from libc.string cimport memcpy, memmove, memset

from ._parse cimport View, acquire_view, build_error, kind_name, release_view, unknown_kind
from ._scan cimport KIND_DEPTH, KIND_UNKNOWN, Level, Levels, Message, message_init, scan
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
    PROBES = 8                # entries looked at one by one from the best end before halving
    MAX_ENTRIES = 16384       # per side; beyond, the worst are dropped and the horizon moves in
    NEAR_HORIZON = 10         # known levels a side below which a new snapshot is due (S10)

cdef tuple REASON_TEXTS = (
    None, "no snapshot", "cleared", "gap", "engine start", "crossed", "differs from the best bid and offer"
)

# One scratch for apply() of all books: nothing that runs while it is in use calls back.
cdef Message _scratch
message_init(&_scratch)


# --- one side ---------------------------------------------------------------------------------------------

cdef inline int128 _key(const BookSide* side, int128 price) noexcept nogil:
    return price if side.sign > 0 else -price


cdef inline Py_ssize_t _find(const BookSide* side, int128 key) noexcept nogil:
    """First entry that is not worse than key, looking from the best end."""
    cdef Py_ssize_t low = 0
    cdef Py_ssize_t high = side.count
    cdef Py_ssize_t middle
    cdef Py_ssize_t stop = max(high - PROBES, 0)
    while high > stop:
        if side.items[high - 1].key < key:
            return high
        high -= 1
    while low < high:
        middle = (low + high) >> 1
        if side.items[middle].key < key:
            low = middle + 1
        else:
            high = middle
    return low


cdef inline bint _is_hidden(const BookSide* side, int128 key) noexcept nogil:
    return side.limited and key < side.horizon


cdef inline void _put(BookSide* side, int128 price, int128 qty) noexcept nogil:
    """Set the total of one level; 0 removes it, known or not. Capacity is there."""
    cdef int128 key = _key(side, price)
    cdef Py_ssize_t at = _find(side, key)
    cdef Entry* entry = side.items + at
    cdef bint known = at < side.count and entry.key == key
    if qty == 0:
        if known:
            side.count -= 1
            memmove(entry, entry + 1, <size_t>(side.count - at) * sizeof(Entry))
            side.hidden -= _is_hidden(side, key)
    elif known:
        entry.qty = qty
    else:
        memmove(entry + 1, entry, <size_t>(side.count - at) * sizeof(Entry))
        entry.key = key
        entry.qty = qty
        side.count += 1
        side.hidden += _is_hidden(side, key)


cdef bint _reserve(BookSide* side, Py_ssize_t more) noexcept nogil:
    cdef Py_ssize_t capacity = side.capacity
    cdef Entry* items
    if side.count + more <= capacity:
        return True
    capacity = max(side.count + more, capacity * 2, <Py_ssize_t>256)
    items = <Entry*>realloc(side.items, <size_t>capacity * sizeof(Entry))
    if items == NULL:
        return False
    side.items = items
    side.capacity = capacity
    return True


cdef void _trim(BookSide* side) noexcept nogil:
    """Bounded memory: drop the worst levels and say so by moving the horizon."""
    cdef Py_ssize_t surplus = side.count - MAX_ENTRIES
    if surplus <= 0:
        return
    memmove(side.items, side.items + surplus, MAX_ENTRIES * sizeof(Entry))
    side.count = MAX_ENTRIES
    side.hidden = max(side.hidden - surplus, <Py_ssize_t>0)
    if not side.limited or side.items[0].key > side.horizon:
        side.horizon = side.items[0].key
        side.limited = True


cdef inline bint _same_best(const BookSide* side, Py_ssize_t count, Entry best) noexcept nogil:
    if side.count == 0 or count == 0:
        return side.count == count
    return side.items[side.count - 1].key == best.key and side.items[side.count - 1].qty == best.qty


cdef inline Entry _best(const BookSide* side) noexcept nogil:
    cdef Entry none
    if side.count:
        return side.items[side.count - 1]
    none.key = 0
    none.qty = 0
    return none


cdef inline bint _read(const BookSide* side, Py_ssize_t index, Level* out) noexcept nogil:
    if index < 0 or index >= side.count:
        return False
    out.price = side.items[side.count - 1 - index].key * side.sign
    out.qty = side.items[side.count - 1 - index].qty
    return True


cdef int _compare(const void* left, const void* right) noexcept nogil:
    cdef int128 a = (<const Entry*>left).key
    cdef int128 b = (<const Entry*>right).key
    return (a > b) - (a < b)


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


cdef int _load(BookSide* side, object levels, Py_ssize_t depth) except -1:
    """Levels of a snapshot into an empty side; zero quantities are left out."""
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
        if not _reserve(side, 1):
            raise MemoryError
        side.items[side.count].key = _key(side, price)
        side.items[side.count].qty = qty
        side.count += 1
    if side.count > 1:
        qsort(side.items, <size_t>side.count, sizeof(Entry), _compare)
    for i in range(1, side.count):
        if side.items[i].key == side.items[i - 1].key:
            raise ValueError("a snapshot with the same price twice")
    # S10: as many levels as were asked for means there may be more behind the last one.
    side.limited = shown >= depth and side.count > 0
    if side.limited:
        side.horizon = side.items[0].key
    _trim(side)
    return 0


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


cdef class OrderBook:
    def __cinit__(self, int64_t product_id):
        if product_id < 0:
            raise ValueError("a product id is not negative")
        self.product_id = product_id
        memset(&self.bid_side, 0, sizeof(BookSide))
        memset(&self.ask_side, 0, sizeof(BookSide))
        self.bid_side.sign = 1
        self.ask_side.sign = -1
        self.reason = REASON_NO_SNAPSHOT

    def __dealloc__(self):
        free(self.bid_side.items)
        free(self.ask_side.items)

    # --- C face ---

    cdef bint valid(self) noexcept nogil:
        return self.reason == REASON_NONE

    cdef bint read_bid(self, Py_ssize_t index, Level* out) noexcept nogil:
        """The index-th best bid, 0 being the best."""
        return _read(&self.bid_side, index, out)

    cdef bint read_ask(self, Py_ssize_t index, Level* out) noexcept nogil:
        return _read(&self.ask_side, index, out)

    cdef Py_ssize_t known_bids(self) noexcept nogil:
        return self.bid_side.count - self.bid_side.hidden

    cdef Py_ssize_t known_asks(self) noexcept nogil:
        return self.ask_side.count - self.ask_side.hidden

    cdef bint is_near_horizon(self) noexcept nogil:
        """S10: the touch has moved so far that few known levels are left."""
        return self.valid() and (
            (self.bid_side.limited and self.known_bids() < NEAR_HORIZON)
            or (self.ask_side.limited and self.known_asks() < NEAR_HORIZON)
        )

    cdef void invalidate(self, int reason) noexcept nogil:
        """An invalid book holds nothing, so that nothing can be read from it (S6)."""
        self.bid_side.count = self.bid_side.hidden = 0
        self.ask_side.count = self.ask_side.hidden = 0
        self.bid_side.limited = self.ask_side.limited = False
        self.reason = reason

    cdef int _continuity(self, const Message* m, bint strict) noexcept nogil:
        """BOOK_SAME if the message may be applied; BOOK_IGNORED or BOOK_GAP otherwise."""
        if strict:
            if m.max_ns <= self.snapshot_ns:                              # S3
                return BOOK_IGNORED
            if self.joined and (m.last_max_ns != self.timestamp_ns or m.max_ns < m.last_max_ns):
                return BOOK_GAP                                           # S5; time never runs back
            return BOOK_SAME if m.last_max_ns <= self.timestamp_ns else BOOK_GAP          # S4
        # Redundant links: what overlaps is applied, totals being absolute; what is known is a duplicate.
        if m.max_ns <= self.timestamp_ns:
            return BOOK_IGNORED
        if m.last_max_ns > self.timestamp_ns or (m.last_max_ns == 0 and self.timestamp_ns > 0):
            return BOOK_GAP                                               # S5, "0": engine start
        return BOOK_SAME

    cdef int take(self, const Message* m, bint strict) noexcept nogil:
        """Apply a scanned book_depth message of this product. Returns BOOK_*."""
        cdef BookSide* bids = &self.bid_side
        cdef BookSide* asks = &self.ask_side
        cdef Entry old_bid, old_ask
        cdef Py_ssize_t old_bids = bids.count
        cdef Py_ssize_t old_asks = asks.count
        cdef Py_ssize_t i
        cdef int status
        if self.reason != REASON_NONE:
            return BOOK_NOT_VALID
        status = self._continuity(m, strict)
        if status == BOOK_GAP:
            self.invalidate(
                REASON_ENGINE_START if m.last_max_ns == 0 and not strict else REASON_GAP
            )
        if status != BOOK_SAME:
            return status
        if not _reserve(bids, m.bids.count) or not _reserve(asks, m.asks.count):
            return BOOK_NO_MEMORY
        old_bid = _best(bids)
        old_ask = _best(asks)
        for i in range(m.bids.count):
            _put(bids, m.bids.items[i].price, m.bids.items[i].qty)
        for i in range(m.asks.count):
            _put(asks, m.asks.items[i].price, m.asks.items[i].qty)
        self.timestamp_ns = m.max_ns
        self.joined = True
        if bids.count and asks.count and bids.items[bids.count - 1].key >= -asks.items[asks.count - 1].key:
            self.invalidate(REASON_CROSSED)                               # S8
            return BOOK_CROSSED
        if bids.count > MAX_ENTRIES or asks.count > MAX_ENTRIES:
            _trim(bids)
            _trim(asks)
        if _same_best(bids, old_bids, old_bid) and _same_best(asks, old_asks, old_ask):
            return BOOK_SAME
        return BOOK_CHANGED

    cdef int replace(self, object bids, object asks, int64_t timestamp_ns, Py_ssize_t depth) except -1:
        """Load a snapshot, all or nothing. Returns BOOK_CHANGED, or BOOK_CROSSED and the book is invalid."""
        cdef BookSide new_bids
        cdef BookSide new_asks
        if timestamp_ns < 0 or depth < 1:
            raise ValueError("timestamp_ns and depth are not negative")
        memset(&new_bids, 0, sizeof(BookSide))
        memset(&new_asks, 0, sizeof(BookSide))
        new_bids.sign = 1
        new_asks.sign = -1
        try:
            _load(&new_bids, bids, depth)
            _load(&new_asks, asks, depth)
        except BaseException:
            free(new_bids.items)
            free(new_asks.items)
            raise
        free(self.bid_side.items)
        free(self.ask_side.items)
        self.bid_side = new_bids
        self.ask_side = new_asks
        self.timestamp_ns = self.snapshot_ns = timestamp_ns
        self.joined = False
        self.reason = REASON_NONE
        if (new_bids.count and new_asks.count
                and new_bids.items[new_bids.count - 1].key >= -new_asks.items[new_asks.count - 1].key):
            self.invalidate(REASON_CROSSED)
            return BOOK_CROSSED
        return BOOK_CHANGED

    cdef str reason_text(self):
        return REASON_TEXTS[self.reason]

    cdef BookSide* _side(self, object side) except NULL:
        """The side an amount is taken from: a buyer walks the asks."""
        if side == "buy" or side == "ask" or side == "asks":
            return &self.ask_side
        if side == "sell" or side == "bid" or side == "bids":
            return &self.bid_side
        raise ValueError(f"side is 'buy' or 'sell' (or 'ask', 'bid'), not {side!r}")

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
        elif self.bid_side.count:
            lowest = self.bid_side.items[0].key
        if self.ask_side.limited:
            highest = -self.ask_side.horizon
        elif self.ask_side.count:
            highest = -self.ask_side.items[0].key
        return int128_to_py(lowest), int128_to_py(highest)

    @property
    def known_levels(self):
        return self.known_bids(), self.known_asks()

    def __len__(self):
        return self.bid_side.count + self.ask_side.count

    def __repr__(self):
        state = "valid" if self.reason == REASON_NONE else self.reason_text()
        return f"<OrderBook product {self.product_id}: {state}, {len(self)} levels>"

    def bids(self, Py_ssize_t n):
        return _listed(&self.bid_side, n)

    def asks(self, Py_ssize_t n):
        return _listed(&self.ask_side, n)

    def qty_x18(self, side, price_x18):
        cdef BookSide* levels = self._side(side)
        cdef int128 price = 0
        cdef Py_ssize_t at
        _amount(price_x18, &price)
        at = _find(levels, _key(levels, price))
        if at == levels.count or levels.items[at].key != _key(levels, price):
            return 0
        return int128_to_py(levels.items[at].qty)

    def liquidity_x18(self, side, Py_ssize_t levels):
        cdef BookSide* walked = self._side(side)
        cdef uint128 total = 0
        cdef Py_ssize_t i
        self._need_valid()
        if levels < 0:
            raise ValueError("levels is not negative")
        for i in range(min(levels, walked.count - walked.hidden)):
            total += <uint128>walked.items[walked.count - 1 - i].qty
            if total > <uint128>INT128_MAX:
                raise OverflowError("the liquidity does not fit 128 bits")
        return uint128_to_py(total)

    def vwap_x18(self, side, qty_x18):
        cdef int128 vwap = 0
        self._average(self._side(side), qty_x18, &vwap)
        return int128_to_py(vwap)

    def slippage_bps(self, side, qty_x18):
        cdef BookSide* walked = self._side(side)
        cdef int128 vwap = 0
        self._average(walked, qty_x18, &vwap)
        cdef int128 best = walked.items[walked.count - 1].key * walked.sign
        if best == 0:
            return 0.0
        return <double>((vwap - best) * -walked.sign) / <double>best * 10_000.0

    cdef int _need_valid(self) except -1:
        if self.reason != REASON_NONE:
            raise BookInvalid(self.product_id, self.reason_text())
        return 0

    cdef int _average(self, const BookSide* side, object qty_x18, int128* out) except -1:
        """Truncated average price of the best qty_x18; InsufficientDepth at the horizon or the end (S10)."""
        cdef Wide total
        cdef int128 wanted = 0
        cdef int128 rest
        cdef int128 part
        cdef const Entry* entry
        cdef Py_ssize_t i
        self._need_valid()
        int128_from_py(qty_x18, &wanted)
        if wanted <= 0:
            raise ValueError("qty_x18 must be positive")
        total.high = 0
        total.low = 0
        rest = wanted
        for i in range(side.count - 1, side.hidden - 1, -1):
            entry = side.items + i
            part = entry.qty if entry.qty < rest else rest
            _add_product(&total, <uint128>(entry.key * side.sign), <uint128>part)
            rest -= part
            if rest == 0:
                out[0] = <int128>_divide(total, <uint128>wanted)
                return 0
        raise InsufficientDepth(self.product_id, qty_x18, int128_to_py(wanted - rest))


cdef list _listed(const BookSide* side, Py_ssize_t n):
    cdef Py_ssize_t i
    cdef Level level
    cdef list found = []
    if n < 0:
        raise ValueError("n is not negative")
    for i in range(min(n, side.count)):
        if not _read(side, i, &level):
            break
        found.append((int128_to_py(level.price), int128_to_py(level.qty)))
    return found
