/* poly1305_ifma.c: Poly1305 with AVX-512 IFMA: eight blocks side by side, one in each lane, sixteen between two reductions.
 *
 * Limbs of 44, 44, 42 bits as in poly1305_64_impl.h. IFMA gives the low and the high 52 bits of a product: the high half weighs 2^52, that is
 * 2^8 of the next limb, or 5 * 2^10 of the first for the third.
 */
#include "poly1305_64_impl.h"
#include "salsa_x86_impl.h"

#ifdef __x86_64__
#include <immintrin.h>

#define TARGET "avx2,bmi2,avx512f,avx512bw,avx512vl,avx512dq,avx512ifma"
#define IFMA __attribute__((target(TARGET), always_inline)) static inline
#define WIDE_FROM 320 /* bytes; below, the powers cost more than they save */
#define EIGHT 128     /* bytes of eight blocks */

struct limbs {
    __m512i v[3];
};

/* A factor, with the multiples by 20 of its upper limbs. */
struct factor {
    __m512i r[3], s1, s2;
};

struct sums {
    __m512i lo[3], hi[3];
};

IFMA __m512i mask44(void) { return _mm512_set1_epi64((long long)MASK44); }

IFMA __m512i times20(__m512i v) { return _mm512_slli_epi64(_mm512_add_epi64(v, _mm512_slli_epi64(v, 2)), 2); }

IFMA __m512i times5(__m512i v) { return _mm512_add_epi64(v, _mm512_slli_epi64(v, 2)); }

IFMA struct factor factor_of(struct limbs r) {
    struct factor f = {{r.v[0], r.v[1], r.v[2]}, times20(r.v[1]), times20(r.v[2])};
    return f;
}

IFMA struct sums no_sums(void) {
    __m512i z = _mm512_setzero_si512();
    struct sums s = {{z, z, z}, {z, z, z}};
    return s;
}

IFMA void product(struct sums *d, int limb, __m512i a, __m512i b) {
    d->lo[limb] = _mm512_madd52lo_epu64(d->lo[limb], a, b);
    d->hi[limb] = _mm512_madd52hi_epu64(d->hi[limb], a, b);
}

/* d += h * f; every limb of h below 2^52 */
IFMA void multiply_add(struct sums *d, struct limbs h, const struct factor *f) {
    product(d, 0, h.v[0], f->r[0]);
    product(d, 1, h.v[0], f->r[1]);
    product(d, 2, h.v[0], f->r[2]);
    product(d, 0, h.v[1], f->s2);
    product(d, 1, h.v[1], f->r[0]);
    product(d, 2, h.v[1], f->r[1]);
    product(d, 0, h.v[2], f->s1);
    product(d, 1, h.v[2], f->s2);
    product(d, 2, h.v[2], f->r[0]);
}

/* Limbs of 44, a little more than 44, and 42 bits. */
IFMA struct limbs reduce(struct sums d) {
    __m512i d1 = _mm512_add_epi64(d.lo[1], _mm512_add_epi64(_mm512_slli_epi64(d.hi[0], 8), _mm512_srli_epi64(d.lo[0], 44)));
    __m512i d2 = _mm512_add_epi64(d.lo[2], _mm512_add_epi64(_mm512_slli_epi64(d.hi[1], 8), _mm512_srli_epi64(d1, 44)));
    __m512i over = _mm512_add_epi64(_mm512_slli_epi64(d.hi[2], 10), _mm512_srli_epi64(d2, 42));
    __m512i h0 = _mm512_add_epi64(_mm512_and_si512(d.lo[0], mask44()), times5(over));
    struct limbs h = {{
        _mm512_and_si512(h0, mask44()),
        _mm512_add_epi64(_mm512_and_si512(d1, mask44()), _mm512_srli_epi64(h0, 44)),
        _mm512_and_si512(d2, _mm512_set1_epi64((long long)MASK42)),
    }};
    return h;
}

IFMA struct limbs multiply(struct limbs h, const struct factor *f) {
    struct sums d = no_sums();
    multiply_add(&d, h, f);
    return reduce(d);
}

IFMA struct limbs plus(struct limbs a, struct limbs b) {
    struct limbs s = {{_mm512_add_epi64(a.v[0], b.v[0]), _mm512_add_epi64(a.v[1], b.v[1]), _mm512_add_epi64(a.v[2], b.v[2])}};
    return s;
}

/* ---- messages -------------------------------------------------------------------------------------------------------------- */

/* Eight blocks as limbs. The lanes hold blocks 0 4 1 5 2 6 3 7, because that needs no permutation. `present`: a bit per lane. */
IFMA struct limbs split(__m512i first, __m512i second, __mmask8 present) {
    __m512i low = _mm512_unpacklo_epi64(first, second), high = _mm512_unpackhi_epi64(first, second);
    __m512i middle = _mm512_or_si512(_mm512_srli_epi64(low, 44), _mm512_slli_epi64(high, 20));
    __m512i top = _mm512_srli_epi64(high, 24);
    struct limbs m = {{
        _mm512_and_si512(low, mask44()),
        _mm512_and_si512(middle, mask44()),
        _mm512_mask_or_epi64(top, present, top, _mm512_set1_epi64((long long)PAD)),
    }};
    return m;
}

