/* The floor's market: what C needs to parse market messages, keep a book and take fills, without any contract.
 *
 * Messages are trusted: canonical key order, no escapes, decimal integers of at most 24 digits, times of 19.
 * The best prices are read after every message. array: sorted int128 entries, best last. ladder: one slot per
 * tick of a fixed window and a bitmap of those in use; its search has no branch that depends on the data.
 * A fill is read into a struct, field by field, and taken once: its key is looked for in the last 16,384 to 32,768. */
#pragma once
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

typedef __int128 i128;
typedef unsigned __int128 u128;
typedef struct { i128 price, qty; } Entry;

#define SLOTS 4096
static const i128 TICK = 100000000000000000;              /* 0.1 in x18: 2^17 * 5^17 */
static const uint64_t ODD_INVERSE = 0xC75429D9E5C5200D;  /* of 5^17 modulo 2^64 */

typedef struct { int sign, count; Entry items[4096]; } Sorted;     /* key = sign * price, best last */
typedef struct {                                                   /* slot = sign * (price - worst) / TICK */
    i128 worst, qty[SLOTS];
    uint64_t used[SLOTS / 64], words;                              /* words: those of `used` that may not be 0 */
} Ladder;

static Sorted sorted[2] = {{.sign = 1}, {.sign = -1}};
static Ladder ladder[2];
static i128 bbo[4], top[4];
static int64_t bbo_time, book_time;
static int product;
static volatile int64_t sink;

/* The last n of 24 bytes, as digits: loaded at DIGITS + n. */
static const uint8_t DIGITS[48] = {[24] = 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15,
                                   15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15};

static inline uint64_t load(const void *p) {
    uint64_t word;
    memcpy(&word, p, 8);
    return word;
}

static inline uint64_t eight(uint64_t word) {
    word = word * 10 + (word >> 8);
    return ((word & 0x000000FF000000FFu) * 0x000F424000000064u +
            ((word >> 16) & 0x000000FF000000FFu) * 0x0000271000000001u) >> 32;
}

/* Bit i: byte i of the 64 at p is a quote. */
static inline uint64_t quotes(const char *p) {
    uint64_t bits = 0;
#ifdef __SSE2__
    for (int i = 0; i < 64; i += 16) {
        __m128i part = _mm_cmpeq_epi8(_mm_loadu_si128((const void *)(p + i)), _mm_set1_epi8('"'));
        bits |= (uint64_t)(unsigned)_mm_movemask_epi8(part) << i;
    }
#else
    for (int i = 0; i < 64; i++) bits |= (uint64_t)(p[i] == '"') << i;
#endif
    return bits;
}

/* Digits before `end`. Right-aligned words need no branch on the length; prices end in zeros. */
static inline void value(const char *end, int n, i128 *out, int is_price) {
    uint64_t low = load(end - 8) & load(DIGITS + n + 16);
    uint64_t middle = load(end - 16) & load(DIGITS + n + 8);
    uint64_t high = eight(load(end - 24) & load(DIGITS + n));
    *out = (u128)high * 10000000000000000;
    if (!is_price) {
        *out += eight(middle) * 100000000;
        if (low) *out += eight(low);
    } else if (low | middle) {
        *out += eight(middle) * 100000000 + eight(low);
    }
}

/* Two numbers in quotes, `gap` bytes apart; their ends come from one mask. */
static inline const char *digits(const char *p, int gap, i128 *price, i128 *qty) {
    uint64_t ends = quotes(p);
    int first = __builtin_ctzll(ends);
    int second = __builtin_ctzll(ends >> first >> gap);
    value(p + first, first, price, 1);
    value(p + first + gap + second, second, qty, 0);
    return p + first + gap + second;
}

/* Nanoseconds of this century: 19 digits. */
static inline int64_t time_ns(const char *p) {
    const uint64_t digit = 0x0F0F0F0F0F0F0F0F;
    return (int64_t)((eight(load(p) & digit) * 100000000 + eight(load(p + 8) & digit)) * 1000 +
                     eight(load(p + 11) & digit << 40));
}

static inline const char *small(const char *p, int *out) {
    for (*out = 0; *p >= '0'; p++) *out = *out * 10 + (*p - '0');
    return p;
}

static const char *plain(const char *p, i128 *out) {
    for (*out = 0; *p >= '0' && *p <= '9'; p++) *out = *out * 10 + (*p - '0');
    return p;
}

