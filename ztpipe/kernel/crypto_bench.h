/* crypto_bench.h: timing loops for `ztpipe bench crypto`; in C, because a call from Python costs more than a small packet. */
#ifndef ZT_CRYPTO_BENCH_H
#define ZT_CRYPTO_BENCH_H

#include "crypto.h"
#include "csum.h"

/* Nanoseconds per call with a packet of `n` bytes (at most ZT_PACKET_MAX), mean of `rounds` calls; hot caches.
 * `what`: siv_seal siv_open salsa_seal salsa_open salsa12 poly1305 address_hash random; negative: no such name. */
double zt_bench_crypto(const struct zt_crypto_impl *impl, const char *what, size_t n, uint32_t rounds);
/* `what`: sum copy_sum */
double zt_bench_csum(const struct zt_csum_impl *impl, const char *what, size_t n, uint32_t rounds);

#endif
