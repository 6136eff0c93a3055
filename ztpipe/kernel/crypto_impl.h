/* crypto_impl.h: shared by the cipher files only. */
#ifndef ZT_CRYPTO_IMPL_H
#define ZT_CRYPTO_IMPL_H

#include "crypto.h"

#include <stdbool.h>
#include <string.h>

/* Packet offsets, vl1-wire 4. */
#define ZT_AT_FLAGS 18
#define ZT_AT_MAC 19
#define ZT_AT_TEXT 27
#define ZT_CIPHER_MASK 0x38
#define ZT_NOT_HOPS 0xf8

/* The set in use. */
const struct zt_crypto_impl *zt_impl(void);

/* What this CPU (and its operating system) can do. */
struct zt_cpu {
    bool aesni;      /* AES, PCLMUL, SSE4.1 */
    bool avx2;       /* AVX2 */
    bool vaes512;    /* VAES, VPCLMULQDQ, AVX512F/BW/VL/DQ */
    bool avx512;     /* AVX512F/BW/VL/DQ */
    bool avx512ifma; /* and IFMA */
};
const struct zt_cpu *zt_cpu(void);

/* destination, source, flags byte without hops, five zeros: vl1-wire 5.6 step 1 */
static inline void zt_siv_aad(const uint8_t *p, uint8_t aad[16]) {
    memset(aad, 0, 16);
    memcpy(aad, p + 8, 11);
    aad[10] &= ZT_NOT_HOPS;
}

static inline uint32_t zt_load32(const uint8_t *p) {
    uint32_t v;
    memcpy(&v, p, 4);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    v = __builtin_bswap32(v);
#endif
    return v;
}

static inline void zt_store32(uint8_t *p, uint32_t v) {
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    v = __builtin_bswap32(v);
#endif
    memcpy(p, &v, 4);
}

static inline uint64_t zt_load64(const uint8_t *p) { return zt_load32(p) | (uint64_t)zt_load32(p + 4) << 32; }

static inline void zt_store64(uint8_t *p, uint64_t v) {
    zt_store32(p, (uint32_t)v);
    zt_store32(p + 4, (uint32_t)(v >> 32));
}

void zt_siv_stream_portable(const zt_siv_key *k, const uint8_t *p, uint8_t stream[16]);

#endif
