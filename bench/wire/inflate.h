/* Raw deflate for short messages with one window, as plain C: the algorithm of nadofast/_shortinflate.pyx, for whole
 * messages that lie in a buffer of the caller's. Refuses what that refuses, by INFLATE_BROKEN.
 *
 * Entry of a table: bits 0-7 bits to drop (code and extra), 8-12 length of the code, 13 SUBTABLE, 14 STOP, 16-30
 * literal, base or place of the subtable, 31 LITERAL. */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum {
    INFLATE_OK = 0, INFLATE_BROKEN = -1,
    SUBTABLE = 1 << 13, STOP = 1 << 14, INVALID = 1 << 16,
    WINDOW = 32768, SLACK = 320, HISTORY = WINDOW + 98304 + 2048 + SLACK,   /* room as the original has */
    LITERAL_BITS = 10, DISTANCE_BITS = 8, LENGTH_BITS = 7,
};
#define LITERAL (1u << 31)

typedef struct { uint64_t hold; unsigned count; const uint8_t *next, *end; } Bits;
typedef struct { unsigned count[16], used; uint8_t length[320]; uint16_t symbol[320]; } Code;
typedef struct {
    Bits bits;
    Code literals, distances;
    unsigned literal_bits, distance_bits;
    uint32_t literal_table[1334], distance_table[402];
    uint8_t buffer[HISTORY], *pos, *start, *floor;   /* [floor, pos) may be referred to, a message began at start */
} Inflate;

static uint32_t literal_result[288], distance_result[32], length_result[19], fixed_literals[512], fixed_distances[32];

static inline uint64_t load8(const uint8_t *p) {
    uint64_t word;
    memcpy(&word, p, 8);
    return word;
}

static inline void refill(Bits *b) {
    if (b->next <= b->end) b->hold |= load8(b->next) << b->count;
    b->next += (63 - b->count) >> 3;
    b->count |= 56;
}

static inline unsigned take_bits(Bits *b, unsigned size) {
    unsigned value = (unsigned)(b->hold & (((uint64_t)1 << size) - 1));
    b->hold >>= size;
    b->count -= size;
    return value;
}

static inline ptrdiff_t bits_left(const Bits *b) { return 8 * (b->end - b->next) + (ptrdiff_t)b->count; }

static inline uint32_t entry(uint32_t result, unsigned length) { return result + (length << 8) + length; }

static inline unsigned next_code(unsigned code, unsigned length) {
    unsigned bit = 1u << (31 - __builtin_clz(code ^ ((1u << length) - 1)));
    return (code & (bit - 1)) | bit;
}

static int build_table(const Code *code, const uint32_t *results, unsigned most_bits, unsigned size, int may_be_partial,
                       uint32_t *table, unsigned *table_bits) {
    unsigned count[16], offset[16], longest = 15, length, at = 0;
    uint16_t order[320];
    int unused = 1;
    while (longest && !code->count[longest]) longest--;
    if (!longest) {
        *table_bits = 1;
        table[0] = table[1] = STOP | INVALID | 0x101;
        return may_be_partial ? INFLATE_OK : INFLATE_BROKEN;
    }
    for (length = 1; length <= longest; length++) {
        unused = (unused << 1) - (int)code->count[length];
        if (unused < 0) return INFLATE_BROKEN;
        count[length] = code->count[length];
        offset[length] = at;
        at += count[length];
    }
    if (unused > 0 && !(may_be_partial && longest == 1)) return INFLATE_BROKEN;
    for (unsigned i = 0; i < code->used; i++) order[offset[code->length[i]]++] = code->symbol[i];

    unsigned bits = longest < most_bits ? longest : most_bits, end = 2, word = 0, i = 0;
    *table_bits = bits;
    if (unused > 0) {                                /* one code of one bit; the other one is an error */
        table[0] = entry(results[order[0]], 1);
        table[1] = STOP | INVALID | 0x101;
        return INFLATE_OK;
    }
    for (length = 1; !count[length]; length++) end <<= 1;
    for (;;) {                                       /* by doubling: each code is written once */
        for (at = i + count[length]; i < at; i++) {
            table[word] = entry(results[order[i]], length);
            if (word == end - 1) {                   /* the last code of all */
                for (; length < bits; length++, end <<= 1) memcpy(table + end, table, end * sizeof *table);
                return INFLATE_OK;
            }
            word = next_code(word, length);
        }
        do {
            if (++length > bits) goto subtables;
            memcpy(table + end, table, end * sizeof *table);
            end <<= 1;
        } while (!count[length]);
    }
subtables:
    while (!count[length]) length++;
    unsigned prefix = ~0u, sub_start = 0, sub_bits = 0;
    for (end = 1u << bits;;) {
        if ((word & ((1u << bits) - 1)) != prefix) {
            prefix = word & ((1u << bits) - 1);
            sub_start = end;
            sub_bits = length - bits;
            for (unsigned space = count[length]; space < 1u << sub_bits;) space = (space << 1) + count[bits + ++sub_bits];
            end = sub_start + (1u << sub_bits);
            if (end > size) return INFLATE_BROKEN;
            table[prefix] = sub_start << 16 | SUBTABLE | sub_bits << 8 | bits;
        }
        for (at = sub_start + (word >> bits); at < end; at += 1u << (length - bits))
            table[at] = entry(results[order[i]], length - bits);
        i++;
        if (word == (1u << length) - 1) return INFLATE_OK;
        word = next_code(word, length);
        count[length]--;
        while (!count[length]) length++;
    }
}

