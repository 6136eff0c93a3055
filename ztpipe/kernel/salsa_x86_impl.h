/* salsa_x86_impl.h: the vector forms of Salsa20/12 and Poly1305. */
#ifndef ZT_SALSA_X86_IMPL_H
#define ZT_SALSA_X86_IMPL_H
#ifdef __x86_64__

#include "crypto_impl.h"

void zt_salsa12_xor_avx2(const uint8_t key[32], const uint8_t nonce[8], uint64_t block, uint8_t *buf, size_t n);
void zt_salsa12_xor_avx512(const uint8_t key[32], const uint8_t nonce[8], uint64_t block, uint8_t *buf, size_t n);
void zt_poly1305_openssl(const uint8_t key[32], const uint8_t *data, size_t n, uint8_t tag[16]);
void zt_poly1305_ifma(const uint8_t key[32], const uint8_t *data, size_t n, uint8_t tag[16]);

/* The Salsa20 state as the vector forms hold it: a matrix with its diagonals in rows, so that a quarter round works on four columns at once.
 *   a = x0 x5 x10 x15    b = x4 x9 x14 x3    c = x8 x13 x2 x7    d = x12 x1 x6 x11
 * x8 (c[0]) and x9 (b[1]) are the block counter; they are zero here. */
struct salsa_rows {
    uint32_t a[4], b[4], c[4], d[4];
};

static inline void salsa_rows_init(struct salsa_rows *s, const uint8_t key[32], const uint8_t nonce[8]) {
    uint32_t k[8];
    for (int i = 0; i < 8; i++) {
        k[i] = zt_load32(key + 4 * i);
    }
    *s = (struct salsa_rows){
        .a = {0x61707865, 0x3320646e, 0x79622d32, 0x6b206574},
        .b = {k[3], 0, k[7], k[2]},
        .c = {0, k[6], k[1], zt_load32(nonce + 4)},
        .d = {k[5], k[0], zt_load32(nonce), k[4]},
    };
}

#endif
#endif
