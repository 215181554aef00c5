/* The floor of the hot path: what C needs to parse market messages and keep a book, without any contract.
 *
 *   floor array|ladder FILE      FILE: "bids asks\n", that many lines "price qty\n", then one message a line
 *
 * Messages are trusted: canonical key order, no escapes, decimal integers. The best prices are read after
 * every message. array: sorted int128 entries, best last. ladder: one slot per tick, a cursor at the touch.
 * Prints ns per message and then the book, so that a run that is wrong is seen. getppid() marks, for an
 * instruction counter, where the measured part begins and ends. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

typedef __int128 i128;
typedef struct { i128 price, qty; } Entry;

#define SLOTS 65536
static const i128 TICK = 100000000000000000;  /* 0.1 in x18 */

typedef struct { int sign, count; Entry items[4096]; } Sorted;     /* key = sign * price, best last */
typedef struct { int sign; long best; i128 *qty; } Ladder;         /* slot = price / TICK; empty is 0 */

static Sorted sorted[2] = {{.sign = 1}, {.sign = -1}};
static Ladder ladder[2] = {{.sign = 1, .best = -1}, {.sign = -1, .best = SLOTS}};
static i128 bbo[4], top[4];
static int64_t bbo_time, book_time;
static volatile int64_t sink;

static const uint64_t POW10[] = {1, 10, 100, 1000, 10000, 100000, 1000000, 10000000};

static inline uint64_t eight(uint64_t word) {
    word = word * 10 + (word >> 8);
    return ((word & 0x000000FF000000FFu) * 0x000F424000000064u +
            ((word >> 16) & 0x000000FF000000FFu) * 0x0000271000000001u) >> 32;
}

