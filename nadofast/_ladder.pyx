"""One side of a book, the part that runs now and then: placing the window, the rest, the horizon.

The grid is learned from the prices themselves: the greatest common divisor of their distances, near the touch.
A price that does not fit it, or lies beyond the window, goes to a sorted array, which is exact and slower. When
many have gone there since the window was placed it is placed anew, so the touch may move as far as it likes;
the cost of that is bounded by the changes that caused it.
"""

from libc.stdint cimport uint64_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memmove, memset

from ._x18 cimport int128, uint128


cdef enum:
    HEADROOM = 1024           # slots left free above the best level when the window is placed
    SAMPLE = 128              # levels from the touch that the grid is learned from
    STARTS = 3                # so many levels at the touch may be off the grid
    MAX_MISSES = 256          # changes outside the window before it is placed anew, plus the size of the rest
    MAX_LEVELS = 16384        # per side; beyond, the worst are dropped and the horizon moves in
    TICK_BITS = 110           # SLOTS ticks stay below 2**124
    MAX_SHIFT = 52            # and SLOTS << shift below 2**64
    FAR_BITS = 124            # keys this far out have no window, so that nothing wraps


# --- memory -----------------------------------------------------------------------------------------------

cdef bint ladder_init(Ladder* side, int sign) noexcept nogil:
    """False without memory."""
    memset(side, 0, sizeof(Ladder))
    side.sign = sign
    side.qty = <int128*>calloc(SLOTS, sizeof(int128))
    return side.qty != NULL


cdef void ladder_free(Ladder* side) noexcept nogil:
    free(side.qty)
    free(side.rest.items)


cdef bint entries_reserve(Entries* entries, Py_ssize_t more) noexcept nogil:
    cdef Py_ssize_t capacity = entries.capacity
    cdef Entry* items
    if entries.count + more <= capacity:
        return True
    capacity = max(entries.count + more, capacity * 2, <Py_ssize_t>64)
    items = <Entry*>realloc(entries.items, <size_t>capacity * sizeof(Entry))
    if items == NULL:
        return False
    entries.items = items
    entries.capacity = capacity
    return True


cdef void _empty_window(Ladder* side) noexcept nogil:
    cdef Py_ssize_t slot
    while True:
        slot = ladder_best_slot(side)
        if slot < 0:
            return
        side.qty[slot] = 0


cdef void ladder_clear(Ladder* side) noexcept nogil:
    _empty_window(side)
    side.rest.count = 0
    side.misses = 0
    side.limited = False
    side.best.key = side.best.qty = 0


# --- the rest ---------------------------------------------------------------------------------------------

cdef Py_ssize_t _find(const Entries* entries, int128 key) noexcept nogil:
    """First entry that is not worse than key."""
    cdef Py_ssize_t low = 0
    cdef Py_ssize_t high = entries.count
    cdef Py_ssize_t middle
    while low < high:
        middle = (low + high) >> 1
        if entries.items[middle].key < key:
            low = middle + 1
        else:
            high = middle
    return low


cdef void ladder_put_outside(Ladder* side, int128 key, int128 qty) noexcept nogil:
    cdef Entries* rest = &side.rest
    cdef Py_ssize_t at = _find(rest, key)
    cdef Entry* entry = rest.items + at
    cdef bint known = at < rest.count and entry.key == key
    side.misses += 1
    if qty == 0:
        if known:
            rest.count -= 1
            memmove(entry, entry + 1, <size_t>(rest.count - at) * sizeof(Entry))
    elif known:
        entry.qty = qty
    else:
        memmove(entry + 1, entry, <size_t>(rest.count - at) * sizeof(Entry))
        entry.key = key
        entry.qty = qty
        rest.count += 1


# --- the grid ---------------------------------------------------------------------------------------------

cdef uint128 _divisor(uint128 a, uint128 b) noexcept nogil:
    cdef uint128 rest
    while b != 0:
        rest = a % b
        a = b
        b = rest
    return a


