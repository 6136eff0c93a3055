/* gmac_siv_vaes.c: AES-GMAC-SIV (vl1-wire 5.6) with VAES and VPCLMULQDQ on 512-bit registers: four blocks in each.
 *
 * Names: a "quad" is one register, four blocks. GMAC keeps four running hashes, one per lane, of every fourth block; they are multiplied by
 * the right powers and added at the end. The header block is the last lane of a quad before the text, so that the text stays aligned in
 * lanes with the key stream, and opening can hash what it has just decrypted without another load.
 */
#include "aes_x86_impl.h"

#ifdef __x86_64__

#define VAES_TARGET AESNI_TARGET ",avx2,bmi2,avx512f,avx512bw,avx512vl,avx512dq,vaes,vpclmulqdq"
#define VAES __attribute__((target(VAES_TARGET), always_inline)) static inline
#define ENTRY __attribute__((target(VAES_TARGET)))

#define QUAD 64
#define STEP 8 /* quads in flight: 512 bytes */
#define HALF 4

struct quad_product {
    __m512i lo, mid, hi;
};

VAES __m512i load512(const uint8_t *p) { return _mm512_loadu_si512(p); }

VAES void store512(uint8_t *p, __m512i v) { _mm512_storeu_si512(p, v); }

/* Four times the same block. */
VAES __m512i four_times(const uint8_t *p) { return _mm512_broadcast_i32x4(load128(p)); }

/* The bytes of quad number `quad` that lie within `n` bytes. */
VAES __mmask64 part_of(size_t n, size_t quad) {
    size_t left = n > quad * QUAD ? n - quad * QUAD : 0;
    return left >= QUAD ? ~0ULL : _bzhi_u64(~0ULL, (unsigned)left);
}

VAES __m512i reverse512(__m512i v) {
    return _mm512_shuffle_epi8(v, _mm512_broadcast_i32x4(_mm_set_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)));
}

/* ---- GHASH ----------------------------------------------------------------------------------------------------------------- */

VAES __m512i xor3(__m512i a, __m512i b, __m512i c) { return _mm512_ternarylogic_epi64(a, b, c, 0x96); }

struct power {
    __m512i h, hx;
};

/* Karatsuba: three multiplications; `mid` lacks lo + hi until finish_product. */
VAES void multiply_add(struct quad_product *sum, __m512i a, struct power p) {
    __m512i ax = _mm512_xor_si512(a, _mm512_shuffle_epi32(a, (_MM_PERM_ENUM)0x4e));
    sum->lo = _mm512_xor_si512(sum->lo, _mm512_clmulepi64_epi128(a, p.h, 0x00));
    sum->hi = _mm512_xor_si512(sum->hi, _mm512_clmulepi64_epi128(a, p.h, 0x11));
    sum->mid = _mm512_xor_si512(sum->mid, _mm512_clmulepi64_epi128(ax, p.hx, 0x00));
}

VAES void finish_product(struct quad_product *p) { p->mid = xor3(p->mid, p->lo, p->hi); }

/* As ghash_reduce, in every lane. */
VAES __m512i reduce_lanes(struct quad_product p) {
    finish_product(&p);
    const __m512i poly = _mm512_broadcast_i32x4(_mm_set_epi64x((long long)0xc200000000000000ULL, 1));
    __m512i t = _mm512_clmulepi64_epi128(poly, p.lo, 0x01);
    p.mid = xor3(p.mid, _mm512_shuffle_epi32(p.lo, (_MM_PERM_ENUM)0x4e), t);
    t = _mm512_clmulepi64_epi128(poly, p.mid, 0x01);
    return xor3(p.hi, _mm512_shuffle_epi32(p.mid, (_MM_PERM_ENUM)0x4e), t);
}

