/* csum.h: the Internet checksum (RFC 1071), alone and while copying.
 *
 * Sums are partial: 16-bit words in memory order, folded to at most 32 bits. Chain them over pieces as long as every piece but the last has
 * an even length; an odd last byte counts as if a zero followed. ~zt_csum_fold(sum), stored as it is in memory, is the checksum field.
 * Add a field given as a number by htons(number).
 */
#ifndef ZT_CSUM_H
#define ZT_CSUM_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct zt_csum_impl {
    const char *name;
    uint32_t (*partial)(const uint8_t *data, size_t n, uint32_t sum);
    uint32_t (*copy)(uint8_t *dst, const uint8_t *src, size_t n, uint32_t sum);
};

uint32_t zt_csum_partial(const uint8_t *data, size_t n, uint32_t sum);
/* memcpy (the areas do not overlap) and sum in one pass. */
uint32_t zt_copy_csum(uint8_t *dst, const uint8_t *src, size_t n, uint32_t sum);
uint32_t zt_csum_partial_portable(const uint8_t *data, size_t n, uint32_t sum);
uint32_t zt_copy_csum_portable(uint8_t *dst, const uint8_t *src, size_t n, uint32_t sum);

int zt_csum_impl_count(void);
const struct zt_csum_impl *zt_csum_impl_get(int i);

/* To 16 bits, NOT complemented, in memory order. */
static inline uint16_t zt_csum_fold(uint32_t sum) {
    sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)(sum + (sum >> 16));
}

/* Sum of two partial sums, with the carry brought round. */
static inline uint32_t zt_csum_add(uint32_t a, uint32_t b) {
    uint64_t sum = (uint64_t)a + b;
    return (uint32_t)(sum + (sum >> 32));
}

#endif
