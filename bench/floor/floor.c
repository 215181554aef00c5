/* The floor of the hot path: the market of market.h, timed or counted.
 *
 *   floor array|ladder time|count FILE   FILE: "bids asks\n", that many lines "price qty\n", then a message a line
 *
 * Prints ns per message (that of the median block) and then the book, so that a run that is wrong is seen.
 * getppid() marks, for an instruction counter, where the measured part begins and ends; count: nothing else is
 * done there. */
#include "market.h"
#include <time.h>
#include <unistd.h>

#define BLOCK 64                       /* messages brought into the cache before the clock runs, as a socket does */

static __attribute__((noinline)) void all(char **lines, long count, int is_ladder) {
    if (is_ladder) for (long i = 0; i < count; i++) message(lines[i], 1);
    else for (long i = 0; i < count; i++) message(lines[i], 0);
}

static int64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static int compare(const void *a, const void *b) {
    double left = *(const double *)a, right = *(const double *)b;
    return (left > right) - (left < right);
}

int main(int argc, char **argv) {
    if (argc != 4) return fprintf(stderr, "usage: floor array|ladder time|count FILE\n"), 2;
    int is_ladder = !strcmp(argv[1], "ladder"), is_timed = !strcmp(argv[2], "time");
    FILE *file = fopen(argv[3], "rb");
    if (!file) return perror(argv[3]), 2;
    fseek(file, 0, SEEK_END);
    long size = ftell(file);
    rewind(file);
    char *text = calloc(1, (size_t)size + 64);
    if (!text || fread(text, 1, (size_t)size, file) != (size_t)size) return 2;
    const char *p = take_snapshot(text, is_ladder);
    char **lines = malloc(((size_t)size + 1) * sizeof(char *)), *at = (char *)p;
    long count = 0;
    while (at < text + size) { lines[count++] = at; at = strchr(at, '\n') + 1; }
    lines[count] = at;
    long blocks = (count + BLOCK - 1) / BLOCK;
    double *took = calloc((size_t)blocks, sizeof(double));
    getppid();
    if (is_timed)
        for (long block = 0; block < blocks; block++) {
            char **first = lines + block * BLOCK;
            long size = block + 1 < blocks ? BLOCK : count - block * BLOCK;
            for (const char *byte = first[0]; byte < first[size]; byte += 64) sink += *byte;
            int64_t begin = now_ns();
            all(first, size, is_ladder);
            took[block] = (double)(now_ns() - begin) / (double)size;
        }
    else all(lines, count, is_ladder);
    getppid();
    qsort(took, (size_t)blocks, sizeof(double), compare);
    printf("%.2f\n", took[blocks / 2]);
    print_book(is_ladder);
    return 0;
}
