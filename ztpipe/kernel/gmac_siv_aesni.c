/* gmac_siv_aesni.c: AES-GMAC-SIV (vl1-wire 5.6) with AES-NI and PCLMULQDQ, eight blocks at a time; and the key expansion all x86 forms use. */
#include "aes_x86_impl.h"

#ifdef __x86_64__

#define STEP 8 /* blocks in flight: hides the latency of aesenc */

/* ---- keys ---------------------------------------------------------------------------------------------------------------- */

AESNI __m128i spread(__m128i v) {
    v = _mm_xor_si128(v, _mm_slli_si128(v, 4));
    return _mm_xor_si128(v, _mm_slli_si128(v, 8));
}

/* aeskeygenassist takes its constant as an immediate, hence macros. */
#define EVEN_ROUND(i, rcon)                                                                                         \
    a = _mm_xor_si128(spread(a), _mm_shuffle_epi32(_mm_aeskeygenassist_si128(b, rcon), 0xff));                      \
    store128(keys[i], a)
#define ODD_ROUND(i)                                                                                                \
    b = _mm_xor_si128(spread(b), _mm_shuffle_epi32(_mm_aeskeygenassist_si128(a, 0), 0xaa));                         \
    store128(keys[i], b)

AESNI void expand(const uint8_t key[32], uint8_t keys[15][16]) {
    __m128i a = load128(key), b = load128(key + 16);
    store128(keys[0], a);
    store128(keys[1], b);
    EVEN_ROUND(2, 0x01);
    ODD_ROUND(3);
    EVEN_ROUND(4, 0x02);
    ODD_ROUND(5);
    EVEN_ROUND(6, 0x04);
    ODD_ROUND(7);
    EVEN_ROUND(8, 0x08);
    ODD_ROUND(9);
    EVEN_ROUND(10, 0x10);
    ODD_ROUND(11);
    EVEN_ROUND(12, 0x20);
    ODD_ROUND(13);
    EVEN_ROUND(14, 0x40);
}

AESNI void invert(const uint8_t enc[15][16], uint8_t dec[15][16]) {
    store128(dec[0], load128(enc[14]));
    for (int i = 1; i < 14; i++) {
        store128(dec[i], _mm_aesimc_si128(load128(enc[14 - i])));
    }
    store128(dec[14], load128(enc[0]));
}

/* H times x, in the reversed representation. */
AESNI __m128i times_x(__m128i h) {
    uint64_t lo = (uint64_t)_mm_cvtsi128_si64(h), hi = (uint64_t)_mm_extract_epi64(h, 1);
    uint64_t out = 0 - (hi >> 63);
    hi = (hi << 1 | lo >> 63) ^ (out & 0xc200000000000000ULL);
    lo = lo << 1 ^ (out & 1);
    return _mm_set_epi64x((long long)hi, (long long)lo);
}

__attribute__((target(AESNI_TARGET))) void zt_siv_key_expand_aesni(zt_siv_key *k) {
    expand(k->k0, k->k0_enc);
    expand(k->k1, k->k1_enc);
    invert(k->k1_enc, k->k1_dec);
    __m128i h = times_x(reverse(aes_encrypt(k->k0_enc, _mm_setzero_si128()))), power = h;
    for (int i = ZT_GHASH_POWERS - 1; i >= 0; i--) {
        store128(k->h[i], power);
        store128(k->hx[i], _mm_move_epi64(_mm_xor_si128(power, _mm_srli_si128(power, 8))));
        power = ghash_reduce(ghash_multiply(power, h));
    }
}

/* H^n */
AESNI __m128i power_of(const zt_siv_key *k, size_t n) { return load128(k->h[ZT_GHASH_POWERS - n]); }

/* ---- GMAC ------------------------------------------------------------------------------------------------------------------ */

/* Hash eight blocks: one reduction for all of them. */
AESNI __m128i hash_step(const zt_siv_key *k, __m128i y, const uint8_t *text) {
    struct product sum = ghash_multiply(_mm_xor_si128(y, reverse(load128(text))), power_of(k, STEP));
    for (size_t i = 1; i < STEP; i++) {
        product_add(&sum, ghash_multiply(reverse(load128(text + 16 * i)), power_of(k, STEP - i)));
    }
    return ghash_reduce(sum);
}

/* Hash what is left, less than a step, and the length block. `y`: so far. */
AESNI __m128i hash_rest(const zt_siv_key *k, __m128i y, const uint8_t *text, size_t n, size_t total) {
    size_t power = (n + 15) / 16 + 1;
    struct product sum = {_mm_setzero_si128(), _mm_setzero_si128(), _mm_setzero_si128()};
    for (; n != 0; power--) {
        size_t part = n < 16 ? n : 16;
        __m128i block = reverse(part == 16 ? load128(text) : load_part(text, part));
        product_add(&sum, ghash_multiply(_mm_xor_si128(y, block), power_of(k, power)));
        y = _mm_setzero_si128();
        text += part;
        n -= part;
    }
    product_add(&sum, ghash_multiply(_mm_xor_si128(y, length_block(total)), power_of(k, 1)));
    return ghash_reduce(sum);
}

