/* The floor of the whole way: socket, frames, inflate, parse, book and fills, in C and without any contract.
 *
 *   receiver PORT COUNT SNAPSHOT SEEN CORE epoll|poll array|ladder plain|tls zlib|own
 *
 * own: inflate.h, which is what nadofast's own decoder is, in C. Frames are trusted: whole messages, not masked, all deflated with context takeover. epoll sleeps until there
 * is something to read; poll asks for ever. SNAPSHOT as of bench/floor. SEEN: a file of COUNT int64, shared
 * memory: when the book held each message, CLOCK_MONOTONIC ns; "-" takes no times. Writes one byte to the
 * socket when it is ready. Prints messages, CPU ns since then, then the book. zlib and OpenSSL are linked by
 * the path of those that Python uses, so their few declarations are here. */
#define _GNU_SOURCE
#include "../floor/market.h"
#include "inflate.h"
#include <errno.h>
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

typedef struct {
    const uint8_t *next_in; unsigned avail_in; unsigned long total_in;
    uint8_t *next_out; unsigned avail_out; unsigned long total_out;
    const char *msg; void *state, *zalloc, *zfree, *opaque;
    int data_type; unsigned long adler, reserved;
} z_stream;
int inflateInit2_(z_stream *, int, const char *, int);
int inflate(z_stream *, int);
const char *zlibVersion(void);

typedef struct ssl_st SSL;
typedef struct ssl_ctx_st SSL_CTX;
SSL_CTX *SSL_CTX_new(const void *);
const void *TLS_client_method(void);
SSL *SSL_new(SSL_CTX *);
int SSL_set_fd(SSL *, int), SSL_connect(SSL *), SSL_read(SSL *, void *, int), SSL_write(SSL *, const void *, int);
int SSL_get_error(const SSL *, int);
long SSL_CTX_ctrl(SSL_CTX *, int, long, void *);
void SSL_CTX_set_default_read_buffer_len(SSL_CTX *, size_t);
enum { SSL_ERROR_WANT_READ = 2, SSL_CTRL_SET_READ_AHEAD = 41 };

static int fd;
static SSL *tls;                                     /* NULL: in the clear */

enum { BUFFER = 262144, OUT = 1 << 20, Z_SYNC_FLUSH = 2 };
static uint8_t in[BUFFER + 64], out[OUT + 64];
static z_stream stream;
static int is_own;                                   /* inflate.h, not zlib */
static Inflate own;