static inline void use(Code *code, unsigned symbol, unsigned length) {
    code->count[length]++;
    code->symbol[code->used] = (uint16_t)symbol;
    code->length[code->used++] = (uint8_t)length;
}

static void inflate_init(Inflate *z) {
    Code code = {0};
    unsigned i, bits, base = 3;
    for (i = 0; i < 256; i++) literal_result[i] = LITERAL | i << 16;
    literal_result[256] = STOP;
    for (i = 257; i < 285; i++) {
        unsigned extra = i < 265 ? 0 : (i - 261) >> 2;
        literal_result[i] = base << 16 | extra;
        base += 1u << extra;
    }
    literal_result[285] = 258 << 16;
    literal_result[286] = literal_result[287] = STOP | INVALID;
    for (base = 1, i = 0; i < 30; i++) {
        unsigned extra = i < 4 ? 0 : (i >> 1) - 1;
        distance_result[i] = base << 16 | extra;
        base += 1u << extra;
    }
    distance_result[30] = distance_result[31] = STOP | INVALID;
    for (i = 0; i < 19; i++) length_result[i] = i << 16;
    for (i = 0; i < 288; i++) use(&code, i, i < 144 ? 8 : i < 256 ? 9 : i < 280 ? 7 : 8);
    build_table(&code, literal_result, 9, 512, 0, fixed_literals, &bits);
    memset(&code, 0, sizeof code);
    for (i = 0; i < 32; i++) use(&code, i, 5);
    build_table(&code, distance_result, 5, 32, 0, fixed_distances, &bits);
    z->pos = z->start = z->floor = z->buffer;
}

/* Room for `size` bytes behind pos; history beyond the window is dropped. A message fits the room there is. */
static int make_room(Inflate *z, size_t size) {
    ptrdiff_t kept = z->start - z->floor;
    if (kept > WINDOW) kept = WINDOW;
    ptrdiff_t shift = z->start - kept - z->buffer;
    memmove(z->buffer, z->buffer + shift, (size_t)(z->pos - z->buffer - shift));
    z->pos -= shift;
    z->start -= shift;
    z->floor = z->buffer;
    return (size_t)(z->buffer + HISTORY - z->pos) < size + SLACK ? INFLATE_BROKEN : INFLATE_OK;
}