AESNI __m128i hash_aad(const zt_siv_key *k, const uint8_t *p) {
    return ghash_reduce(ghash_multiply(reverse(aad_block(p)), power_of(k, 1)));
}

/* ---- CTR ------------------------------------------------------------------------------------------------------------------- */

/* `count` blocks of key stream, and the counter after them. */
AESNI void key_stream(const zt_siv_key *k, __m128i *counter, __m128i stream[STEP], size_t count) {
    for (size_t i = 0; i < count; i++) {
        stream[i] = _mm_xor_si128(reverse(*counter), load128(k->k1_enc[0]));
        *counter = _mm_add_epi32(*counter, _mm_set_epi32(0, 0, 0, 1));
    }
    for (int round = 1; round < 14; round++) {
        __m128i key = load128(k->k1_enc[round]);
        for (size_t i = 0; i < count; i++) {
            stream[i] = _mm_aesenc_si128(stream[i], key);
        }
    }
    for (size_t i = 0; i < count; i++) {
        stream[i] = _mm_aesenclast_si128(stream[i], load128(k->k1_enc[14]));
    }
}

AESNI void xor_step(const zt_siv_key *k, __m128i *counter, uint8_t *text) {
    __m128i stream[STEP];
    key_stream(k, counter, stream, STEP);
    for (size_t i = 0; i < STEP; i++) {
        store128(text + 16 * i, _mm_xor_si128(load128(text + 16 * i), stream[i]));
    }
}

AESNI void xor_rest(const zt_siv_key *k, __m128i *counter, uint8_t *text, size_t n) {
    __m128i stream[STEP];
    uint8_t last[16];
    size_t whole = n / 16;
    if (n == 0) {
        return;
    }
    key_stream(k, counter, stream, (n + 15) / 16);
    for (size_t i = 0; i < whole; i++) {
        store128(text + 16 * i, _mm_xor_si128(load128(text + 16 * i), stream[i]));
    }
    if (n % 16 != 0) {
        store128(last, _mm_xor_si128(load_part(text + 16 * whole, n % 16), stream[whole]));
        memcpy(text + 16 * whole, last, n % 16);
    }
}

/* ---- packets --------------------------------------------------------------------------------------------------------------- */

__attribute__((target(AESNI_TARGET))) void zt_siv_seal_aesni(const zt_siv_key *k, uint8_t *p, size_t n) {
    uint8_t *text = p + ZT_AT_TEXT;
    size_t left = n - ZT_AT_TEXT, total = left;
    uint64_t iv;
    memcpy(&iv, p, 8);
    __m128i mask = gmac_mask(k, iv), y = hash_aad(k, p);
    for (; left >= 16 * STEP; left -= 16 * STEP, text += 16 * STEP) {
        y = hash_step(k, y, text);
    }
    y = hash_rest(k, y, text, left, total);

    __m128i tag = aes_encrypt(k->k1_enc, _mm_set_epi64x((long long)fold_mac(y, mask), (long long)iv));
    __m128i counter = first_counter(tag);
    for (text = p + ZT_AT_TEXT, left = total; left >= 16 * STEP; left -= 16 * STEP, text += 16 * STEP) {
        xor_step(k, &counter, text);
    }
    xor_rest(k, &counter, text, left);
    store_tag(p, tag);
}

__attribute__((target(AESNI_TARGET))) int zt_siv_open_aesni(const zt_siv_key *k, uint8_t *p, size_t n) {
    if (n < ZT_PACKET_MIN) {
        return 0;
    }
    uint8_t *text = p + ZT_AT_TEXT;
    size_t left = n - ZT_AT_TEXT, total = left;
    __m128i tag = load_tag(p), counter = first_counter(tag), y = hash_aad(k, p);
    __m128i plain_tag = aes_decrypt(k->k1_dec, tag);
    uint64_t iv = (uint64_t)_mm_cvtsi128_si64(plain_tag), mac = (uint64_t)_mm_extract_epi64(plain_tag, 1);
    __m128i mask = gmac_mask(k, iv);
    /* decrypt and hash each step while it is in registers and in the first cache */
    for (; left >= 16 * STEP; left -= 16 * STEP, text += 16 * STEP) {
        xor_step(k, &counter, text);
        y = hash_step(k, y, text);
    }
    xor_rest(k, &counter, text, left);
    y = hash_rest(k, y, text, left, total);
    return fold_mac(y, mask) == mac;
}

__attribute__((target(AESNI_TARGET))) void zt_siv_stream_aesni(const zt_siv_key *k, const uint8_t *p, uint8_t stream[16]) {
    store128(stream, aes_encrypt(k->k1_enc, reverse(first_counter(load_tag(p)))));
}

#endif