static inline void put_sorted(int s, i128 price, i128 qty) {
    Sorted *side = &sorted[s];
    i128 key = side->sign * price;
    int i = side->count, near = i > 12 ? i - 12 : 0;
    while (i > near && side->items[i - 1].price > key) i--;
    if (i == near && i > 0 && side->items[i - 1].price > key) {
        int low = 0;                                 /* far from the touch: halve what is left */
        while (low < i) {
            int middle = (low + i) / 2;
            if (side->items[middle].price > key) i = middle; else low = middle + 1;
        }
    }
    if (i > 0 && side->items[i - 1].price == key) {
        if (qty) { side->items[i - 1].qty = qty; return; }
        memmove(side->items + i - 1, side->items + i, (size_t)(side->count - i) * sizeof(Entry));
        side->count--;
    } else if (qty) {
        memmove(side->items + i + 1, side->items + i, (size_t)(side->count - i) * sizeof(Entry));
        side->items[i] = (Entry){key, qty};
        side->count++;
    }
}

static inline __attribute__((always_inline)) void put_ladder(int s, i128 price, i128 qty) {
    Ladder *side = &ladder[s];
    u128 distance = (u128)(s ? side->worst - price : price - side->worst);
    uint64_t slot = (uint64_t)(distance >> 17) * ODD_INVERSE;
    if (slot >= SLOTS) abort();
    side->qty[slot] = qty;
    side->used[slot / 64] &= ~((uint64_t)1 << slot % 64);
    side->used[slot / 64] |= (uint64_t)(qty != 0) << slot % 64;
    side->words |= (uint64_t)1 << slot / 64;
}

static inline int best_slot(Ladder *side) {          /* -1 if the side is empty */
    while (side->words) {
        int word = 63 - __builtin_clzll(side->words);
        if (side->used[word]) return 64 * word + 63 - __builtin_clzll(side->used[word]);
        side->words ^= (uint64_t)1 << word;
    }
    return -1;
}

static inline i128 price_at(int s, int slot) {
    return s ? ladder[s].worst - slot * TICK : ladder[s].worst + slot * TICK;
}

static inline __attribute__((always_inline)) const char *levels(const char *p, int s, int is_ladder) {
    while (*p == '[') {                              /* ["price","qty"], */
        i128 price, qty;
        p = digits(p + 2, 3, &price, &qty) + 2;
        p += *p == ',';
        if (is_ladder) put_ladder(s, price, qty); else put_sorted(s, price, qty);
    }
    return p + 1;
}

/* --- fills --- */

enum { HEX32 = 66, GENERATION = 16384 };             /* 0x and 64 digits */

typedef struct { char digest[HEX32]; int64_t submission; } Key;
typedef struct {
    int64_t time;
    int product, is_taker, is_bid;
    char subaccount[HEX32];
    Key key;
    i128 appendix, filled, remaining, original, price, fee;
} Fill;

static Fill last_fill;
static long fills;                                   /* each once */
static Key seen_keys[2][2 * GENERATION];             /* half full at most; submission 0: free (key is its value + 1) */
static int young, young_count;

static Key *find_key(Key *keys, const Key *key) {    /* where it is, or the free place for it */
    uint64_t hash = (load(key->digest + 2) ^ load(key->digest + 10) ^ (uint64_t)key->submission) * 0x9E3779B97F4A7C15u;
    size_t at = hash >> 49;
    while (keys[at].submission && memcmp(&keys[at], key, sizeof *key)) at = (at + 1) % (2 * GENERATION);
    return &keys[at];
}

static int is_new(const Key *key) {
    Key *place = find_key(seen_keys[young], key);
    if (place->submission || find_key(seen_keys[!young], key)->submission) return 0;
    *place = *key;
    if (++young_count == GENERATION) {
        young = !young;
        young_count = 0;
        memset(seen_keys[young], 0, sizeof seen_keys[young]);
    }
    return 1;
}

static inline const char *number(const char *p, i128 *out) {      /* in quotes; what stands after its digits */
    int is_negative = *p == '-';
    p += is_negative;
    int n = __builtin_ctzll(quotes(p));
    value(p + n, n, out, 0);
    if (is_negative) *out = -*out;
    return p + n;
}

static inline void lower(char *to, const char *from) {            /* identities compare without case */
    for (int i = 0; i < HEX32; i++) to[i] = (char)(from[i] | (from[i] >= 'A' && from[i] <= 'Z') << 5);
}

#define SIZE(text) (sizeof(text) - 1)