static int stored(Inflate *z) {
    Bits *b = &z->bits;
    const uint8_t *data = b->next - (b->count >> 3);
    if (b->end - data < 4) return INFLATE_BROKEN;
    unsigned size = data[0] | data[1] << 8;
    if (size != (~(data[2] | (unsigned)data[3] << 8) & 0xFFFF)) return INFLATE_BROKEN;
    data += 4;
    if (b->end - data < (ptrdiff_t)size) return INFLATE_BROKEN;
    if (z->buffer + HISTORY - z->pos < (ptrdiff_t)size + SLACK && make_room(z, size)) return INFLATE_BROKEN;
    memcpy(z->pos, data, size);
    z->pos += size;
    b->next = data + size;
    b->hold = b->count = 0;
    return INFLATE_OK;
}

static int code_lengths(Inflate *z, const uint32_t *table, unsigned table_bits, unsigned literals, unsigned total) {
    Bits *b = &z->bits;
    unsigned i = 0, length = 0, mask = (1u << table_bits) - 1;
    int has_end = 0;
    memset(z->literals.count, 0, sizeof z->literals.count);
    memset(z->distances.count, 0, sizeof z->distances.count);
    z->literals.used = z->distances.used = 0;
    while (i < total) {
        if (b->count < 14) {
            if (bits_left(b) < 0) return INFLATE_BROKEN;
            refill(b);
        }
        uint32_t found = table[b->hold & mask];
        take_bits(b, found & 0xFF);
        unsigned symbol = found >> 16, repeat = 1;
        if (symbol < 16) {
            length = symbol;
        } else if (symbol == 16) {
            if (!i) return INFLATE_BROKEN;
            repeat = 3 + take_bits(b, 2);
        } else {
            repeat = symbol == 17 ? 3 + take_bits(b, 3) : 11 + take_bits(b, 7);
            length = 0;
        }
        if (i + repeat > total) return INFLATE_BROKEN;
        if (!length) {
            i += repeat;
            continue;
        }
        if (i <= 256 && 256 < i + repeat) has_end = 1;
        for (; repeat; repeat--, i++) {
            if (i < literals) use(&z->literals, i, length);
            else use(&z->distances, i - literals, length);
        }
    }
    return has_end ? INFLATE_OK : INFLATE_BROKEN;
}

static int codes(Inflate *z) {                       /* header of a dynamic block: both tables */
    static const uint8_t order[19] = {16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15};
    Bits *b = &z->bits;
    Code code;
    uint8_t lengths[19] = {0};
    uint32_t table[128];
    unsigned table_bits = 0;
    refill(b);
    unsigned literals = 257 + take_bits(b, 5), distances = 1 + take_bits(b, 5), sizes = 4 + take_bits(b, 4);
    if (literals > 286 || distances > 30) return INFLATE_BROKEN;
    for (unsigned i = 0; i < sizes; i++) {
        if (i % 14 == 0) refill(b);
        lengths[order[i]] = (uint8_t)take_bits(b, 3);
    }
    memset(code.count, 0, sizeof code.count);
    code.used = 0;
    for (unsigned i = 0; i < 19; i++)
        if (lengths[i]) use(&code, i, lengths[i]);
    if (build_table(&code, length_result, LENGTH_BITS, 128, 0, table, &table_bits)) return INFLATE_BROKEN;
    if (code_lengths(z, table, table_bits, literals, literals + distances)) return INFLATE_BROKEN;
    if (build_table(&z->literals, literal_result, LITERAL_BITS, 1334, 1, z->literal_table, &z->literal_bits))
        return INFLATE_BROKEN;
    return build_table(&z->distances, distance_result, DISTANCE_BITS, 402, 1, z->distance_table, &z->distance_bits);
}

