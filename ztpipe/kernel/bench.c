/* bench.c: see bench.h. */
#include "bench.h"
#include "replay.h"

#include <string.h>
#include <time.h>

static int64_t nanoseconds(void) {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

int64_t zt_bench_stage(struct zt_crypto *crypto, int stage, struct zt_ring_ref *in, struct zt_ring_ref *out, const uint8_t *image, size_t n,
                       int times) {
    int64_t spent = 0;
    for (int i = 0; i < times; i++) {
        struct zt_slot *slot = zt_ring_reserve(in);
        if (slot == NULL || n > ZT_SLOT_BYTES) {
            return -1;
        }
        memcpy(slot, image, n);
        zt_ring_publish(in);
        int64_t start = nanoseconds();
        int handled = stage == ZT_BENCH_SEAL ? zt_seal(crypto, 1 << 20) : zt_open(crypto, 1 << 20);
        spent += nanoseconds() - start;
        if (handled == 0) {
            return -1;
        }
        while (zt_ring_peek(out) != NULL) {
            zt_ring_release(out);
        }
    }
    return spent;
}

int64_t zt_bench_replay(const struct zt_tables *t, const uint64_t *hash, uint8_t *seen, int n, int64_t now) {
    int64_t start = nanoseconds();
    for (int i = 0; i < n; i++) {
        seen[i] = zt_replay_seen(t, hash[i], now);
    }
    return nanoseconds() - start;
}

int64_t zt_bench_ring(struct zt_ring_ref *producer, struct zt_ring_ref *consumer, int times) {
    int64_t start = nanoseconds();
    for (int i = 0; i < times; i++) {
        struct zt_slot *slot = zt_ring_reserve(producer);
        if (slot == NULL) {
            return -1;
        }
        slot->nrec = 0;
        zt_ring_publish(producer);
        if (zt_ring_peek(consumer) == NULL) {
            return -1;
        }
        zt_ring_release(consumer);
    }
    return nanoseconds() - start;
}