cdef uint128 _learn(const Entries* entries, Py_ssize_t start, Py_ssize_t* covered) noexcept nogil:
    """Tick of the levels near `start`; a level that would make it too fine to reach that level is left out."""
    cdef int128 origin = entries.items[start].key
    cdef Py_ssize_t stop = max(start - SAMPLE, <Py_ssize_t>-1)
    cdef Py_ssize_t i
    cdef uint128 tick = 0
    cdef uint128 distance, finer
    covered[0] = 1
    for i in range(start - 1, stop, -1):
        distance = <uint128>origin - <uint128>entries.items[i].key
        finer = _divisor(tick, distance) if tick == 0 or distance % tick != 0 else tick
        if distance // finer < SLOTS - HEADROOM:
            tick = finer
            covered[0] += 1
    return tick


cdef void _place(Ladder* side, int128 origin, uint128 tick) noexcept nogil:
    """Window of this grid around the best level, or none if the numbers are too large for one."""
    cdef int128 far = <int128>1 << FAR_BITS
    cdef int i
    side.slots = 0
    side.shift = 0
    while tick != 0 and side.shift < MAX_SHIFT and (tick & 1) == 0:
        tick >>= 1
        side.shift += 1
    if (tick & 1) == 0 or tick >> 64 != 0 or tick >> (TICK_BITS - side.shift) != 0 or not -far < origin < far:
        return
    side.odd = side.inverse = <uint64_t>tick         # right in 3 bits, and in twice as many after every step
    for i in range(5):
        side.inverse *= 2 - side.odd * side.inverse
    side.tick = <int128>tick << side.shift
    side.worst = origin - side.tick * (SLOTS - 1 - HEADROOM)
    side.edge = side.worst * side.sign
    side.slots = SLOTS


cdef void _spread(Ladder* side) noexcept nogil:
    """All levels are in the rest, the window is empty: learn the grid, place the window, fill it."""
    cdef Entries* rest = &side.rest
    cdef Py_ssize_t best_covered = 0
    cdef Py_ssize_t covered = 0
    cdef Py_ssize_t kept = 0
    cdef Py_ssize_t i
    cdef int128 origin = 0
    cdef uint128 tick = 0
    cdef uint128 found
    cdef uint64_t low, high, slot
    for i in range(rest.count - 1, max(rest.count - 1 - STARTS, <Py_ssize_t>-1), -1):
        found = _learn(rest, i, &covered)
        if covered > best_covered:
            best_covered = covered
            tick = found
            origin = rest.items[i].key
    _place(side, origin, tick)
    side.misses = 0
    if side.slots == 0:
        return
    for i in range(rest.count):
        low = difference(&rest.items[i].key, &side.worst, &high)
        slot = ladder_slot(side, low, high)
        if slot < side.slots:
            side.qty[slot] = rest.items[i].qty
            side.used[slot >> 6] |= <uint64_t>1 << (slot & 63)
            side.words |= <uint64_t>1 << (slot >> 6)
        else:
            rest.items[kept] = rest.items[i]
            kept += 1
    rest.count = kept


cdef bint _gather(Ladder* side) noexcept nogil:
    """All levels into the rest, merged in place from the best end. False without memory."""
    cdef Entries* rest = &side.rest
    cdef Py_ssize_t in_window = _slots_used(side)
    cdef Py_ssize_t at = rest.count + in_window
    cdef Walk walk = walk_start(side)
    cdef Entry entry
    if not entries_reserve(rest, in_window):
        return False
    while walk_next(side, &walk, &entry):
        at -= 1
        rest.items[at] = entry
    rest.count += in_window
    _empty_window(side)
    return True


cdef void ladder_fill(Ladder* side, Entries* sorted_entries, bint limited) noexcept nogil:
    """Replace everything by these levels, whose memory the side takes over."""
    free(side.rest.items)
    ladder_clear(side)
    side.rest = sorted_entries[0]
    memset(sorted_entries, 0, sizeof(Entries))
    side.limited = limited and side.rest.count > 0
    if side.limited:
        side.horizon = side.rest.items[0].key
    side.spare = -1
    _spread(side)
    ladder_tidy(side)
    ladder_settle(side)


