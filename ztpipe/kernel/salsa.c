/* salsa.c: Salsa20/12 in plain C (libsodium's has no block counter), and suites 0 and 1 made of it and Poly1305 (vl1-wire 5.3, 5.4). */
#include "crypto_impl.h"

#include <sodium.h>

#define ROTATE(x, n) ((x) << (n) | (x) >> (32 - (n)))
#define QUARTER(a, b, c, d)                                                                                         \
    do {                                                                                                            \
        (b) ^= ROTATE((a) + (d), 7);                                                                                \
        (c) ^= ROTATE((b) + (a), 9);                                                                                \
        (d) ^= ROTATE((c) + (b), 13);                                                                               \
        (a) ^= ROTATE((d) + (c), 18);                                                                               \
    } while (0)

static void setup(uint32_t s[16], const uint8_t key[32], const uint8_t nonce[8], uint64_t block) {
    s[0] = 0x61707865; /* "expand 32-byte k" */
    s[5] = 0x3320646e;
    s[10] = 0x79622d32;
    s[15] = 0x6b206574;
    for (int i = 0; i < 4; i++) {
        s[1 + i] = zt_load32(key + 4 * i);
        s[11 + i] = zt_load32(key + 16 + 4 * i);
    }
    s[6] = zt_load32(nonce);
    s[7] = zt_load32(nonce + 4);
    s[8] = (uint32_t)block;
    s[9] = (uint32_t)(block >> 32);
}

static void twelve_rounds(const uint32_t s[16], uint8_t out[64]) {
    uint32_t x[16];
    memcpy(x, s, sizeof(x));
    for (int i = 0; i < 6; i++) {
        QUARTER(x[0], x[4], x[8], x[12]);
        QUARTER(x[5], x[9], x[13], x[1]);
        QUARTER(x[10], x[14], x[2], x[6]);
        QUARTER(x[15], x[3], x[7], x[11]);
        QUARTER(x[0], x[1], x[2], x[3]);
        QUARTER(x[5], x[6], x[7], x[4]);
        QUARTER(x[10], x[11], x[8], x[9]);
        QUARTER(x[15], x[12], x[13], x[14]);
    }
    for (int i = 0; i < 16; i++) {
        zt_store32(out + 4 * i, x[i] + s[i]);
    }
}

void zt_salsa12_xor_portable(const uint8_t key[32], const uint8_t nonce[8], uint64_t block, uint8_t *buf, size_t n) {
    uint32_t s[16];
    uint8_t stream[64];
    setup(s, key, nonce, block);
    while (n != 0) {
        size_t part = n < 64 ? n : 64;
        twelve_rounds(s, stream);
        for (size_t i = 0; i < part; i++) {
            buf[i] ^= stream[i];
        }
        buf += part;
        n -= part;
        if (++s[8] == 0) {
            s[9]++;
        }
    }
}

void zt_poly1305_portable(const uint8_t key[32], const uint8_t *data, size_t n, uint8_t tag[16]) {
    crypto_onetimeauth_poly1305(tag, data, n, key);
}

/* ---- suites 0 and 1 ---------------------------------------------------------------------------------------------------- */

/* The key of one packet (5.3). `flags` without hops. */
static void packet_key(const uint8_t key[32], const uint8_t *p, size_t n, uint8_t out[32]) {
    memcpy(out, key, 32);
    for (int i = 0; i < ZT_AT_FLAGS; i++) {
        out[i] ^= p[i];
    }
    out[18] ^= p[ZT_AT_FLAGS] & ZT_NOT_HOPS;
    out[19] ^= (uint8_t)n;
    out[20] ^= (uint8_t)(n >> 8);
}

static bool encrypted(const uint8_t *p) { return (p[ZT_AT_FLAGS] & ZT_CIPHER_MASK) == 0x08; }

/* The beginning of the key stream: block 0, whose first half is the one-time key of Poly1305, and as many of the blocks that encrypt as
 * the vector forms make at almost no extra cost. */
