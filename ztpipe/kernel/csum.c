/* csum.c: the Internet checksum in plain C, and the choice of a faster one. */
#include "csum_impl.h"

#include "crypto_impl.h"

/* Adding 32-bit words to 64-bit sums needs no carry: 2^32 words fit. Two sums, so that one addition need not wait for the other. */
static inline void add_words(uint64_t sums[2], const uint8_t *p) {
    uint64_t v;
    memcpy(&v, p, 8);
    sums[0] += v & 0xffffffff;
    sums[1] += v >> 32;
}

uint32_t zt_csum_partial_portable(const uint8_t *data, size_t n, uint32_t sum) {
    uint64_t sums[2] = {sum, 0};
    for (; n >= 8; n -= 8, data += 8) {
        add_words(sums, data);
    }
    return csum_fold64(sums[0] + sums[1] + csum_tail(data, n));
}

uint32_t zt_copy_csum_portable(uint8_t *dst, const uint8_t *src, size_t n, uint32_t sum) {
    memcpy(dst, src, n);
    return zt_csum_partial_portable(src, n, sum);
}

static const struct zt_csum_impl sets[] = {
    {"portable", zt_csum_partial_portable, zt_copy_csum_portable},
#ifdef __x86_64__
    {"avx2", zt_csum_partial_avx2, zt_copy_csum_avx2},
#endif
};
static int count = 1;

__attribute__((constructor)) static void choose(void) {
    zt_cpu_init();
    count = zt_cpu()->avx2 ? (int)(sizeof(sets) / sizeof(sets[0])) : 1;
}

int zt_csum_impl_count(void) { return count; }

const struct zt_csum_impl *zt_csum_impl_get(int i) { return i >= 0 && i < count ? &sets[i] : NULL; }

uint32_t zt_csum_partial(const uint8_t *data, size_t n, uint32_t sum) { return sets[count - 1].partial(data, n, sum); }

uint32_t zt_copy_csum(uint8_t *dst, const uint8_t *src, size_t n, uint32_t sum) { return sets[count - 1].copy(dst, src, n, sum); }
