/* csum_avx2.c: the Internet checksum, 64 bytes a step. */
#include "csum_impl.h"

#ifdef __x86_64__
#include <immintrin.h>

#define TARGET "avx2"
#define AVX2 __attribute__((target(TARGET), always_inline)) static inline
#define STEP 64

struct sums {
    __m256i even, odd; /* of 32-bit words, each in 64 bits: no carry */
};

AVX2 __m256i load(const uint8_t *p) { return _mm256_loadu_si256((const void *)p); }

AVX2 void add(struct sums *s, __m256i v) {
    s->even = _mm256_add_epi64(s->even, _mm256_blend_epi32(v, _mm256_setzero_si256(), 0xaa));
    s->odd = _mm256_add_epi64(s->odd, _mm256_srli_epi64(v, 32));
}

AVX2 uint64_t total(struct sums a, struct sums b) {
    __m256i all = _mm256_add_epi64(_mm256_add_epi64(a.even, a.odd), _mm256_add_epi64(b.even, b.odd));
    __m128i half = _mm_add_epi64(_mm256_castsi256_si128(all), _mm256_extracti128_si256(all, 1));
    return (uint64_t)_mm_cvtsi128_si64(half) + (uint64_t)_mm_extract_epi64(half, 1);
}

/* `dst` NULL: sum only; the compiler makes two functions of this one. */
AVX2 uint32_t run(uint8_t *dst, const uint8_t *src, size_t n, uint32_t sum) {
    struct sums a = {_mm256_setzero_si256(), _mm256_setzero_si256()}, b = a;
    for (; n >= STEP; n -= STEP, src += STEP) {
        __m256i first = load(src), second = load(src + 32);
        if (dst != NULL) {
            _mm256_storeu_si256((void *)dst, first);
            _mm256_storeu_si256((void *)(dst + 32), second);
            dst += STEP;
        }
        add(&a, first);
        add(&b, second);
    }
    uint64_t all = sum + total(a, b);
    for (; n >= 8; n -= 8, src += 8) {
        uint64_t v;
        memcpy(&v, src, 8);
        if (dst != NULL) {
            memcpy(dst, &v, 8);
            dst += 8;
        }
        all += (v & 0xffffffff) + (v >> 32);
    }
    if (dst != NULL && n != 0) {
        memcpy(dst, src, n);
    }
    return csum_fold64(all + csum_tail(src, n));
}

__attribute__((target(TARGET))) uint32_t zt_csum_partial_avx2(const uint8_t *data, size_t n, uint32_t sum) {
    return run(NULL, data, n, sum);
}

__attribute__((target(TARGET))) uint32_t zt_copy_csum_avx2(uint8_t *dst, const uint8_t *src, size_t n, uint32_t sum) {
    return run(dst, src, n, sum);
}

#endif