static inline const char *digits(const char *p, i128 *out) {
    i128 value = 0;
    for (;;) {
        uint64_t word, bad;
        memcpy(&word, p, 8);
        word ^= 0x3030303030303030u;
        bad = (word | (word + 0x7676767676767676u)) & 0x8080808080808080u;
        if (bad) {
            int n = __builtin_ctzll(bad) >> 3;
            if (n) value = value * POW10[n] + (uint32_t)eight(word << (64 - 8 * n));
            *out = value;
            return p + n;
        }
        value = value * 100000000 + (uint32_t)eight(word);
        p += 8;
    }
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

static inline void put_ladder(int s, i128 price, i128 qty) {
    Ladder *side = &ladder[s];
    long slot = (long)((uint64_t)(price / 100000000) / 1000000000);
    if (slot < 0 || slot >= SLOTS) abort();
    side->qty[slot] = qty;
    if (qty) {
        if ((slot - side->best) * side->sign > 0) side->best = slot;
    } else if (slot == side->best) {
        while (side->best >= 0 && side->best < SLOTS && !side->qty[side->best]) side->best -= side->sign;
    }
}

static inline __attribute__((always_inline)) const char *levels(const char *p, int s, int is_ladder) {
    while (*p == '[') {                              /* ["price","qty"], */
        i128 price, qty;
        p = digits(p + 2, &price);
        p = digits(p + 3, &qty);
        p += 2;
        p += *p == ',';
        if (is_ladder) put_ladder(s, price, qty); else put_sorted(s, price, qty);
    }
    return p + 1;
}

#define SKIP(p, text) ((p) + sizeof(text) - 1)

static inline __attribute__((always_inline)) void message(const char *p, int is_ladder) {
    i128 value, last;
    if (p[10] == 'e') {                              /* {"type":"best_bid_offer" */
        p = digits(SKIP(p, "{\"type\":\"best_bid_offer\",\"timestamp\":\""), &value);
        bbo_time = (int64_t)value;
        p = digits(SKIP(p, "\",\"product_id\":"), &value);
        p = digits(SKIP(p, ",\"bid_price\":\""), &bbo[0]);
        p = digits(SKIP(p, "\",\"bid_qty\":\""), &bbo[1]);
        p = digits(SKIP(p, "\",\"ask_price\":\""), &bbo[2]);
        digits(SKIP(p, "\",\"ask_qty\":\""), &bbo[3]);
        sink = (int64_t)bbo[0];
    } else if (p[10] == 'o') {                       /* {"type":"book_depth" */
        p = digits(SKIP(p, "{\"type\":\"book_depth\",\"last_max_timestamp\":\""), &last);
        if (book_time && last != book_time) abort();
        p = digits(SKIP(p, "\",\"min_timestamp\":\""), &value);
        p = digits(SKIP(p, "\",\"max_timestamp\":\""), &value);
        book_time = (int64_t)value;
        p = digits(SKIP(p, "\",\"product_id\":"), &value);
        p = levels(SKIP(p, ",\"bids\":["), 0, is_ladder);
        levels(SKIP(p, ",\"asks\":["), 1, is_ladder);
        for (int s = 0; s < 2; s++) {
            if (is_ladder) {
                Ladder *side = &ladder[s];
                if (side->best < 0 || side->best >= SLOTS) continue;
                top[2 * s] = side->best * TICK;
                top[2 * s + 1] = side->qty[side->best];
            } else {
                Sorted *side = &sorted[s];
                if (!side->count) continue;
                top[2 * s] = side->sign * side->items[side->count - 1].price;
                top[2 * s + 1] = side->items[side->count - 1].qty;
            }
        }
        sink = (int64_t)top[0];
    }
}

static __attribute__((noinline)) void all(char **lines, long count, int is_ladder) {
    if (is_ladder) for (long i = 0; i < count; i++) message(lines[i], 1);
    else for (long i = 0; i < count; i++) message(lines[i], 0);
}

static void put(int is_ladder, int s, i128 price, i128 qty) {
    if (is_ladder) put_ladder(s, price, qty); else put_sorted(s, price, qty);
}

static void show(int s, i128 price, i128 qty) {     /* both below 10^36 */
    const i128 base = 1000000000000000000;
    printf("%d %ld%018ld %ld%018ld\n", s, (long)(price / base), (long)(price % base), (long)(qty / base),
           (long)(qty % base));
}

int main(int argc, char **argv) {
    if (argc != 3) return fprintf(stderr, "usage: floor array|ladder FILE\n"), 2;
    int is_ladder = !strcmp(argv[1], "ladder");
    FILE *file = fopen(argv[2], "rb");
    if (!file) return perror(argv[2]), 2;
    fseek(file, 0, SEEK_END);
    long size = ftell(file);
    rewind(file);
    char *text = calloc(1, (size_t)size + 64);
    if (!text || fread(text, 1, (size_t)size, file) != (size_t)size) return 2;
    ladder[0].qty = calloc(SLOTS, sizeof(i128));
    ladder[1].qty = calloc(SLOTS, sizeof(i128));
    const char *p = text;
    i128 counts[2], price, qty;
    p = digits(digits(p, &counts[0]) + 1, &counts[1]) + 1;
    for (int s = 0; s < 2; s++)
        for (int i = 0; i < (int)counts[s]; i++) {
            p = digits(digits(p, &price) + 1, &qty) + 1;
            put(is_ladder, s, price, qty);
        }
    char **lines = malloc((size_t)size * sizeof(char *)), *at = (char *)p;
    long count = 0;
    while (at < text + size) { lines[count++] = at; at = strchr(at, '\n') + 1; }
    struct timespec a, b;
    getppid();
    clock_gettime(CLOCK_MONOTONIC, &a);
    all(lines, count, is_ladder);
    clock_gettime(CLOCK_MONOTONIC, &b);
    getppid();
    printf("%.2f\n", ((double)(b.tv_sec - a.tv_sec) * 1e9 + (double)(b.tv_nsec - a.tv_nsec)) / (double)count);
    for (int s = 0; s < 2; s++)
        if (is_ladder) {
            for (long i = 0; i < SLOTS; i++)
                if (ladder[s].qty[i]) show(s, i * TICK, ladder[s].qty[i]);
        } else {
            for (int i = 0; i < sorted[s].count; i++)
                show(s, sorted[s].sign * sorted[s].items[i].price, sorted[s].items[i].qty);
        }
    for (int s = 0; s < 2; s++) show(2 + s, bbo[2 * s], bbo[2 * s + 1]);
    return 0;
}
