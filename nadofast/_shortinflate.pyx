"""Raw deflate (RFC 1951) for streams of short messages that share one window.

What a short message costs is mostly its code tables, so: only symbols that occur are sorted, a table is as
wide as its longest code, and it is made by doubling, each code written once. A message is decoded in one
go: its input lies in a padded buffer of ours, so that eight bytes can be read anywhere, and its output
follows the history in memory, so that a match is a plain copy.

An entry of a table: bits 0–7 bits to drop (code and extra), 8–12 length of the code itself, 13 SUBTABLE,
14 STOP, 16–30 literal, base or place of the subtable, 31 LITERAL. Data is refused exactly where zlib
refuses it, except that a distance beyond a negotiated window is always refused.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy, memmove, memset

from ._status cimport INFLATE_BROKEN, INFLATE_NO_MEMORY, INFLATE_OK, INFLATE_TOO_LARGE, INFLATE_TRUNCATED


cdef extern from "<endian.h>" nogil:
    uint64_t le64toh(uint64_t value)


cdef extern from * nogil:
    int leading_zeros "__builtin_clz"(unsigned int value)


cdef enum:
    SUBTABLE = 1 << 13
    STOP = 1 << 14
    INVALID = 1 << 16         # value of a STOP entry that is not the end of a block
    TAIL = 4
    PADDING = 16
    SLACK = 320               # one step writes two literals and a match, and rounds a copy up to 16 bytes
    ROOM = 98304              # for messages, beside the history
    FIRST_DATA = 4096
    LEAST_ROOM = 2048

cdef uint32_t LITERAL = 1u << 31
cdef uint8_t[4] FLUSH = [0x00, 0x00, 0xFF, 0xFF]   # what a sender leaves out
cdef uint8_t[19] LENGTH_ORDER = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15]

# Entries without the length of their code.
cdef uint32_t[288] LITERAL_RESULT
cdef uint32_t[32] DISTANCE_RESULT
cdef uint32_t[19] LENGTH_RESULT
cdef uint32_t[512] FIXED_LITERALS
cdef uint32_t[32] FIXED_DISTANCES


cdef inline uint64_t load(const uint8_t* data) noexcept nogil:
    cdef uint64_t value
    memcpy(&value, data, 8)
    return le64toh(value)


cdef inline void refill(Bits* bits) noexcept nogil:
    """At least 56 bits; beyond the end they are zeros, and left() turns negative once those are used."""
    if bits.next <= bits.end:
        bits.hold |= load(bits.next) << bits.count
    bits.next += (63 - bits.count) >> 3
    bits.count |= 56


cdef inline unsigned int take(Bits* bits, unsigned int size) noexcept nogil:
    cdef unsigned int value = <unsigned int>(bits.hold & ((<uint64_t>1 << size) - 1))
    bits.hold >>= size
    bits.count -= size
    return value


cdef inline Py_ssize_t left(const Bits* bits) noexcept nogil:
    """Bits of the data that are not used yet."""
    return 8 * (bits.end - bits.next) + <Py_ssize_t>bits.count


cdef inline uint32_t entry(uint32_t result, unsigned int length) noexcept nogil:
    return result + (length << 8) + length


cdef inline unsigned int next_code(unsigned int code, unsigned int length) noexcept nogil:
    """The following code of that length, both with the first bit lowest; `code` is not the last one."""
    cdef unsigned int bit = 1u << (31 - leading_zeros(code ^ ((1u << length) - 1)))
    return (code & (bit - 1)) | bit


cdef int build(const Code* code, const uint32_t* results, unsigned int most_bits, unsigned int size,
               bint may_be_partial, uint32_t* table, unsigned int* table_bits) noexcept nogil:
    """A table of at most 2**most_bits entries, then subtables. Codes are canonical (RFC 1951, 3.2.2)."""
    cdef unsigned int[16] count
    cdef unsigned int[16] offset
    cdef unsigned short[320] order
    cdef unsigned int length, longest = 15, bits, i, word, at, end, prefix, sub_start, sub_bits, space
    cdef int unused = 1
    while longest > 0 and code.count[longest] == 0:
        longest -= 1
    if longest == 0:
        table_bits[0] = 1
        table[0] = table[1] = STOP | INVALID | 0x101
        return INFLATE_OK if may_be_partial else INFLATE_BROKEN
    at = 0
    for length in range(1, longest + 1):
        unused = (unused << 1) - <int>code.count[length]
        if unused < 0:
            return INFLATE_BROKEN
        count[length] = code.count[length]
        offset[length] = at
        at += code.count[length]
    if unused > 0 and not (may_be_partial and longest == 1):
        return INFLATE_BROKEN
    for i in range(code.used):
        order[offset[code.length[i]]] = code.symbol[i]
        offset[code.length[i]] += 1

    bits = min(longest, most_bits)
    table_bits[0] = bits
    if unused > 0:            # one code of one bit; the other one is an error
        table[0] = entry(results[order[0]], 1)
        table[1] = STOP | INVALID | 0x101
        return INFLATE_OK
    length = 1
    end = 2
    word = 0
    i = 0
    while count[length] == 0:
        length += 1
        end <<= 1
    while True:
        at = i + count[length]
        while i < at:
            table[word] = entry(results[order[i]], length)
            i += 1
            if word == end - 1:          # the last code of all
                while length < bits:
                    memcpy(table + end, table, end * sizeof(uint32_t))
                    end <<= 1
                    length += 1
                return INFLATE_OK
            word = next_code(word, length)
        while True:
            length += 1
            if length > bits:
                break
            memcpy(table + end, table, end * sizeof(uint32_t))
            end <<= 1
            if count[length] != 0:
                break
        if length > bits:
            break

    while count[length] == 0:
        length += 1
    prefix = 0xFFFFFFFF
    sub_start = sub_bits = 0
    end = 1u << bits
    while True:
        if word & ((1u << bits) - 1) != prefix:
            prefix = word & ((1u << bits) - 1)
            sub_start = end
            sub_bits = length - bits
            space = count[length]
            while space < (1u << sub_bits):
                sub_bits += 1
                space = (space << 1) + count[bits + sub_bits]
            end = sub_start + (1u << sub_bits)
            if end > size:
                return INFLATE_BROKEN
            table[prefix] = (sub_start << 16) | SUBTABLE | (sub_bits << 8) | bits
        at = sub_start + (word >> bits)
        while at < end:
            table[at] = entry(results[order[i]], length - bits)
            at += 1u << (length - bits)
        i += 1
        if word == (1u << length) - 1:
            return INFLATE_OK
        word = next_code(word, length)
        count[length] -= 1
        while count[length] == 0:
            length += 1


cdef inline void use(Code* code, unsigned int symbol, unsigned int length) noexcept nogil:
    code.count[length] += 1
    code.symbol[code.used] = <unsigned short>symbol
    code.length[code.used] = <uint8_t>length
    code.used += 1


cdef int _prepare() except -1:
    cdef Code code
    cdef unsigned int i, bits, base, extra
    for i in range(256):
        LITERAL_RESULT[i] = LITERAL | (i << 16)
    LITERAL_RESULT[256] = STOP
    base = 3
    for i in range(257, 285):
        extra = 0 if i < 265 else (i - 261) >> 2
        LITERAL_RESULT[i] = (base << 16) | extra
        base += 1u << extra
    LITERAL_RESULT[285] = 258 << 16
    LITERAL_RESULT[286] = LITERAL_RESULT[287] = STOP | INVALID
    base = 1
    for i in range(30):
        extra = 0 if i < 4 else (i >> 1) - 1
        DISTANCE_RESULT[i] = (base << 16) | extra
        base += 1u << extra
    DISTANCE_RESULT[30] = DISTANCE_RESULT[31] = STOP | INVALID
    for i in range(19):
        LENGTH_RESULT[i] = i << 16
    memset(&code, 0, sizeof(Code))
    for i in range(288):
        use(&code, i, 8 if i < 144 else 9 if i < 256 else 7 if i < 280 else 8)
    build(&code, LITERAL_RESULT, 9, 512, False, FIXED_LITERALS, &bits)
    memset(&code, 0, sizeof(Code))
    for i in range(32):
        use(&code, i, 5)
    build(&code, DISTANCE_RESULT, 5, 32, False, FIXED_DISTANCES, &bits)
    return 0


_prepare()


cdef class ShortInflater:
    def __cinit__(self, int window_bits, bint no_takeover, Py_ssize_t max_output):
        self.window = 1 << max(window_bits, 9)
        self.no_takeover = no_takeover
        self.max_output = max_output
        self.capacity = self.window + min(max_output, <Py_ssize_t>ROOM) + LEAST_ROOM + SLACK
        self.buffer = <uint8_t*>malloc(<size_t>self.capacity)
        self.data_capacity = FIRST_DATA
        self.data = <uint8_t*>malloc(FIRST_DATA)
        if self.buffer == NULL or self.data == NULL:
            raise MemoryError
        self.out = self.buffer

    def __dealloc__(self):
        free(self.buffer)
        free(self.data)

    cdef void begin(self) noexcept nogil:
        self.data_size = 0
        self.out_size = 0

    cdef int feed(self, const uint8_t* data, Py_ssize_t size, bint final) noexcept nogil:
        """One fragment; after the final one the whole message is in out[:out_size]."""
        cdef Py_ssize_t need = self.data_size + size + TAIL + PADDING
        cdef uint8_t* grown
        if need > self.data_capacity:
            # Deflate never grows by an eighth; what does is made of empty blocks.
            if self.data_size + size > self.max_output + self.max_output // 8 + FIRST_DATA:
                return INFLATE_TOO_LARGE
            need = max(need, 2 * self.data_capacity)
            grown = <uint8_t*>realloc(self.data, <size_t>need)
            if grown == NULL:
                return INFLATE_NO_MEMORY
            self.data = grown
            self.data_capacity = need
        if size > 0:
            memcpy(self.data + self.data_size, data, <size_t>size)
        self.data_size += size
        return self._message() if final else INFLATE_OK

    cdef int _message(self) noexcept nogil:
        cdef Bits* bits = &self.bits
        cdef unsigned int header
        cdef int status
        memcpy(self.data + self.data_size, FLUSH, TAIL)
        memset(self.data + self.data_size + TAIL, 0, PADDING)
        bits.next = self.data
        bits.end = self.data + self.data_size + TAIL
        if self.no_takeover:
            self.pos = self.floor = 0
            bits.hold = bits.count = 0
        elif self.capacity - self.pos < LEAST_ROOM + SLACK:
            self.start = self.pos
            self._slide()
        self.start = self.pos
        while left(bits) >= 3:
            refill(bits)
            header = take(bits, 3)
            status = self._block(header >> 1)
            if status != INFLATE_OK:
                return status
            if left(bits) < 0:
                return INFLATE_TRUNCATED
            if header & 1:
                take(bits, bits.count & 7)   # a stream ended; the window goes on (RFC 7692, 7.2.3.4)
        # One or two bits over belong to the next message's first block.
        header = <unsigned int>left(bits)
        bits.hold &= (1u << header) - 1
        bits.count = header
        self.out = self.buffer + self.start
        self.out_size = self.pos - self.start
        return INFLATE_OK if self.out_size <= self.max_output else INFLATE_TOO_LARGE

    cdef int _block(self, unsigned int kind) noexcept nogil:
        cdef int status
        if kind == 0:
            return self._stored()
        if kind == 1:
            return self._symbols(FIXED_LITERALS, 9, FIXED_DISTANCES, 5)
        if kind == 3:
            return INFLATE_BROKEN
        status = self._codes()
        if status != INFLATE_OK:
            return status
        return self._symbols(self.literal_table, self.literal_bits, self.distance_table, self.distance_bits)

    cdef int _stored(self) noexcept nogil:
        cdef Bits* bits = &self.bits
        cdef const uint8_t* data = bits.next - (bits.count >> 3)
        cdef unsigned int size
        cdef int status
        if bits.end - data < 4:
            return INFLATE_TRUNCATED
        size = data[0] | (data[1] << 8)
        if size != (~(data[2] | (<unsigned int>data[3] << 8)) & 0xFFFF):
            return INFLATE_BROKEN
        data += 4
        if bits.end - data < <Py_ssize_t>size:
            return INFLATE_TRUNCATED
        if self.capacity - self.pos < <Py_ssize_t>size + SLACK:
            status = self._room(size)
            if status != INFLATE_OK:
                return status
        memcpy(self.buffer + self.pos, data, size)
        self.pos += size
        bits.next = data + size
        bits.hold = bits.count = 0
        return INFLATE_OK

    cdef int _codes(self) noexcept nogil:
        """Header of a dynamic block: both tables."""
        cdef Bits* bits = &self.bits
        cdef Code code
        cdef uint8_t[19] lengths
        cdef uint32_t[128] table
        cdef unsigned int literals, distances, sizes, i, table_bits = 0
        cdef int status
        refill(bits)
        literals = 257 + take(bits, 5)
        distances = 1 + take(bits, 5)
        sizes = 4 + take(bits, 4)
        if literals > 286 or distances > 30:
            return INFLATE_BROKEN
        memset(lengths, 0, sizeof(lengths))
        for i in range(sizes):
            if i % 14 == 0:
                refill(bits)
            lengths[LENGTH_ORDER[i]] = <uint8_t>take(bits, 3)
        memset(code.count, 0, sizeof(code.count))
        code.used = 0
        for i in range(19):
            if lengths[i] != 0:
                use(&code, i, lengths[i])
        status = build(&code, LENGTH_RESULT, LENGTH_BITS, LENGTH_TABLE, False, table, &table_bits)
        if status == INFLATE_OK:
            status = self._lengths(table, table_bits, literals, literals + distances)
        if status == INFLATE_OK:
            status = build(&self.literals, LITERAL_RESULT, LITERAL_BITS, LITERAL_TABLE, True,
                           self.literal_table, &self.literal_bits)
        if status == INFLATE_OK:
            status = build(&self.distances, DISTANCE_RESULT, DISTANCE_BITS, DISTANCE_TABLE, True,
                           self.distance_table, &self.distance_bits)
        return status

    cdef int _lengths(self, const uint32_t* table, unsigned int table_bits, unsigned int literals,
                      unsigned int total) noexcept nogil:
        """The run-length coded code lengths; only symbols that are used are kept."""
        cdef Bits* bits = &self.bits
        cdef unsigned int i = 0, symbol, repeat, length = 0
        cdef unsigned int mask = (1u << table_bits) - 1
        cdef uint32_t found
        cdef bint has_end = False
        memset(self.literals.count, 0, sizeof(self.literals.count))
        memset(self.distances.count, 0, sizeof(self.distances.count))
        self.literals.used = self.distances.used = 0
        while i < total:
            if bits.count < 14:
                if left(bits) < 0:
                    return INFLATE_TRUNCATED
                refill(bits)
            found = table[bits.hold & mask]
            take(bits, found & 0xFF)
            symbol = found >> 16
            repeat = 1
            if symbol < 16:
                length = symbol
            elif symbol == 16:
                if i == 0:
                    return INFLATE_BROKEN
                repeat = 3 + take(bits, 2)
            else:
                repeat = 3 + take(bits, 3) if symbol == 17 else 11 + take(bits, 7)
                length = 0
            if i + repeat > total:
                return INFLATE_BROKEN
            if length == 0:
                i += repeat
                continue
            if i <= 256 < i + repeat:
                has_end = True
            while repeat > 0:
                if i < literals:
                    use(&self.literals, i, length)
                else:
                    use(&self.distances, i - literals, length)
                i += 1
                repeat -= 1
        return INFLATE_OK if has_end else INFLATE_BROKEN

    cdef int _symbols(self, const uint32_t* literals, unsigned int literal_bits,
                      const uint32_t* distances, unsigned int distance_bits) noexcept nogil:
        """Literals and matches up to the end of the block. State lives in locals: stores of bytes alias."""
        cdef uint64_t hold = self.bits.hold
        cdef unsigned int count = self.bits.count
        cdef const uint8_t* next = self.bits.next
        cdef const uint8_t* end = self.bits.end
        cdef uint8_t* out = self.buffer + self.pos
        cdef uint8_t* limit = self.buffer + self.capacity - SLACK
        cdef const uint8_t* floor = self.buffer + self.floor
        cdef const uint8_t* source
        cdef uint8_t* stop
        cdef uint64_t literal_mask = (1u << literal_bits) - 1
        cdef uint64_t distance_mask = (1u << distance_bits) - 1
        cdef uint64_t saved
        cdef Py_ssize_t distance, window = self.window
        cdef uint32_t found
        cdef unsigned int length, size
        cdef int status
        while True:
            if out > limit:
                self.pos = out - self.buffer
                status = self._room(0)
                if status != INFLATE_OK:
                    return status
                out = self.buffer + self.pos
                limit = self.buffer + self.capacity - SLACK
                floor = self.buffer + self.floor
            if next <= end:
                hold |= load(next) << count
            elif next - (count >> 3) > end:
                return INFLATE_TRUNCATED
            next += (63 - count) >> 3
            count |= 56
            found = literals[hold & literal_mask]
            if found & LITERAL:
                # 56 bits hold three codes of 15.
                hold >>= found & 0xFF
                count -= found & 0xFF
                out[0] = <uint8_t>(found >> 16)
                out += 1
                found = literals[hold & literal_mask]
                if found & LITERAL:
                    hold >>= found & 0xFF
                    count -= found & 0xFF
                    out[0] = <uint8_t>(found >> 16)
                    out += 1
                    continue
                # A match takes up to 48.
                if next <= end:
                    hold |= load(next) << count
                next += (63 - count) >> 3
                count |= 56
            if found & (SUBTABLE | STOP):
                if found & SUBTABLE:
                    hold >>= literal_bits
                    count -= literal_bits
                    size = (found >> 8) & 31
                    found = literals[(found >> 16) + (hold & ((1u << size) - 1))]
                    if found & LITERAL:
                        hold >>= found & 0xFF
                        count -= found & 0xFF
                        out[0] = <uint8_t>(found >> 16)
                        out += 1
                        continue
                if found & STOP:
                    hold >>= found & 0xFF
                    count -= found & 0xFF
                    break
            size = found & 0xFF
            saved = hold & ((<uint64_t>1 << size) - 1)
            length = (found >> 16) + <unsigned int>(saved >> ((found >> 8) & 31))
            hold >>= size
            count -= size

            found = distances[hold & distance_mask]
            if found & (SUBTABLE | STOP):
                if found & SUBTABLE:
                    hold >>= distance_bits
                    count -= distance_bits
                    size = (found >> 8) & 31
                    found = distances[(found >> 16) + (hold & ((1u << size) - 1))]
                if found & STOP:
                    return INFLATE_BROKEN
            size = found & 0xFF
            saved = hold & ((<uint64_t>1 << size) - 1)
            distance = (found >> 16) + <Py_ssize_t>(saved >> ((found >> 8) & 31))
            hold >>= size
            count -= size
            if distance > out - floor or distance > window:
                return INFLATE_BROKEN
            source = out - distance
            stop = out + length
            if distance >= 16:
                while out < stop:
                    memcpy(out, source, 16)
                    out += 16
                    source += 16
            elif distance == 1:
                memset(out, source[0], length)
            else:
                while out < stop:
                    out[0] = source[0]
                    out += 1
                    source += 1
            out = stop
        self.pos = out - self.buffer
        self.bits.hold = hold
        self.bits.count = count
        self.bits.next = next
        return INFLATE_BROKEN if found & INVALID else INFLATE_OK

    cdef void _slide(self) noexcept nogil:
        """History and message to the beginning of the buffer; history beyond the window is dropped."""
        cdef Py_ssize_t kept = min(self.start - self.floor, self.window)
        cdef Py_ssize_t shift = self.start - kept
        memmove(self.buffer, self.buffer + shift, <size_t>(self.pos - shift))
        self.pos -= shift
        self.start -= shift
        self.floor = 0

    cdef int _room(self, Py_ssize_t size) noexcept nogil:
        """Room for `size` bytes and SLACK behind pos, or a reason why not."""
        cdef Py_ssize_t need
        cdef uint8_t* grown
        if self.pos - self.start + size > self.max_output:
            return INFLATE_TOO_LARGE
        self._slide()
        need = self.pos + size + LEAST_ROOM + SLACK
        if need > self.capacity:
            need = max(need, min(2 * self.capacity, self.window + self.max_output + LEAST_ROOM + SLACK))
            grown = <uint8_t*>realloc(self.buffer, <size_t>need)
            if grown == NULL:
                return INFLATE_NO_MEMORY
            self.buffer = grown
            self.capacity = need
        return INFLATE_OK
