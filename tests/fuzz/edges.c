/* Counts which edges of the code under test ran, for guided.py. Code compiled with -fsanitize-coverage=trace-pc
 * calls the first function at every basic block; this library is preloaded and answers the rest. */
#include <stdint.h>
#include <string.h>

enum { SIZE = 1 << 16 };

static uint8_t ran[SIZE];   /* times each edge ran in this case, up to 255 */
static uint8_t known[SIZE]; /* classes of counts that earlier cases have shown, a bit each */
static uintptr_t previous;

__attribute__((no_sanitize("address", "undefined")))
void __sanitizer_cov_trace_pc(void)
{
    uintptr_t here = (uintptr_t)__builtin_return_address(0);
    uint8_t *count = &ran[(here ^ previous) & (SIZE - 1)];
    *count += *count < 255;
    previous = here >> 1;
}

/* One edge told by the caller: for targets in Python, line by line. */
void edges_tell(uint32_t edge)
{
    uint8_t *count = &ran[edge & (SIZE - 1)];
    *count += *count < 255;
}

void edges_begin(void)
{
    memset(ran, 0, SIZE);
    previous = 0;
}

static uint8_t class_of(uint8_t count)
{
    if (count <= 3) return (uint8_t)(1 << (count - 1));
    if (count < 8) return 8;
    if (count < 16) return 16;
    if (count < 32) return 32;
    return count < 128 ? 64 : 128;
}

/* How many classes of counts this case has shown for the first time. */
int edges_news(void)
{
    int news = 0;
    for (int i = 0; i < SIZE; i++) {
        if (ran[i] && !(known[i] & class_of(ran[i]))) {
            known[i] |= class_of(ran[i]);
            news++;
        }
    }
    return news;
}

int edges_known(void)
{
    int edges = 0;
    for (int i = 0; i < SIZE; i++) edges += known[i] != 0;
    return edges;
}

void edges_forget(void)
{
    memset(known, 0, SIZE);
}
