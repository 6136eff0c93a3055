/* random.c: random bytes for packet IVs without a system call each. */
#include "crypto_impl.h"

#include <errno.h>
#include <pthread.h>
#include <sodium.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/random.h>

#define STOCK 4096

static _Thread_local struct {
    uint8_t bytes[STOCK];
    size_t left; /* unused bytes, at the end */
    unsigned generation;
} stock;

/* A child must not hand out what its parent will: fork makes every stock stale. */
static atomic_uint generation = 1;

static void after_fork(void) { atomic_fetch_add_explicit(&generation, 1, memory_order_relaxed); }

__attribute__((constructor)) static void watch_fork(void) { pthread_atfork(NULL, NULL, after_fork); }

static void from_kernel(uint8_t *out, size_t n) {
    while (n != 0) {
        ssize_t got = getrandom(out, n, 0);
        if (got < 0 && errno != EINTR) {
            abort(); /* no random numbers, no protocol */
        }
        if (got > 0) {
            out += got;
            n -= (size_t)got;
        }
    }
}

void zt_random_bytes(uint8_t *out, size_t n) {
    unsigned now = atomic_load_explicit(&generation, memory_order_relaxed);
    if (n > STOCK / 8) {
        from_kernel(out, n);
        return;
    }
    if (stock.generation != now || stock.left < n) {
        from_kernel(stock.bytes, STOCK);
        stock.left = STOCK;
        stock.generation = now;
    }
    uint8_t *from = stock.bytes + STOCK - stock.left;
    memcpy(out, from, n);
    sodium_memzero(from, n); /* what was handed out is not kept */
    stock.left -= n;
}