VAES __m128i sum_of_lanes(__m512i v) {
    __m256i half = _mm256_xor_si256(_mm512_castsi512_si256(v), _mm512_extracti64x4_epi64(v, 1));
    return _mm_xor_si128(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
}

/* H^n in every lane */
VAES struct power power_lanes(const zt_siv_key *k, size_t n) {
    struct power p = {four_times(k->h[ZT_GHASH_POWERS - n]), four_times(k->hx[ZT_GHASH_POWERS - n])};
    return p;
}

/* H^n, H^(n-1), H^(n-2), H^(n-3): where n < 4 the lanes beyond are whatever follows; the caller has zeros there. */
VAES struct power power_quad(const zt_siv_key *k, size_t n) {
    struct power p = {load512(k->h[ZT_GHASH_POWERS - n]), load512(k->hx[ZT_GHASH_POWERS - n])};
    return p;
}

VAES struct quad_product nothing(void) {
    struct quad_product zero = {_mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512()};
    return zero;
}

/* `hash`: four running hashes whose own multiplication is still to come. Append `quads` quads. The hash comes in last: everything else can
 * be multiplied while the step before is still being reduced. */
VAES __m512i hash_quads(const zt_siv_key *k, __m512i hash, const __m512i *text, size_t quads) {
    struct quad_product sum = nothing();
#pragma GCC unroll 8
    for (size_t i = 0; i + 1 < quads; i++) {
        multiply_add(&sum, reverse512(text[i]), power_lanes(k, 4 * (quads - 1 - i)));
    }
    multiply_add(&sum, hash, power_lanes(k, 4 * quads));
    return _mm512_xor_si512(reduce_lanes(sum), reverse512(text[quads - 1]));
}

/* The end: the running hashes, the remaining `n` bytes (in `quads` quads, zeros after them) and the length block, into one hash. */
VAES __m128i hash_finish(const zt_siv_key *k, __m512i hash, const __m512i *text, size_t quads, size_t n, size_t total) {
    size_t blocks = (n + 15) / 16;
    struct quad_product sum = nothing();
    multiply_add(&sum, _mm512_zextsi128_si512(length_block(total)), power_quad(k, 1));
#pragma GCC unroll 4
    for (size_t i = 0; i < quads; i++) {
        /* a quad that holds nothing (i * 4 >= blocks) is zero: any power will do */
        multiply_add(&sum, reverse512(text[i]), power_quad(k, blocks + 1 > 4 * i ? blocks + 1 - 4 * i : 1));
    }
    multiply_add(&sum, hash, power_quad(k, blocks + 5));
    finish_product(&sum);
    struct product one = {sum_of_lanes(sum.lo), sum_of_lanes(sum.mid), sum_of_lanes(sum.hi)};
    return ghash_reduce(one);
}

VAES __m512i hash_begin(const uint8_t *p) {
    return _mm512_inserti64x2(_mm512_setzero_si512(), reverse(aad_block(p)), 3);
}

/* ---- CTR ------------------------------------------------------------------------------------------------------------------- */

/* The round keys, four times each: they stay in registers. */
struct round_keys {
    __m512i k[15];
};

VAES void load_round_keys(const zt_siv_key *k, struct round_keys *r) {
#pragma GCC unroll 15
    for (int i = 0; i < 15; i++) {
        r->k[i] = four_times(k->k1_enc[i]);
    }
}

/* Four successive counters. */
VAES __m512i begin_counter(__m128i tag) {
    const __m512i lane = _mm512_set_epi32(0, 0, 0, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 0);
    return _mm512_add_epi32(_mm512_broadcast_i32x4(first_counter(tag)), lane);
}

VAES void begin_stream(const struct round_keys *r, __m512i *counter, __m512i *stream, size_t quads) {
    const __m512i four = _mm512_broadcast_i32x4(_mm_set_epi32(0, 0, 0, 4));
#pragma GCC unroll 8
    for (size_t i = 0; i < quads; i++) {
        stream[i] = _mm512_xor_si512(reverse512(*counter), r->k[0]);
        *counter = _mm512_add_epi32(*counter, four);
    }
}

VAES void key_stream(const struct round_keys *r, __m512i *counter, __m512i *stream, size_t quads) {
    begin_stream(r, counter, stream, quads);
#pragma GCC unroll 13
    for (int round = 1; round < 14; round++) {
#pragma GCC unroll 8
        for (size_t i = 0; i < quads; i++) {
            stream[i] = _mm512_aesenc_epi128(stream[i], r->k[round]);
        }
    }
#pragma GCC unroll 8
    for (size_t i = 0; i < quads; i++) {
        stream[i] = _mm512_aesenclast_epi128(stream[i], r->k[14]);
    }
}

/* XOR whole quads with the key stream, in place; leaves the result in `out`, too. */
VAES void xor_quads(const struct round_keys *r, __m512i *counter, uint8_t *text, __m512i *out, size_t quads) {
    key_stream(r, counter, out, quads);
#pragma GCC unroll 8
    for (size_t i = 0; i < quads; i++) {
        out[i] = _mm512_xor_si512(out[i], load512(text + QUAD * i));
        store512(text + QUAD * i, out[i]);
    }
}

/* The same for the last n bytes, n <= 64 * quads; zeros after them in `out`. */
VAES void xor_part(const struct round_keys *r, __m512i *counter, uint8_t *text, size_t n, __m512i *out, size_t quads) {
    key_stream(r, counter, out, quads);
#pragma GCC unroll 4
    for (size_t i = 0; i < quads; i++) {
        __mmask64 mask = part_of(n, i);
        out[i] = _mm512_maskz_mov_epi8(mask, _mm512_xor_si512(out[i], _mm512_maskz_loadu_epi8(mask, text + QUAD * i)));
        _mm512_mask_storeu_epi8(text + QUAD * i, mask, out[i]);
    }
}

/* Decrypt a step while the step before it, decrypted already, is hashed: AES and PCLMUL instructions alternate, because the CPU does not look
 * far enough ahead to mix them by itself. */
VAES __m512i xor_and_hash(const zt_siv_key *k, const struct round_keys *r, __m512i *counter, uint8_t *text, __m512i hash) {
    const uint8_t *before = text - STEP * QUAD;
    struct quad_product sum = nothing();
    __m512i stream[STEP];
    begin_stream(r, counter, stream, STEP);
#pragma GCC unroll 13
    for (int round = 1; round < 14; round++) {
#pragma GCC unroll 8
        for (size_t i = 0; i < STEP; i++) {
            stream[i] = _mm512_aesenc_epi128(stream[i], r->k[round]);
        }
        if (round < STEP) {
            multiply_add(&sum, reverse512(load512(before + QUAD * (round - 1))), power_lanes(k, 4 * (STEP - (size_t)round)));
        } else if (round == STEP) {
            multiply_add(&sum, hash, power_lanes(k, 4 * STEP));
        }
    }
    hash = _mm512_xor_si512(reduce_lanes(sum), reverse512(load512(before + QUAD * (STEP - 1))));
#pragma GCC unroll 8
    for (size_t i = 0; i < STEP; i++) {
        stream[i] = _mm512_aesenclast_epi128(stream[i], r->k[14]);
        store512(text + QUAD * i, _mm512_xor_si512(stream[i], load512(text + QUAD * i)));
    }
    return hash;
}

/* ---- packets --------------------------------------------------------------------------------------------------------------- */

VAES void load_quads(const uint8_t *text, __m512i *out, size_t quads) {
#pragma GCC unroll 8
    for (size_t i = 0; i < quads; i++) {
        out[i] = load512(text + QUAD * i);
    }
}

VAES __m128i hash_part(const zt_siv_key *k, __m512i hash, const uint8_t *text, size_t n, size_t total, size_t quads) {
    __m512i part[HALF];
#pragma GCC unroll 4
    for (size_t i = 0; i < quads; i++) {
        part[i] = _mm512_maskz_loadu_epi8(part_of(n, i), text + QUAD * i);
    }
    return hash_finish(k, hash, part, quads, n, total);
}

VAES __m128i hash_packet(const zt_siv_key *k, const uint8_t *p, size_t total) {
    const uint8_t *text = p + ZT_AT_TEXT;
    size_t left = total;
    __m512i hash = hash_begin(p), quads[STEP];
    for (; left >= STEP * QUAD; left -= STEP * QUAD, text += STEP * QUAD) {
        load_quads(text, quads, STEP);
        hash = hash_quads(k, hash, quads, STEP);
    }
    if (left > HALF * QUAD) {
        load_quads(text, quads, HALF);
        hash = hash_quads(k, hash, quads, HALF);
        left -= HALF * QUAD;
        text += HALF * QUAD;
    }
    return left <= QUAD ? hash_part(k, hash, text, left, total, 1) : hash_part(k, hash, text, left, total, HALF);
}

ENTRY void zt_siv_seal_vaes512(const zt_siv_key *k, uint8_t *p, size_t n) {
    uint8_t *text = p + ZT_AT_TEXT;
    size_t left = n - ZT_AT_TEXT;
    uint64_t iv;
    memcpy(&iv, p, 8);
    __m128i mask = gmac_mask(k, iv);
    uint64_t mac = fold_mac(hash_packet(k, p, left), mask);
    __m128i tag = aes_encrypt(k->k1_enc, _mm_set_epi64x((long long)mac, (long long)iv));

    struct round_keys keys;
    __m512i counter = begin_counter(tag), quads[STEP];
    load_round_keys(k, &keys);
    for (; left >= STEP * QUAD; left -= STEP * QUAD, text += STEP * QUAD) {
        xor_quads(&keys, &counter, text, quads, STEP);
    }
    if (left > HALF * QUAD) {
        xor_quads(&keys, &counter, text, quads, HALF);
        left -= HALF * QUAD;
        text += HALF * QUAD;
    }
    if (left <= QUAD) {
        xor_part(&keys, &counter, text, left, quads, 1);
    } else {
        xor_part(&keys, &counter, text, left, quads, HALF);
    }
    store_tag(p, tag);
}

ENTRY int zt_siv_open_vaes512(const zt_siv_key *k, uint8_t *p, size_t n) {
    if (n < ZT_PACKET_MIN) {
        return 0;
    }
    uint8_t *text = p + ZT_AT_TEXT;
    size_t left = n - ZT_AT_TEXT, total = left;
    struct round_keys keys;
    __m128i tag = load_tag(p), y;
    __m512i counter = begin_counter(tag), hash = hash_begin(p), quads[STEP];
    load_round_keys(k, &keys);
    __m128i plain_tag = aes_decrypt(k->k1_dec, tag);
    uint64_t iv = (uint64_t)_mm_cvtsi128_si64(plain_tag), mac = (uint64_t)_mm_extract_epi64(plain_tag, 1);
    __m128i mask = gmac_mask(k, iv);
    if (left >= STEP * QUAD) {
        xor_quads(&keys, &counter, text, quads, STEP);
        for (left -= STEP * QUAD, text += STEP * QUAD; left >= STEP * QUAD; left -= STEP * QUAD, text += STEP * QUAD) {
            hash = xor_and_hash(k, &keys, &counter, text, hash);
        }
        load_quads(text - STEP * QUAD, quads, STEP);
        hash = hash_quads(k, hash, quads, STEP);
    }
    if (left > HALF * QUAD) {
        xor_quads(&keys, &counter, text, quads, HALF);
        hash = hash_quads(k, hash, quads, HALF);
        left -= HALF * QUAD;
        text += HALF * QUAD;
    }
    if (left <= QUAD) {
        xor_part(&keys, &counter, text, left, quads, 1);
        y = hash_finish(k, hash, quads, 1, left, total);
    } else {
        xor_part(&keys, &counter, text, left, quads, HALF);
        y = hash_finish(k, hash, quads, HALF, left, total);
    }
    return fold_mac(y, mask) == mac;
}

#endif
