/* salsa_avx2.c: Salsa20/12, two blocks in every register and up to three such groups in flight. */
#include "salsa_x86_impl.h"

#ifdef __x86_64__
#include <immintrin.h>

#define TARGET "avx2,bmi2"
#define AVX2 __attribute__((target(TARGET), always_inline)) static inline
#define GROUP 128 /* bytes of key stream of one group: two blocks */
#define MOST 3    /* groups in flight: as many as the registers hold */

/* Two blocks: a row of each in every 128-bit lane (salsa_rows). */
struct group {
    __m256i a, b, c, d;
};

struct state {
    struct group base;
    __m256i counter; /* of the next two blocks: 64 bits at the start of each lane */
};

AVX2 __m256i twice(const uint32_t row[4]) { return _mm256_broadcastsi128_si256(_mm_loadu_si128((const void *)row)); }

AVX2 void init(struct state *s, const uint8_t key[32], const uint8_t nonce[8], uint64_t block) {
    struct salsa_rows rows;
    salsa_rows_init(&rows, key, nonce);
    s->base = (struct group){twice(rows.a), twice(rows.b), twice(rows.c), twice(rows.d)};
    s->counter = _mm256_add_epi64(_mm256_set1_epi64x((long long)block), _mm256_set_epi64x(0, 1, 0, 0));
}

#define ROTATE(v, n) _mm256_or_si256(_mm256_slli_epi32(v, n), _mm256_srli_epi32(v, 32 - (n)))
#define MIX(to, x, y, n)                                                                                            \
    do {                                                                                                            \
        __m256i sum = _mm256_add_epi32(x, y);                                                                       \
        (to) = _mm256_xor_si256(to, ROTATE(sum, n));                                                                \
    } while (0)

AVX2 void quarter(struct group *g) {
    MIX(g->b, g->a, g->d, 7);
    MIX(g->c, g->b, g->a, 9);
    MIX(g->d, g->c, g->b, 13);
    MIX(g->a, g->d, g->c, 18);
}

/* From columns to rows, and back: the same. */
AVX2 void turn(struct group *g) {
    __m256i b = g->b;
    g->b = _mm256_shuffle_epi32(g->d, 0x39);
    g->c = _mm256_shuffle_epi32(g->c, 0x4e);
    g->d = _mm256_shuffle_epi32(b, 0x93);
}

/* Undo the arrangement: out[0] and out[1] are the first block, out[2] and out[3] the second. */
AVX2 void arrange(const struct group *g, __m256i out[4]) {
    __m256i ac = _mm256_blend_epi32(g->a, g->c, 0xcc), ca = _mm256_blend_epi32(g->c, g->a, 0xcc);
    __m256i bd = _mm256_blend_epi32(g->b, g->d, 0xcc), db = _mm256_blend_epi32(g->d, g->b, 0xcc);
    __m256i row0 = _mm256_blend_epi32(ac, db, 0xaa), row1 = _mm256_blend_epi32(bd, ac, 0xaa);
    __m256i row2 = _mm256_blend_epi32(ca, bd, 0xaa), row3 = _mm256_blend_epi32(db, ca, 0xaa);
    out[0] = _mm256_permute2x128_si256(row0, row1, 0x20);
    out[1] = _mm256_permute2x128_si256(row2, row3, 0x20);
    out[2] = _mm256_permute2x128_si256(row0, row1, 0x31);
    out[3] = _mm256_permute2x128_si256(row2, row3, 0x31);
}

AVX2 struct group start(struct state *s) {
    struct group g = s->base;
    g.c = _mm256_blend_epi32(g.c, s->counter, 0x11); /* x8 */
    g.b = _mm256_blend_epi32(g.b, s->counter, 0x22); /* x9 */
    s->counter = _mm256_add_epi64(s->counter, _mm256_set_epi64x(0, 2, 0, 2));
    return g;
}

/* `groups` times two blocks of key stream. */
AVX2 void stream(struct state *s, __m256i (*out)[4], size_t groups) {
    struct group first[MOST], g[MOST];
#pragma GCC unroll 3
    for (size_t i = 0; i < groups; i++) {
        first[i] = g[i] = start(s);
    }
    for (int round = 0; round < 12; round++) {
#pragma GCC unroll 3
        for (size_t i = 0; i < groups; i++) {
            quarter(&g[i]);
            turn(&g[i]);
        }
    }
#pragma GCC unroll 3
    for (size_t i = 0; i < groups; i++) {
        g[i].a = _mm256_add_epi32(g[i].a, first[i].a);
        g[i].b = _mm256_add_epi32(g[i].b, first[i].b);
        g[i].c = _mm256_add_epi32(g[i].c, first[i].c);
        g[i].d = _mm256_add_epi32(g[i].d, first[i].d);
        arrange(&g[i], out[i]);
    }
}

AVX2 void xor_whole(struct state *s, uint8_t *buf, size_t groups) {
    __m256i k[MOST][4];
    stream(s, k, groups);
#pragma GCC unroll 3
    for (size_t i = 0; i < groups; i++) {
#pragma GCC unroll 4
        for (size_t j = 0; j < 4; j++) {
            __m256i *p = (__m256i *)(void *)(buf + GROUP * i + 32 * j);
            _mm256_storeu_si256(p, _mm256_xor_si256(k[i][j], _mm256_loadu_si256(p)));
        }
    }
}

/* n < GROUP * MOST: the last bytes go through a buffer of whole groups. */
AVX2 void xor_rest(struct state *s, uint8_t *buf, size_t n) {
    uint8_t whole[GROUP * MOST] = {0};
    if (n == 0) {
        return;
    }
    memcpy(whole, buf, n);
    if (n <= GROUP) {
        xor_whole(s, whole, 1);
    } else {
        xor_whole(s, whole, MOST);
    }
    memcpy(buf, whole, n);
}

__attribute__((target(TARGET))) void zt_salsa12_xor_avx2(const uint8_t key[32], const uint8_t nonce[8], uint64_t block, uint8_t *buf,
                                                         size_t n) {
    struct state s;
    init(&s, key, nonce, block);
    for (; n >= MOST * GROUP; n -= MOST * GROUP, buf += MOST * GROUP) {
        xor_whole(&s, buf, MOST);
    }
    xor_rest(&s, buf, n);
}

#endif
