/* bench.h: the stages by themselves, without Python between two calls; for `ztpipe bench`. */
#ifndef ZT_BENCH_H
#define ZT_BENCH_H

#include "stages.h"

#define ZT_BENCH_SEAL 0
#define ZT_BENCH_OPEN 1

/* Put the same slot (`n` bytes of image, from struct zt_slot on) into the stage's input ring `times` times, run the stage after each, and throw
 * away what it writes. `in`: producer's end of its input; `out`: consumer's end of its output. Returns the ns spent in the stage, or -1
 * when a ring was full or the stage did nothing. */
int64_t zt_bench_stage(struct zt_crypto *crypto, int stage, struct zt_ring_ref *in, struct zt_ring_ref *out, const uint8_t *image, size_t n,
                       int times);

/* Ask about `n` packets by their hashes; seen[i]: was it seen before? ns in total. */
int64_t zt_bench_replay(const struct zt_tables *t, const uint64_t *hash, uint8_t *seen, int n, int64_t now);

/* Publish and take `times` slots without content: ns in total. The two ends of one ring. */
int64_t zt_bench_ring(struct zt_ring_ref *producer, struct zt_ring_ref *consumer, int times);

#endif
