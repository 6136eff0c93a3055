/* salsa_avx512.c: Salsa20/12, four blocks in every register and up to four such groups in flight. */
#include "salsa_x86_impl.h"

#ifdef __x86_64__
#include <immintrin.h>

#define TARGET "avx2,bmi2,avx512f,avx512bw,avx512vl,avx512dq"
#define AVX512 __attribute__((target(TARGET), always_inline)) static inline
#define GROUP 256 /* bytes of key stream of one group: four blocks */
#define MOST 4    /* groups in flight */

/* Four blocks: a row of each in every 128-bit lane (salsa_rows). */
struct group {
    __m512i a, b, c, d;
};

struct state {
    struct group base;
    __m512i counter; /* of the next four blocks: 64 bits at the start of each lane */
};

AVX512 void init(struct state *s, const uint8_t key[32], const uint8_t nonce[8], uint64_t block) {
    struct salsa_rows rows;
    salsa_rows_init(&rows, key, nonce);
    s->base.a = _mm512_broadcast_i32x4(_mm_loadu_si128((const void *)rows.a));
    s->base.b = _mm512_broadcast_i32x4(_mm_loadu_si128((const void *)rows.b));
    s->base.c = _mm512_broadcast_i32x4(_mm_loadu_si128((const void *)rows.c));
    s->base.d = _mm512_broadcast_i32x4(_mm_loadu_si128((const void *)rows.d));
    s->counter = _mm512_add_epi64(_mm512_set1_epi64((long long)block), _mm512_set_epi64(0, 3, 0, 2, 0, 1, 0, 0));
}

AVX512 void quarter(struct group *g) {
    g->b = _mm512_xor_si512(g->b, _mm512_rol_epi32(_mm512_add_epi32(g->a, g->d), 7));
    g->c = _mm512_xor_si512(g->c, _mm512_rol_epi32(_mm512_add_epi32(g->b, g->a), 9));
    g->d = _mm512_xor_si512(g->d, _mm512_rol_epi32(_mm512_add_epi32(g->c, g->b), 13));
    g->a = _mm512_xor_si512(g->a, _mm512_rol_epi32(_mm512_add_epi32(g->d, g->c), 18));
}

/* From columns to rows, and back: the same. */
AVX512 void turn(struct group *g) {
    __m512i b = g->b;
    g->b = _mm512_shuffle_epi32(g->d, (_MM_PERM_ENUM)0x39);
    g->c = _mm512_shuffle_epi32(g->c, (_MM_PERM_ENUM)0x4e);
    g->d = _mm512_shuffle_epi32(b, (_MM_PERM_ENUM)0x93);
}

/* Undo the arrangement: out[i] is block i. */
AVX512 void arrange(const struct group *g, __m512i out[4]) {
    __m512i ac = _mm512_mask_blend_epi32(0xcccc, g->a, g->c), ca = _mm512_mask_blend_epi32(0xcccc, g->c, g->a);
    __m512i bd = _mm512_mask_blend_epi32(0xcccc, g->b, g->d), db = _mm512_mask_blend_epi32(0xcccc, g->d, g->b);
    __m512i row0 = _mm512_mask_blend_epi32(0xaaaa, ac, db), row1 = _mm512_mask_blend_epi32(0xaaaa, bd, ac);
    __m512i row2 = _mm512_mask_blend_epi32(0xaaaa, ca, bd), row3 = _mm512_mask_blend_epi32(0xaaaa, db, ca);
    __m512i low01 = _mm512_shuffle_i32x4(row0, row1, 0x44), low23 = _mm512_shuffle_i32x4(row2, row3, 0x44);
    __m512i high01 = _mm512_shuffle_i32x4(row0, row1, 0xee), high23 = _mm512_shuffle_i32x4(row2, row3, 0xee);
    out[0] = _mm512_shuffle_i32x4(low01, low23, 0x88);
    out[1] = _mm512_shuffle_i32x4(low01, low23, 0xdd);
    out[2] = _mm512_shuffle_i32x4(high01, high23, 0x88);
    out[3] = _mm512_shuffle_i32x4(high01, high23, 0xdd);
}

AVX512 struct group start(struct state *s) {
    struct group g = s->base;
    g.c = _mm512_mask_mov_epi32(g.c, 0x1111, s->counter); /* x8 */
    g.b = _mm512_mask_mov_epi32(g.b, 0x2222, s->counter); /* x9 */
    s->counter = _mm512_add_epi64(s->counter, _mm512_set_epi64(0, 4, 0, 4, 0, 4, 0, 4));
    return g;
}

/* `groups` times four blocks of key stream. */
AVX512 void stream(struct state *s, __m512i (*out)[4], size_t groups) {
    struct group first[MOST], g[MOST];
#pragma GCC unroll 4
    for (size_t i = 0; i < groups; i++) {
        first[i] = g[i] = start(s);
    }
    for (int round = 0; round < 12; round++) {
#pragma GCC unroll 4
        for (size_t i = 0; i < groups; i++) {
            quarter(&g[i]);
            turn(&g[i]);
        }
    }
#pragma GCC unroll 4
    for (size_t i = 0; i < groups; i++) {
        g[i].a = _mm512_add_epi32(g[i].a, first[i].a);
        g[i].b = _mm512_add_epi32(g[i].b, first[i].b);
        g[i].c = _mm512_add_epi32(g[i].c, first[i].c);
        g[i].d = _mm512_add_epi32(g[i].d, first[i].d);
        arrange(&g[i], out[i]);
    }
}

AVX512 void xor_whole(struct state *s, uint8_t *buf, size_t groups) {
    __m512i k[MOST][4];
    stream(s, k, groups);
#pragma GCC unroll 4
    for (size_t i = 0; i < groups; i++) {
#pragma GCC unroll 4
        for (size_t j = 0; j < 4; j++) {
            uint8_t *p = buf + GROUP * i + 64 * j;
            _mm512_storeu_si512(p, _mm512_xor_si512(k[i][j], _mm512_loadu_si512(p)));
        }
    }
}

/* n <= GROUP * groups */
AVX512 void xor_part(struct state *s, uint8_t *buf, size_t n, size_t groups) {
    __m512i k[MOST][4];
    stream(s, k, groups);
#pragma GCC unroll 4
    for (size_t i = 0; i < groups; i++) {
#pragma GCC unroll 4
        for (size_t j = 0; j < 4; j++) {
            size_t at = GROUP * i + 64 * j, left = n > at ? n - at : 0;
            if (left == 0) {
                return;
            }
            __mmask64 mask = left >= 64 ? ~0ULL : _bzhi_u64(~0ULL, (unsigned)left);
            __m512i text = _mm512_maskz_loadu_epi8(mask, buf + at);
            _mm512_mask_storeu_epi8(buf + at, mask, _mm512_xor_si512(k[i][j], text));
        }
    }
}

__attribute__((target(TARGET))) void zt_salsa12_xor_avx512(const uint8_t key[32], const uint8_t nonce[8], uint64_t block, uint8_t *buf,
                                                           size_t n) {
    struct state s;
    init(&s, key, nonce, block);
    for (; n >= MOST * GROUP; n -= MOST * GROUP, buf += MOST * GROUP) {
        xor_whole(&s, buf, MOST);
    }
    if (n > 2 * GROUP) {
        xor_part(&s, buf, n, MOST);
    } else if (n > GROUP) {
        xor_part(&s, buf, n, 2);
    } else if (n != 0) {
        xor_part(&s, buf, n, 1);
    }
}

#endif