static int symbols(Inflate *z, const uint32_t *literals, unsigned literal_bits, const uint32_t *distances,
                   unsigned distance_bits) {
    uint64_t hold = z->bits.hold, saved;
    unsigned count = z->bits.count, length, size;
    const uint8_t *next = z->bits.next, *end = z->bits.end, *source;
    uint8_t *out = z->pos, *limit = z->buffer + HISTORY - SLACK, *stop;
    const uint64_t literal_mask = (1u << literal_bits) - 1, distance_mask = (1u << distance_bits) - 1;
    ptrdiff_t distance;
    uint32_t found;
    for (;;) {
        if (out > limit) {
            z->pos = out;
            if (make_room(z, 0)) return INFLATE_BROKEN;
            out = z->pos;
        }
        if (next <= end) hold |= load8(next) << count;
        else if (next - (count >> 3) > end) return INFLATE_BROKEN;
        next += (63 - count) >> 3;
        count |= 56;
        found = literals[hold & literal_mask];
        if (found & LITERAL) {                       /* 56 bits hold three codes of 15 */
            hold >>= found & 0xFF;
            count -= found & 0xFF;
            *out++ = (uint8_t)(found >> 16);
            found = literals[hold & literal_mask];
            if (found & LITERAL) {
                hold >>= found & 0xFF;
                count -= found & 0xFF;
                *out++ = (uint8_t)(found >> 16);
                continue;
            }
            if (next <= end) hold |= load8(next) << count;            /* a match takes up to 48 */
            next += (63 - count) >> 3;
            count |= 56;
        }
        if (found & (SUBTABLE | STOP)) {
            if (found & SUBTABLE) {
                hold >>= literal_bits;
                count -= literal_bits;
                size = (found >> 8) & 31;
                found = literals[(found >> 16) + (hold & ((1u << size) - 1))];
                if (found & LITERAL) {
                    hold >>= found & 0xFF;
                    count -= found & 0xFF;
                    *out++ = (uint8_t)(found >> 16);
                    continue;
                }
            }
            if (found & STOP) {
                hold >>= found & 0xFF;
                count -= found & 0xFF;
                break;
            }
        }
        size = found & 0xFF;
        saved = hold & (((uint64_t)1 << size) - 1);
        length = (found >> 16) + (unsigned)(saved >> ((found >> 8) & 31));
        hold >>= size;
        count -= size;
        found = distances[hold & distance_mask];
        if (found & (SUBTABLE | STOP)) {
            if (found & SUBTABLE) {
                hold >>= distance_bits;
                count -= distance_bits;
                size = (found >> 8) & 31;
                found = distances[(found >> 16) + (hold & ((1u << size) - 1))];
            }
            if (found & STOP) return INFLATE_BROKEN;
        }
        size = found & 0xFF;
        saved = hold & (((uint64_t)1 << size) - 1);
        distance = (ptrdiff_t)(found >> 16) + (ptrdiff_t)(saved >> ((found >> 8) & 31));
        hold >>= size;
        count -= size;
        if (distance > out - z->floor || distance > WINDOW) return INFLATE_BROKEN;
        source = out - distance;
        stop = out + length;
        if (distance >= 16) for (; out < stop; out += 16, source += 16) memcpy(out, source, 16);
        else if (distance == 1) memset(out, *source, length);
        else while (out < stop) *out++ = *source++;
        out = stop;
    }
    z->pos = out;
    z->bits.hold = hold;
    z->bits.count = count;
    z->bits.next = next;
    return found & INVALID ? INFLATE_BROKEN : INFLATE_OK;
}

/* data[0, size): a message with its tail; 8 bytes behind it may be read. The text is at start, pos behind it. */
static int inflate_message(Inflate *z, const uint8_t *data, size_t size) {
    Bits *b = &z->bits;
    b->next = data;
    b->end = data + size;
    z->start = z->pos;
    if (z->buffer + HISTORY - z->pos < 2048 + SLACK) make_room(z, 0);
    z->start = z->pos;
    while (bits_left(b) >= 3) {
        refill(b);
        unsigned header = take_bits(b, 3), kind = header >> 1;
        int status = kind == 0   ? stored(z)
                     : kind == 1 ? symbols(z, fixed_literals, 9, fixed_distances, 5)
                     : kind == 3 || codes(z)
                         ? INFLATE_BROKEN
                         : symbols(z, z->literal_table, z->literal_bits, z->distance_table, z->distance_bits);
        if (status || bits_left(b) < 0) return INFLATE_BROKEN;
        if (header & 1) take_bits(b, b->count & 7);  /* a stream ended; the window goes on (RFC 7692, 7.2.3.4) */
    }
    unsigned over = (unsigned)bits_left(b);          /* they belong to the next message's first block */
    b->hold &= (1u << over) - 1;
    b->count = over;
    return INFLATE_OK;
}