# --- bounds -----------------------------------------------------------------------------------------------

cdef Py_ssize_t _lowest_slot(const Ladder* side) noexcept nogil:
    """The worst slot with a level, -1 if there is none."""
    cdef uint64_t words = side.words
    cdef uint64_t bits
    cdef Py_ssize_t slot
    while words:
        bits = side.used[lowest_bit(words)]
        while bits:
            slot = (<Py_ssize_t>lowest_bit(words) << 6) + lowest_bit(bits)
            if side.qty[slot] != 0:
                return slot
            bits &= bits - 1
        words &= words - 1
    return -1


cdef int128 ladder_worst(const Ladder* side) noexcept nogil:
    """Key of the worst level; the side is not empty."""
    cdef Py_ssize_t slot = _lowest_slot(side)
    if slot < 0 or (side.rest.count and side.rest.items[0].key < ladder_key(side, slot)):
        return side.rest.items[0].key
    return ladder_key(side, slot)


cdef void _trim(Ladder* side, Py_ssize_t surplus) noexcept nogil:
    """Drop the worst levels and say so by moving the horizon."""
    cdef Entries* rest = &side.rest
    cdef Py_ssize_t dropped = 0
    cdef Py_ssize_t slot
    cdef int128 worst
    while surplus > 0:
        slot = _lowest_slot(side)
        if slot < 0 or (dropped < rest.count and rest.items[dropped].key < ladder_key(side, slot)):
            dropped += 1
        else:
            side.qty[slot] = 0
        surplus -= 1
    rest.count -= dropped
    memmove(rest.items, rest.items + dropped, <size_t>rest.count * sizeof(Entry))
    worst = ladder_worst(side)
    if not side.limited or worst > side.horizon:
        side.horizon = worst
        side.limited = True
        side.spare = -1


cdef void ladder_tidy(Ladder* side) noexcept nogil:
    """Due after changes outside the window: place it anew if there were many, and keep memory bounded."""
    cdef Py_ssize_t surplus
    if side.misses > MAX_MISSES + side.rest.count and _gather(side):
        _spread(side)
    if side.rest.count > MAX_LEVELS - SLOTS:
        surplus = ladder_count(side) - MAX_LEVELS
        if surplus > 0:
            _trim(side, surplus)


# --- reading ----------------------------------------------------------------------------------------------

cdef Py_ssize_t _slots_used(const Ladder* side) noexcept nogil:
    cdef Py_ssize_t slot = ladder_below(side, SLOTS)
    cdef Py_ssize_t total = 0
    while slot >= 0:
        total += side.qty[slot] != 0
        slot = ladder_below(side, slot)
    return total


cdef Py_ssize_t ladder_count(const Ladder* side) noexcept nogil:
    return _slots_used(side) + side.rest.count


cdef Py_ssize_t ladder_known(const Ladder* side, Py_ssize_t enough) noexcept nogil:
    """Levels inside the horizon; counting ends at `enough`."""
    cdef Walk walk = walk_start(side)
    cdef Entry entry
    cdef Py_ssize_t total = 0
    while total < enough and walk_next_known(side, &walk, &entry):
        total += 1
    return total


cdef int128 ladder_qty(const Ladder* side, int128 price) noexcept nogil:
    """Total at one price, 0 if there is none."""
    cdef int128 key = price * side.sign
    cdef uint64_t high
    cdef uint64_t low = difference(&key, &side.worst, &high)
    cdef uint64_t slot = ladder_slot(side, low, high)
    cdef Py_ssize_t at
    if slot < side.slots:
        return side.qty[slot]
    at = _find(&side.rest, key)
    if at < side.rest.count and side.rest.items[at].key == key:
        return side.rest.items[at].qty
    return 0
