/* sum.h: the Internet checksum (RFC 1071) as the stages use it.
 *
 * A running sum is a u32 of 16-bit words in the machine's order, carries not folded in; the swap to network order happens once, at the
 * end. Pieces may be summed in any order as long as each but the last has an even length.
 */
#ifndef ZT_SUM_H
#define ZT_SUM_H

#include "csum.h"
#include "net.h"

static inline uint32_t zt_sum_add(uint32_t a, uint32_t b) { return zt_csum_add(a, b); }

/* Headers: too short for a call to pay. */
static inline uint32_t zt_sum(const uint8_t *p, size_t n, uint32_t sum) {
    uint64_t s = sum;
    for (; n >= 4; n -= 4, p += 4) {
        uint32_t w;
        memcpy(&w, p, sizeof w);
        s += w;
    }
    uint32_t rest = 0;
    memcpy(&rest, p, n);
    s += rest;
    return zt_sum_add((uint32_t)s, (uint32_t)(s >> 32));
}

/* Payloads: memcpy(to, from, n), areas that do not overlap, and sum in one pass. */
static inline uint32_t zt_copy_sum(uint8_t *to, const uint8_t *from, size_t n, uint32_t sum) { return zt_copy_csum(to, from, n, sum); }

/* A length as it is summed in a pseudo-header; also any other host-order u16. */
static inline uint32_t zt_sum_length(uint32_t n) { return (uint32_t)__builtin_bswap16((uint16_t)n) + (n > 0xffff ? __builtin_bswap16((uint16_t)(n >> 16)) : 0u); }

/* Both addresses (8 or 32 bytes) and the protocol. */
static inline uint32_t zt_sum_pseudo(const uint8_t *addresses, size_t n, uint8_t proto) {
    return zt_sum(addresses, n, zt_sum_length(proto));
}

/* Folded to 16 bits, as a host-order number for zt_put16. */
static inline uint16_t zt_sum_fold(uint32_t sum) {
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    return __builtin_bswap16((uint16_t)sum);
}

/* The checksum field: complemented, and 0xffff for 0, which TCP may and UDP must use. */
static inline uint16_t zt_sum_finish(uint32_t sum) {
    uint16_t field = (uint16_t)~zt_sum_fold(sum);
    return field == 0 ? 0xffff : field;
}

/* Is the sum over a pseudo-header and everything it covers that of undamaged data? */
static inline bool zt_sum_valid(uint32_t sum) { return zt_sum_fold(sum) == 0xffff; }

#endif