static void fill(const char *p) {
    Fill *f = &last_fill;
    i128 submission;
    f->time = time_ns(p + SIZE("{\"type\":\"fill\",\"timestamp\":\""));
    p = small(p + SIZE("{\"type\":\"fill\",\"timestamp\":\"") + 19 + SIZE("\",\"product_id\":"), &f->product);
    p += SIZE(",\"subaccount\":\"");
    lower(f->subaccount, p);
    p += HEX32 + SIZE("\",\"order_digest\":\"");
    lower(f->key.digest, p);
    p = number(p + HEX32 + SIZE("\",\"appendix\":\""), &f->appendix);
    p = number(p + SIZE("\",\"filled_qty\":\""), &f->filled);
    p = number(p + SIZE("\",\"remaining_qty\":\""), &f->remaining);
    p = number(p + SIZE("\",\"original_qty\":\""), &f->original);
    p = number(p + SIZE("\",\"price\":\""), &f->price) + SIZE("\",\"is_taker\":");
    f->is_taker = *p == 't';
    p += (f->is_taker ? SIZE("true") : SIZE("false")) + SIZE(",\"is_bid\":");
    f->is_bid = *p == 't';
    p = number(p + (f->is_bid ? SIZE("true") : SIZE("false")) + SIZE(",\"fee\":\""), &f->fee);
    number(p + SIZE("\",\"submission_idx\":\""), &submission);
    f->key.submission = (int64_t)submission + 1;
    fills += is_new(&f->key);
}

/* --- messages --- */

#define BBO_TIME SIZE("{\"type\":\"best_bid_offer\",\"timestamp\":\"")
#define DEPTH_LAST SIZE("{\"type\":\"book_depth\",\"last_max_timestamp\":\"")
#define DEPTH_MIN (DEPTH_LAST + 19 + SIZE("\",\"min_timestamp\":\""))
#define DEPTH_MAX (DEPTH_MIN + 19 + SIZE("\",\"max_timestamp\":\""))

static inline __attribute__((always_inline)) void message(const char *p, int is_ladder) {
    if (p[10] == 'e') {                              /* {"type":"best_bid_offer" */
        bbo_time = time_ns(p + BBO_TIME);
        p = small(p + BBO_TIME + 19 + SIZE("\",\"product_id\":"), &product);
        p = digits(p + SIZE(",\"bid_price\":\""), SIZE("\",\"bid_qty\":\""), &bbo[0], &bbo[1]);
        digits(p + SIZE("\",\"ask_price\":\""), SIZE("\",\"ask_qty\":\""), &bbo[2], &bbo[3]);
        sink = (int64_t)bbo[0];
    } else if (p[10] == 'o') {                       /* {"type":"book_depth" */
        int64_t last = time_ns(p + DEPTH_LAST);
        if (book_time && last != book_time) abort();
        sink = time_ns(p + DEPTH_MIN);
        book_time = time_ns(p + DEPTH_MAX);
        p = small(p + DEPTH_MAX + 19 + SIZE("\",\"product_id\":"), &product);
        p = levels(p + SIZE(",\"bids\":["), 0, is_ladder);
        levels(p + SIZE(",\"asks\":["), 1, is_ladder);
        for (int s = 0; s < 2; s++) {
            if (is_ladder) {
                int best = best_slot(&ladder[s]);
                if (best < 0) continue;
                top[2 * s] = price_at(s, best);
                top[2 * s + 1] = ladder[s].qty[best];
            } else {
                Sorted *side = &sorted[s];
                if (!side->count) continue;
                top[2 * s] = side->sign * side->items[side->count - 1].price;
                top[2 * s + 1] = side->items[side->count - 1].qty;
            }
        }
        sink = (int64_t)top[0];
    } else if (p[10] == 'i') {                       /* {"type":"fill" */
        fill(p);
    } else abort();
}

static void put(int is_ladder, int s, i128 price, i128 qty) {
    if (is_ladder) put_ladder(s, price, qty); else put_sorted(s, price, qty);
}

static void show(int s, i128 price, i128 qty) {     /* both below 10^36 */
    const i128 base = 1000000000000000000;
    printf("%d %ld%018ld %ld%018ld\n", s, (long)(price / base), (long)(price % base), (long)(qty / base),
           (long)(qty % base));
}

/* The two counts and the levels; returns what stands after them. */
static const char *take_snapshot(const char *p, int is_ladder) {
    i128 counts[2], price, qty;
    p = plain(plain(p, &counts[0]) + 1, &counts[1]) + 1;
    for (int s = 0; s < 2; s++)
        for (int i = 0; i < (int)counts[s]; i++) {
            p = plain(plain(p, &price) + 1, &qty) + 1;
            if (i == 0) ladder[s].worst = price + (s ? SLOTS / 2 : -SLOTS / 2) * TICK;
            put(is_ladder, s, price, qty);
        }
    return p;
}

static void print_book(int is_ladder) {
    for (int s = 0; s < 2; s++)
        if (is_ladder) {
            for (int i = 0; i < SLOTS; i++)
                if (ladder[s].qty[i]) show(s, price_at(s, i), ladder[s].qty[i]);
        } else {
            for (int i = 0; i < sorted[s].count; i++)
                show(s, sorted[s].sign * sorted[s].items[i].price, sorted[s].items[i].qty);
        }
    for (int s = 0; s < 2; s++) show(2 + s, bbo[2 * s], bbo[2 * s + 1]);
    show(4, fills, last_fill.key.submission ? last_fill.key.submission - 1 : 0);
}
