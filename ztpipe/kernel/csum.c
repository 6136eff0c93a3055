/* csum.c: the Internet checksum in plain C, and the choice of a faster one. */
#include "csum.h"

#include "crypto_impl.h"

static uint64_t load(const uint8_t *p) {
    uint64_t v;
    memcpy(&v, p, 8);
    return v;
}

static uint64_t add(uint64_t sum, uint64_t v) {
    sum += v;
    return sum + (sum < v); /* the carry comes round */
}

static uint32_t fold64(uint64_t sum) {
    sum = (sum & 0xffffffff) + (sum >> 32);
    return (uint32_t)(sum + (sum >> 32));
}

/* Up to 7 bytes, as if zeros followed. */
static uint64_t tail(const uint8_t *p, size_t n) {
    uint64_t v = 0;
    memcpy(&v, p, n);
    return v;
}

uint32_t zt_csum_partial_portable(const uint8_t *data, size_t n, uint32_t sum) {
    uint64_t total = sum;
    for (; n >= 8; n -= 8, data += 8) {
        total = add(total, load(data));
    }
    return fold64(add(total, tail(data, n)));
}

uint32_t zt_copy_csum_portable(uint8_t *dst, const uint8_t *src, size_t n, uint32_t sum) {
    uint64_t total = sum;
    for (; n >= 8; n -= 8, src += 8, dst += 8) {
        uint64_t v = load(src);
        memcpy(dst, &v, 8);
        total = add(total, v);
    }
    memcpy(dst, src, n);
    return fold64(add(total, tail(src, n)));
}

static const struct zt_csum_impl portable = {"portable", zt_csum_partial_portable, zt_copy_csum_portable};

int zt_csum_impl_count(void) { return 1; }

const struct zt_csum_impl *zt_csum_impl_get(int i) { return i == 0 ? &portable : NULL; }

uint32_t zt_csum_partial(const uint8_t *data, size_t n, uint32_t sum) {
    return zt_csum_impl_get(zt_csum_impl_count() - 1)->partial(data, n, sum);
}

uint32_t zt_copy_csum(uint8_t *dst, const uint8_t *src, size_t n, uint32_t sum) {
    return zt_csum_impl_get(zt_csum_impl_count() - 1)->copy(dst, src, n, sum);
}
