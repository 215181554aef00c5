"""One side of a book: a slot per tick around the touch, and a sorted rest for what lies outside.

What runs per change is inline here; what runs now and then is in `_ladder.pyx`. A key is the price of a bid or
the negative price of an ask: "better" is "greater" on both sides. A level is in the window if its key lies on
the grid there, else in the rest; never in both. Every price is exact wherever it is.
"""

from libc.stdint cimport uint64_t

from ._message cimport Level
from ._x18 cimport int128


cdef extern from *:
    """
    #define nado_highest(word) (63 - __builtin_clzll(word))
    #define nado_lowest(word) __builtin_ctzll(word)
    #define nado_rotate_right(word, by) ((word) >> (by) | (word) << (-(by) & 63))
    #define nado_high_product(a, b) ((uint64_t)((nado_uint128)(a) * (b) >> 64))
    /* a - b, in 64-bit registers: compilers like to take 128-bit loads through a vector and the stack. */
    NADO_INLINE uint64_t nado_difference(const nado_int128 *a, const nado_int128 *b, uint64_t *high) {
        uint64_t x[2], y[2];
        memcpy(x, a, 16);
        memcpy(y, b, 16);
        *high = x[1] - y[1] - (x[0] < y[0]);
        return x[0] - y[0];
    }
    """
    int highest_bit "nado_highest"(uint64_t word) noexcept nogil      # of a word that is not 0
    int lowest_bit "nado_lowest"(uint64_t word) noexcept nogil
    uint64_t rotate_right "nado_rotate_right"(uint64_t word, int by) noexcept nogil
    uint64_t difference "nado_difference"(const int128* a, const int128* b, uint64_t* high) noexcept nogil
    uint64_t high_product "nado_high_product"(uint64_t a, uint64_t b) noexcept nogil

cdef enum:
    SLOTS = 4096
    WORDS = 64                # of 64 slots each, so that one more word says which of them are in use

cdef struct Entry:
    int128 key
    int128 qty

cdef struct Entries:          # sorted, worst first
    Entry* items
    Py_ssize_t count
    Py_ssize_t capacity

cdef struct Ladder:
    int sign                  # key = price * sign
    # Slot i is key worst + i * tick, tick being odd << shift.
    uint64_t slots            # SLOTS; 0 while no grid is known
    int shift
    uint64_t odd
    uint64_t inverse          # of odd, modulo 2**64
    int128 tick
    int128 edge               # price of slot 0
    int128 worst              # its key
    # A slot holds a level if its quantity is not 0; then its bit (i % 64 of word i / 64) is set, and bit w of
    # `words` if used[w] is not 0. Both may be set for nothing: that is found out by who looks there.
    int128* qty
    uint64_t words
    uint64_t[64] used
    Entries rest
    Py_ssize_t misses         # changes outside the window since it was placed
    Entry best                # of all; quantity 0 if there is no level
    # The worst key a snapshot showed, if it did not show all (limited): beyond, only what changed is known.
    bint limited
    int128 horizon
    Py_ssize_t spare          # so many levels may go before those inside the horizon must be counted again

cdef struct Walk:             # over the levels of a side, best first
    Py_ssize_t slot           # those below are still to come
    Py_ssize_t item           # so are those of the rest


cdef bint ladder_init(Ladder* side, int sign) noexcept nogil
cdef void ladder_free(Ladder* side) noexcept nogil
cdef void ladder_clear(Ladder* side) noexcept nogil
cdef bint entries_reserve(Entries* entries, Py_ssize_t more) noexcept nogil
cdef void ladder_fill(Ladder* side, Entries* sorted_entries, bint limited) noexcept nogil
cdef void ladder_put_outside(Ladder* side, int128 key, int128 qty) noexcept nogil
cdef void ladder_tidy(Ladder* side) noexcept nogil
cdef Py_ssize_t ladder_count(const Ladder* side) noexcept nogil
cdef Py_ssize_t ladder_known(const Ladder* side, Py_ssize_t enough) noexcept nogil
cdef int128 ladder_qty(const Ladder* side, int128 price) noexcept nogil
cdef int128 ladder_worst(const Ladder* side) noexcept nogil