static int64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static int64_t cpu_ns(void) {
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return ((int64_t)u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000000000 +
           ((int64_t)u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1000;
}

static inline const char *text_of(const uint8_t *deflated, size_t size) {
    if (is_own) {
        if (inflate_message(&own, deflated, size)) abort();
        *own.pos = 0;
        return (const char *)own.start;
    }
    stream.next_in = deflated;
    stream.avail_in = (unsigned)size;
    stream.next_out = out;
    stream.avail_out = OUT;
    if (inflate(&stream, Z_SYNC_FLUSH) != 0) abort();
    *stream.next_out = 0;
    return (const char *)out;
}

static inline void take(uint8_t *payload, size_t size, int is_ladder) {
    static const uint8_t tail[4] = {0, 0, 0xFF, 0xFF};
    uint8_t kept[4];
    memcpy(kept, payload + size, 4);                 /* the next frame's head; no copy of the message */
    memcpy(payload + size, tail, 4);
    const char *text = text_of(payload, size + 4);
    memcpy(payload + size, kept, 4);
    message(text, is_ladder);
}

static void load_file(const char *path, int is_ladder) {
    static char text[1 << 22];
    FILE *file = fopen(path, "rb");
    if (!file || !fread(text, 1, sizeof text - 64, file)) { perror(path); exit(2); }
    fclose(file);
    take_snapshot(text, is_ladder);
}

/* Whole frames of in[0, have); returns where the rest begins. */
static inline size_t frames(size_t have, int64_t *messages, int64_t count, int64_t *seen, int is_ladder) {
    size_t at = 0;
    while (have - at >= 2 && *messages < count) {
        size_t head = 2, size = in[at + 1];
        if (size == 126) {
            if (have - at < 4) break;
            size = (size_t)in[at + 2] << 8 | in[at + 3];
            head = 4;
        }
        if (in[at] != 0xC1 || size > 65535) abort();
        if (have - at < head + size) break;
        take(in + at + head, size, is_ladder);
        if (seen) seen[*messages] = now_ns();
        ++*messages;
        at += head + size;
    }
    return at;
}

static ssize_t read_some(void *to, size_t room) {   /* -1 with EAGAIN: nothing there */
    if (!tls) return recv(fd, to, room, 0);
    int n = SSL_read(tls, to, (int)room);
    if (n > 0) return n;
    if (SSL_get_error(tls, n) != SSL_ERROR_WANT_READ) abort();
    errno = EAGAIN;
    return -1;
}

static void write_text(const char *text) {
    ssize_t n = (ssize_t)strlen(text);
    if (tls ? SSL_write(tls, text, (int)n) != n : send(fd, text, (size_t)n, 0) != n) abort();
}

static int open_socket(int port, int is_tls) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int one = 1;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(fd, (struct sockaddr *)&address, sizeof address)) return 0;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (is_tls) {
        SSL_CTX *context = SSL_CTX_new(TLS_client_method());
        SSL_CTX_ctrl(context, SSL_CTRL_SET_READ_AHEAD, 1, NULL);
        SSL_CTX_set_default_read_buffer_len(context, 131072);   /* many records a read */
        tls = SSL_new(context);
        if (!SSL_set_fd(tls, fd) || SSL_connect(tls) != 1) return 0;
    }
    write_text("GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
               "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\nSec-WebSocket-Version: 13\r\n"
               "Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n");
    for (size_t have = 0; !strstr((char *)in, "\r\n\r\n");) {   /* no frame comes before we are ready */
        ssize_t n = read_some(in + have, BUFFER - have);
        if (n <= 0) return 0;
        have += (size_t)n;
        in[have] = 0;
    }
    return 1;
}

int main(int argc, char **argv) {
    if (argc != 10) return fprintf(stderr, "usage: see the source\n"), 2;
    int sleeps = !strcmp(argv[6], "epoll"), is_ladder = !strcmp(argv[7], "ladder");
    int64_t count = atol(argv[2]), messages = 0, *seen = NULL;
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((size_t)atoi(argv[5]), &set);
    sched_setaffinity(0, sizeof set, &set);
    if (strcmp(argv[4], "-")) {
        int file = open(argv[4], O_RDWR);
        seen = mmap(NULL, (size_t)count * 8, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, file, 0);
        if (file < 0 || seen == MAP_FAILED) return perror(argv[4]), 2;
    }
    load_file(argv[3], is_ladder);
    is_own = !strcmp(argv[9], "own");
    inflate_init(&own);
    if (inflateInit2_(&stream, -15, zlibVersion(), (int)sizeof stream) != 0) return 2;
    if (!open_socket(atoi(argv[1]), !strcmp(argv[8], "tls"))) return fprintf(stderr, "no connection\n"), 2;
    fcntl(fd, F_SETFL, O_NONBLOCK);
    int poller = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN};
    epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event);
    write_text("!");
    int64_t start = cpu_ns();
    size_t have = 0;
    int is_more = 0;
    while (messages < count) {
        if (sleeps && !(tls && is_more) && epoll_wait(poller, &event, 1, 20000) <= 0)
            return fprintf(stderr, "silence\n"), 3;
        ssize_t n = read_some(in + have, BUFFER - have);
        is_more = n > 0;                             /* of what TLS has read ahead */
        if (n < 0 && (errno == EAGAIN || errno == EINTR)) continue;
        if (n <= 0) return perror("recv"), 3;
        have += (size_t)n;
        size_t used = frames(have, &messages, count, seen, is_ladder);
        memmove(in, in + used, have - used);
        have -= used;
    }
    printf("%ld %ld %s\n", (long)messages, (long)(cpu_ns() - start), is_own ? "own" : zlibVersion());
    print_book(is_ladder);
    return 0;
}
