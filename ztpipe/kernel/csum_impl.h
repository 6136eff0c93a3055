/* csum_impl.h: shared by the checksum files only. */
#ifndef ZT_CSUM_IMPL_H
#define ZT_CSUM_IMPL_H

#include "csum.h"

uint32_t zt_csum_partial_avx2(const uint8_t *data, size_t n, uint32_t sum);
uint32_t zt_copy_csum_avx2(uint8_t *dst, const uint8_t *src, size_t n, uint32_t sum);

/* End-around carry: 64 bits to 32. */
static inline uint32_t csum_fold64(uint64_t sum) {
    sum = (sum & 0xffffffff) + (sum >> 32);
    return (uint32_t)(sum + (sum >> 32));
}

/* Up to 7 bytes, as if zeros followed, as two 32-bit words added. */
static inline uint64_t csum_tail(const uint8_t *p, size_t n) {
    uint64_t v = 0;
    if (n != 0) {
        memcpy(&v, p, n);
    }
    return (v & 0xffffffff) + (v >> 32);
}

#endif