cdef inline uint64_t ladder_slot(const Ladder* side, uint64_t low, uint64_t high) noexcept nogil:
    """Slot at this distance (128 bits) from the worst one; side.slots or more if there is none.

    The inverse makes an exact division of a product: of slot << shift times odd. The bits that shift out come
    back in front, so one comparison finds a distance off the grid.
    """
    cdef uint64_t scaled = low * side.inverse
    cdef uint64_t slot = rotate_right(scaled, side.shift)
    if slot < side.slots and high_product(scaled, side.odd) != high:
        return SLOTS
    return slot


cdef inline void ladder_put(Ladder* side, int sign, const Level* level) noexcept nogil:
    """Set the total of one level; 0 removes it, known or not. The rest has room for one more.

    Nothing here depends on what the side holds: its best level is found once per message, by ladder_settle.
    """
    cdef uint64_t low, high, slot
    if sign > 0:
        low = difference(&level.price, &side.edge, &high)
    else:
        low = difference(&side.edge, &level.price, &high)
    slot = ladder_slot(side, low, high)
    if slot >= side.slots:
        ladder_put_outside(side, level.price * sign, level.qty)
        return
    side.qty[slot] = level.qty
    side.used[slot >> 6] |= <uint64_t>1 << (slot & 63)
    side.words |= <uint64_t>1 << (slot >> 6)


cdef inline Py_ssize_t ladder_below(const Ladder* side, Py_ssize_t slot) noexcept nogil:
    """The best slot below this one that may hold a level, -1 if there is none."""
    cdef int word = <int>(slot >> 6)
    cdef uint64_t bits = 0
    cdef uint64_t words = side.words
    if word < WORDS:
        bits = side.used[word] & ((<uint64_t>1 << (slot & 63)) - 1)
        words &= (<uint64_t>1 << word) - 1
    while bits == 0:
        if words == 0:
            return -1
        word = highest_bit(words)
        bits = side.used[word]
        words ^= <uint64_t>1 << word
    return (<Py_ssize_t>word << 6) + highest_bit(bits)


cdef inline Py_ssize_t ladder_best_slot(Ladder* side) noexcept nogil:
    """The best slot with a level, -1 if there is none. Clears the bits of those it finds empty."""
    cdef int word
    cdef Py_ssize_t slot
    while side.words:
        word = highest_bit(side.words)
        while side.used[word]:
            slot = (<Py_ssize_t>word << 6) + highest_bit(side.used[word])
            if side.qty[slot] != 0:
                return slot
            side.used[word] ^= <uint64_t>1 << (slot & 63)
        side.words ^= <uint64_t>1 << word
    return -1


cdef inline int128 ladder_key(const Ladder* side, Py_ssize_t slot) noexcept nogil:
    return side.worst + side.tick * <int128>slot


cdef inline Walk walk_start(const Ladder* side) noexcept nogil:
    cdef Walk walk
    walk.slot = SLOTS
    walk.item = side.rest.count
    return walk


cdef inline bint walk_next(const Ladder* side, Walk* walk, Entry* out) noexcept nogil:
    """The next level, False at the end."""
    cdef Py_ssize_t slot = ladder_below(side, walk.slot)
    cdef int128 key = 0
    while slot >= 0 and side.qty[slot] == 0:
        slot = ladder_below(side, slot)
    if slot >= 0:
        key = ladder_key(side, slot)
    if walk.item > 0 and (slot < 0 or side.rest.items[walk.item - 1].key > key):
        walk.slot = slot + 1
        walk.item -= 1
        out[0] = side.rest.items[walk.item]
        return True
    if slot < 0:
        return False
    walk.slot = slot
    out.key = key
    out.qty = side.qty[slot]
    return True


cdef inline bint walk_next_known(const Ladder* side, Walk* walk, Entry* out) noexcept nogil:
    """The next level inside the horizon."""
    return walk_next(side, walk, out) and not (side.limited and out.key < side.horizon)


cdef inline bint ladder_settle(Ladder* side) noexcept nogil:
    """Find the best level again after changes; True if it is another one, or its quantity is."""
    cdef Entry best
    cdef Py_ssize_t slot = ladder_best_slot(side)
    cdef bint changed
    best.key = best.qty = 0
    if slot >= 0:
        best.key = ladder_key(side, slot)
        best.qty = side.qty[slot]
    if side.rest.count and (slot < 0 or side.rest.items[side.rest.count - 1].key > best.key):
        best = side.rest.items[side.rest.count - 1]
    changed = best.key != side.best.key or best.qty != side.best.qty
    side.best = best
    return changed
