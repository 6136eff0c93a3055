/* poly1305_64_impl.h: Poly1305 in three limbs of 44, 44 and 42 bits with 64x64 -> 128 bit products (after Andrew Moon's poly1305-donna). */
#ifndef ZT_POLY1305_64_IMPL_H
#define ZT_POLY1305_64_IMPL_H

#include "crypto_impl.h"

#ifdef __SIZEOF_INT128__
#define ZT_HAVE_POLY1305_64 1

#define MASK44 0xfffffffffffULL
#define MASK42 0x3ffffffffffULL
#define PAD (1ULL << 40) /* 2^128, in the third limb */

typedef unsigned __int128 wide;

struct poly {
    uint64_t r[3];
    uint64_t h[3];
};

static inline void poly_init(struct poly *p, const uint8_t key[32]) {
    uint64_t a = zt_load64(key) & 0x0ffffffc0fffffffULL, b = zt_load64(key + 8) & 0x0ffffffc0ffffffcULL;
    *p = (struct poly){.r = {a & MASK44, (a >> 44 | b << 20) & MASK44, b >> 24}};
}

/* h = (h + block) * r, partially reduced: h[1] may have a bit more than 44. */
static inline void poly_block(struct poly *p, const uint8_t block[16], uint64_t pad) {
    const uint64_t *r = p->r;
    uint64_t s1 = r[1] * 20, s2 = r[2] * 20; /* 2^132 = 4 * 2^130 = 4 * 5 */
    uint64_t a = zt_load64(block), b = zt_load64(block + 8);
    uint64_t h0 = p->h[0] + (a & MASK44), h1 = p->h[1] + ((a >> 44 | b << 20) & MASK44), h2 = p->h[2] + ((b >> 24) | pad);
    wide d0 = (wide)h0 * r[0] + (wide)h1 * s2 + (wide)h2 * s1;
    wide d1 = (wide)h0 * r[1] + (wide)h1 * r[0] + (wide)h2 * s2;
    wide d2 = (wide)h0 * r[2] + (wide)h1 * r[1] + (wide)h2 * r[0];
    d1 += (uint64_t)(d0 >> 44);
    d2 += (uint64_t)(d1 >> 44);
    h0 = ((uint64_t)d0 & MASK44) + (uint64_t)(d2 >> 42) * 5;
    p->h[0] = h0 & MASK44;
    p->h[1] = ((uint64_t)d1 & MASK44) + (h0 >> 44);
    p->h[2] = (uint64_t)d2 & MASK42;
}

/* The rest of the message: whole blocks and a last partial one. */
static inline void poly_update(struct poly *p, const uint8_t *data, size_t n) {
    for (; n >= 16; n -= 16, data += 16) {
        poly_block(p, data, PAD);
    }
    if (n != 0) {
        uint8_t last[16] = {0};
        memcpy(last, data, n);
        last[n] = 1;
        poly_block(p, last, 0);
    }
}

/* h mod 2^130 - 5, plus the second half of the key. */
static inline void poly_finish(const struct poly *p, const uint8_t key[32], uint8_t tag[16]) {
    uint64_t h0 = p->h[0], h1 = p->h[1], h2 = p->h[2];
    for (int i = 0; i < 2; i++) {
        h1 += h0 >> 44;
        h2 += h1 >> 44;
        h0 = (h0 & MASK44) + (h2 >> 42) * 5;
        h1 &= MASK44;
        h2 &= MASK42;
    }
    h1 += h0 >> 44;
    h0 &= MASK44;
    /* h - p; taken if not negative */
    uint64_t g0 = h0 + 5, g1 = h1 + (g0 >> 44), g2 = h2 + (g1 >> 44) - (1ULL << 42);
    uint64_t take = (g2 >> 63) - 1;
    h0 = (h0 & ~take) | (g0 & MASK44 & take);
    h1 = (h1 & ~take) | (g1 & MASK44 & take);
    h2 = (h2 & ~take) | (g2 & MASK42 & take);
    wide low = (wide)(h0 | h1 << 44) + zt_load64(key + 16);
    wide high = (wide)(h1 >> 20 | h2 << 24) + zt_load64(key + 24) + (uint64_t)(low >> 64);
    zt_store64(tag, (uint64_t)low);
    zt_store64(tag + 8, (uint64_t)high);
}

#endif
#endif
