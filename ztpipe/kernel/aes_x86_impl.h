/* aes_x86_impl.h: AES-256 and GHASH by one 128-bit register, for the AES-NI and the VAES form of suite 3.
 *
 * GHASH works on byte-reversed blocks. Its key powers are stored multiplied by x, which makes the product of a reversed block and a stored
 * power come out aligned, and the reduction two multiplications by the field's polynomial (Gueron and Kounavis, "Intel Carry-Less
 * Multiplication Instruction and its Usage for Computing the GCM Mode", algorithm 5). ghash_reduce(a (x) power) = a * power in the field.
 */
#ifndef ZT_AES_X86_IMPL_H
#define ZT_AES_X86_IMPL_H
#ifdef __x86_64__

#include "crypto_impl.h"

#include <immintrin.h>

#define AESNI_TARGET "aes,pclmul,ssse3,sse4.1"
#define AESNI __attribute__((target(AESNI_TARGET))) static inline

/* The unreduced 256-bit product: lo + mid * x^64 + hi * x^128. */
struct product {
    __m128i lo, mid, hi;
};

AESNI __m128i load128(const uint8_t *p) { return _mm_loadu_si128((const __m128i *)(const void *)p); }

AESNI void store128(uint8_t *p, __m128i v) { _mm_storeu_si128((__m128i *)(void *)p, v); }

/* n < 16 bytes, zeros after them */
AESNI __m128i load_part(const uint8_t *p, size_t n) {
    uint8_t block[16] = {0};
    memcpy(block, p, n);
    return load128(block);
}

AESNI __m128i reverse(__m128i v) {
    return _mm_shuffle_epi8(v, _mm_set_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
}

AESNI struct product ghash_multiply(__m128i a, __m128i power) {
    struct product r = {
        .lo = _mm_clmulepi64_si128(a, power, 0x00),
        .mid = _mm_xor_si128(_mm_clmulepi64_si128(a, power, 0x01), _mm_clmulepi64_si128(a, power, 0x10)),
        .hi = _mm_clmulepi64_si128(a, power, 0x11),
    };
    return r;
}

AESNI void product_add(struct product *sum, struct product p) {
    sum->lo = _mm_xor_si128(sum->lo, p.lo);
    sum->mid = _mm_xor_si128(sum->mid, p.mid);
    sum->hi = _mm_xor_si128(sum->hi, p.hi);
}

AESNI __m128i ghash_reduce(struct product p) {
    const __m128i poly = _mm_set_epi64x((long long)0xc200000000000000ULL, 1);
    __m128i t = _mm_clmulepi64_si128(poly, p.lo, 0x01);
    p.mid = _mm_xor_si128(p.mid, _mm_xor_si128(_mm_shuffle_epi32(p.lo, 0x4e), t));
    t = _mm_clmulepi64_si128(poly, p.mid, 0x01);
    return _mm_xor_si128(p.hi, _mm_xor_si128(_mm_shuffle_epi32(p.mid, 0x4e), t));
}

AESNI __m128i aes_encrypt(const uint8_t keys[15][16], __m128i block) {
    block = _mm_xor_si128(block, load128(keys[0]));
    for (int i = 1; i < 14; i++) {
        block = _mm_aesenc_si128(block, load128(keys[i]));
    }
    return _mm_aesenclast_si128(block, load128(keys[14]));
}

AESNI __m128i aes_decrypt(const uint8_t keys[15][16], __m128i block) {
    block = _mm_xor_si128(block, load128(keys[0]));
    for (int i = 1; i < 14; i++) {
        block = _mm_aesdec_si128(block, load128(keys[i]));
    }
    return _mm_aesdeclast_si128(block, load128(keys[14]));
}

/* The length block of GMAC, byte-reversed: bits of (16 + n) bytes of associated data, no ciphertext. */
AESNI __m128i length_block(size_t n) { return _mm_set_epi64x((long long)((n + 16) * 8), 0); }

/* destination, source, flags without hops, zeros */
AESNI __m128i aad_block(const uint8_t *p) {
    const __m128i mask = _mm_set_epi8(0, 0, 0, 0, 0, (char)ZT_NOT_HOPS, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1);
    return _mm_and_si128(load128(p + 8), mask);
}

/* E(K0, IV || 0 || 1): what GMAC adds to the hash. */
AESNI __m128i gmac_mask(const zt_siv_key *k, uint64_t iv) {
    return aes_encrypt(k->k0_enc, _mm_set_epi64x((long long)0x0100000000000000ULL, (long long)iv));
}

/* m of step 3 from the (still reversed) hash and the mask. */
AESNI uint64_t fold_mac(__m128i hash, __m128i mask) {
    __m128i g = _mm_xor_si128(reverse(hash), mask);
    return (uint64_t)_mm_cvtsi128_si64(_mm_xor_si128(g, _mm_srli_si128(g, 8)));
}

/* tag -> the first counter block, byte-reversed so that the counter is the lowest 32 bits */
AESNI __m128i first_counter(__m128i tag) {
    return reverse(_mm_and_si128(tag, _mm_set_epi32((int)0xffffff7f, -1, -1, -1)));
}

AESNI __m128i load_tag(const uint8_t *p) {
    uint64_t a, b;
    memcpy(&a, p, 8);
    memcpy(&b, p + ZT_AT_MAC, 8);
    return _mm_set_epi64x((long long)b, (long long)a);
}

AESNI void store_tag(uint8_t *p, __m128i tag) {
    uint64_t a = (uint64_t)_mm_cvtsi128_si64(tag), b = (uint64_t)_mm_extract_epi64(tag, 1);
    memcpy(p, &a, 8);
    memcpy(p + ZT_AT_MAC, &b, 8);
}

void zt_siv_key_expand_aesni(zt_siv_key *k);
void zt_siv_seal_aesni(const zt_siv_key *k, uint8_t *p, size_t n);
int zt_siv_open_aesni(const zt_siv_key *k, uint8_t *p, size_t n);
void zt_siv_stream_aesni(const zt_siv_key *k, const uint8_t *p, uint8_t stream[16]);
void zt_siv_seal_vaes512(const zt_siv_key *k, uint8_t *p, size_t n);
int zt_siv_open_vaes512(const zt_siv_key *k, uint8_t *p, size_t n);

#endif
#endif
