/* Sends prepared frames over a connected socket, as fast as they are taken or on an absolute schedule.
 *
 *   sender FD FRAMES SENT CORE RATE
 *
 * FRAMES: int64 count, that many uint32 sizes, then the frames one after another. SENT: a file of count int64,
 * shared memory: when each frame was handed to the kernel, CLOCK_MONOTONIC ns (0 while flooding, RATE 0).
 * The schedule is kept by sleeping to near the time and spinning the rest. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { CHUNK = 65536, SPIN_NS = 80000 };

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void *map(const char *path, int flags, int protection, size_t *size) {
    struct stat info;
    int fd = open(path, flags);
    if (fd < 0 || fstat(fd, &info)) { perror(path); exit(2); }
    *size = (size_t)info.st_size;
    void *found = mmap(NULL, *size, protection, MAP_SHARED, fd, 0);
    if (found == MAP_FAILED) { perror(path); exit(2); }
    close(fd);
    return found;
}

static void write_all(int fd, const char *data, size_t size) {
    while (size) {
        ssize_t n = send(fd, data, size, MSG_NOSIGNAL);
        if (n < 0) { perror("send"); exit(3); }
        data += n;
        size -= (size_t)n;
    }
}

int main(int argc, char **argv) {
    if (argc != 6) return fprintf(stderr, "usage: sender FD FRAMES SENT CORE RATE\n"), 2;
    int fd = atoi(argv[1]), core = atoi(argv[4]);
    double rate = atof(argv[5]);
    size_t size, sent_size;
    const char *file = map(argv[2], O_RDONLY, PROT_READ, &size);
    int64_t count = *(const int64_t *)file, *sent = map(argv[3], O_RDWR, PROT_READ | PROT_WRITE, &sent_size);
    const uint32_t *sizes = (const uint32_t *)(file + 8);
    const char *frames = file + 8 + 4 * count, *end = file + size;
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((size_t)core, &set);
    sched_setaffinity(0, sizeof set, &set);
    if (sent_size < (size_t)count * 8) return fprintf(stderr, "SENT is too small\n"), 2;
    if (rate <= 0) {
        while (frames < end) {
            size_t n = (size_t)(end - frames) < CHUNK ? (size_t)(end - frames) : CHUNK;
            write_all(fd, frames, n);
            frames += n;
        }
        return 0;
    }
    int64_t start = now_ns() + 1000000;
    for (int64_t i = 0; i < count; i++) {
        int64_t due = start + (int64_t)((double)i * 1e9 / rate), wait = due - now_ns();
        if (wait > 2 * SPIN_NS) {
            struct timespec until = {(due - SPIN_NS) / 1000000000, (due - SPIN_NS) % 1000000000};
            clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
        }
        int64_t now;
        while ((now = now_ns()) < due) {}
        sent[i] = now;
        write_all(fd, frames, sizes[i]);
        frames += sizes[i];
    }
    return 0;
}