IFMA struct limbs load_eight(const uint8_t *data) {
    return split(_mm512_loadu_si512(data), _mm512_loadu_si512(data + 64), 0xff);
}

/* The first `blocks` (0 to 8) blocks, in the last places; the places before them count for nothing. */
IFMA struct limbs load_front(const uint8_t *data, size_t blocks) {
    static const uint8_t PRESENT[9] = {0x00, 0x80, 0xa0, 0xa8, 0xaa, 0xea, 0xfa, 0xfe, 0xff};
    uint32_t words = 0xffff0000u >> 2 * blocks; /* bits 0 to 15: two words of 8 bytes for each block, from the end */
    __mmask8 in_first = (__mmask8)words, in_second = (__mmask8)(words >> 8);
    __m512i first = _mm512_maskz_expandloadu_epi64(in_first, data);
    __m512i second = _mm512_maskz_expandloadu_epi64(in_second, data + 8 * __builtin_popcount(in_first));
    return split(first, second, PRESENT[blocks]);
}

/* ---- powers ---------------------------------------------------------------------------------------------------------------- */

struct powers {
    struct factor eight, sixteen; /* r^8, r^16 in every lane */
    struct factor last;           /* 8 4 7 3 6 2 5 1: what the blocks in the lanes of split() are multiplied by at the end */
};

IFMA struct limbs first_everywhere(struct limbs l) {
    struct limbs s = {{
        _mm512_broadcastq_epi64(_mm512_castsi512_si128(l.v[0])),
        _mm512_broadcastq_epi64(_mm512_castsi512_si128(l.v[1])),
        _mm512_broadcastq_epi64(_mm512_castsi512_si128(l.v[2])),
    }};
    return s;
}

/* Lanes of `b` where the mask has ones. */
IFMA struct limbs choose(__mmask8 mask, struct limbs a, struct limbs b) {
    struct limbs s = {{
        _mm512_mask_mov_epi64(a.v[0], mask, b.v[0]),
        _mm512_mask_mov_epi64(a.v[1], mask, b.v[1]),
        _mm512_mask_mov_epi64(a.v[2], mask, b.v[2]),
    }};
    return s;
}

/* Lane by lane, the power less one (7 3 6 2 5 1 4 0) in binary: bit 0 chooses r^1 or r^2, bit 1 multiplies by r^2, bit 2 by r^4. */
IFMA void powers_of(struct powers *p, const uint64_t r[3]) {
    struct limbs r1 = {{_mm512_set1_epi64((long long)r[0]), _mm512_set1_epi64((long long)r[1]), _mm512_set1_epi64((long long)r[2])}};
    struct factor f = factor_of(r1);
    struct limbs r2 = multiply(r1, &f), lanes = choose(0x33, r1, r2);
    f = factor_of(r2);
    lanes = choose(0x0f, lanes, multiply(lanes, &f));
    f = factor_of(first_everywhere(lanes)); /* r^4 */
    lanes = choose(0x55, lanes, multiply(lanes, &f));
    p->last = factor_of(lanes);
    struct limbs r8 = first_everywhere(lanes);
    p->eight = factor_of(r8);
    p->sixteen = factor_of(multiply(r8, &p->eight));
}

/* ---- all of it ------------------------------------------------------------------------------------------------------------- */

/* The hash of n / 16 whole blocks, at least eight, as if nothing came before them. */
IFMA void hash_whole(struct poly *out, const uint8_t *data, size_t blocks) {
    struct powers p;
    powers_of(&p, out->r);
    struct limbs h = load_front(data, blocks % 8);
    data += 16 * (blocks % 8);
    size_t eights = blocks / 8;
    if (eights % 2 != 0) {
        h = plus(multiply(h, &p.eight), load_eight(data));
        data += EIGHT;
    }
    for (size_t pairs = eights / 2; pairs != 0; pairs--, data += 2 * EIGHT) {
        struct sums d = no_sums();
        multiply_add(&d, load_eight(data), &p.eight);
        multiply_add(&d, h, &p.sixteen);
        h = plus(reduce(d), load_eight(data + EIGHT));
    }
    h = multiply(h, &p.last);
    for (int i = 0; i < 3; i++) {
        out->h[i] = (uint64_t)_mm512_reduce_add_epi64(h.v[i]); /* three bits more than a limb: poly_block and poly_finish take that */
    }
}

__attribute__((target(TARGET))) void zt_poly1305_ifma(const uint8_t key[32], const uint8_t *data, size_t n, uint8_t tag[16]) {
    struct poly p;
    poly_init(&p, key);
    if (n >= WIDE_FROM) {
        hash_whole(&p, data, n / 16);
        data += n / 16 * 16;
        n %= 16;
    }
    poly_update(&p, data, n);
    poly_finish(&p, key, tag);
}

#endif