#define HEAD_BLOCKS 4

struct head {
    uint8_t stream[64 * HEAD_BLOCKS];
    size_t text; /* bytes of text that `stream` covers */
};

static void begin(const struct zt_crypto_impl *impl, const uint8_t mangled[32], const uint8_t *p, size_t n, struct head *head) {
    size_t most = sizeof(head->stream) - 64;
    head->text = !encrypted(p) ? 0 : n - ZT_AT_TEXT < most ? n - ZT_AT_TEXT : most;
    size_t whole = 64 + (head->text + 63) / 64 * 64; /* the vector forms are quicker without a part of a block */
    memset(head->stream, 0, whole);
    impl->salsa12_xor(mangled, p, 0, head->stream, whole);
}

static void crypt(const struct zt_crypto_impl *impl, const uint8_t mangled[32], uint8_t *p, size_t n, const struct head *head) {
    uint8_t *text = p + ZT_AT_TEXT;
    for (size_t i = 0; i < head->text; i++) {
        text[i] ^= head->stream[64 + i];
    }
    if (encrypted(p) && n - ZT_AT_TEXT > head->text) {
        impl->salsa12_xor(mangled, p, HEAD_BLOCKS, text + head->text, n - ZT_AT_TEXT - head->text);
    }
}

static void short_mac(const struct zt_crypto_impl *impl, const struct head *head, const uint8_t *p, size_t n, uint8_t mac[8]) {
    uint8_t tag[16];
    impl->poly1305(head->stream, p + ZT_AT_TEXT, n - ZT_AT_TEXT, tag);
    memcpy(mac, tag, 8);
}

void zt_salsa_seal_with(const struct zt_crypto_impl *impl, const uint8_t key[32], uint8_t *p, size_t n) {
    uint8_t mangled[32];
    struct head head;
    packet_key(key, p, n, mangled);
    begin(impl, mangled, p, n, &head);
    crypt(impl, mangled, p, n, &head);
    short_mac(impl, &head, p, n, p + ZT_AT_MAC);
}

int zt_salsa_open_with(const struct zt_crypto_impl *impl, const uint8_t key[32], uint8_t *p, size_t n) {
    uint8_t mangled[32], mac[8];
    struct head head;
    if (n < ZT_PACKET_MIN || (p[ZT_AT_FLAGS] & ZT_CIPHER_MASK) > 0x08) {
        return 0;
    }
    packet_key(key, p, n, mangled);
    begin(impl, mangled, p, n, &head);
    short_mac(impl, &head, p, n, mac);
    if (sodium_memcmp(mac, p + ZT_AT_MAC, 8) != 0) {
        return 0;
    }
    crypt(impl, mangled, p, n, &head);
    return 1;
}

void zt_salsa_peek(const uint8_t key[32], const uint8_t *p, size_t n, uint8_t out[16]) {
    uint8_t mangled[32];
    memset(out, 0, 16);
    if (n < ZT_PACKET_MIN) {
        return;
    }
    size_t have = n - ZT_AT_TEXT < 16 ? n - ZT_AT_TEXT : 16;
    memcpy(out, p + ZT_AT_TEXT, have);
    if (encrypted(p)) {
        packet_key(key, p, n, mangled);
        zt_salsa12_xor(mangled, p, 1, out, have);
    }
}

void zt_salsa_seal(const uint8_t key[32], uint8_t *p, size_t n) { zt_salsa_seal_with(zt_impl(), key, p, n); }

int zt_salsa_open(const uint8_t key[32], uint8_t *p, size_t n) { return zt_salsa_open_with(zt_impl(), key, p, n); }

void zt_salsa_seal_portable(const uint8_t key[32], uint8_t *p, size_t n) { zt_salsa_seal_with(zt_crypto_impl_get(0), key, p, n); }

int zt_salsa_open_portable(const uint8_t key[32], uint8_t *p, size_t n) { return zt_salsa_open_with(zt_crypto_impl_get(0), key, p, n); }
