/* gmac_siv.c: AES-GMAC-SIV (vl1-wire 5.6) over OpenSSL's EVP: the form that runs anywhere, and what the fast ones are compared with. */
#include "crypto_impl.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

/* EVP contexts cannot live in a key that is plain memory, and making one per packet costs more than the packet. So every thread keeps a few,
 * found by the keys they were last set up with: consecutive packets of a batch are mostly of the same peer. */
#define CACHED 8

struct contexts {
    EVP_CIPHER_CTX *gmac; /* K0 */
    EVP_CIPHER_CTX *ecb;  /* K1, encrypting */
    EVP_CIPHER_CTX *back; /* K1, decrypting */
    EVP_CIPHER_CTX *ctr;  /* K1 */
    uint8_t k0[32];
    uint8_t k1[32];
};

static _Thread_local struct contexts cache[CACHED];

/* OpenSSL fails here only when it is broken or out of memory at first use: there is no way to send a packet after that. */
static void must(int ok) {
    if (ok <= 0) {
        abort();
    }
}

static EVP_CIPHER_CTX *fresh_context(void) {
    EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
    must(c != NULL);
    return c;
}

static void set_keys(struct contexts *c, const zt_siv_key *k) {
    if (c->gmac == NULL) {
        c->gmac = fresh_context();
        c->ecb = fresh_context();
        c->back = fresh_context();
        c->ctr = fresh_context();
    }
    must(EVP_EncryptInit_ex(c->gmac, EVP_aes_256_gcm(), NULL, k->k0, NULL));
    must(EVP_EncryptInit_ex(c->ecb, EVP_aes_256_ecb(), NULL, k->k1, NULL));
    must(EVP_DecryptInit_ex(c->back, EVP_aes_256_ecb(), NULL, k->k1, NULL));
    must(EVP_EncryptInit_ex(c->ctr, EVP_aes_256_ctr(), NULL, k->k1, NULL));
    must(EVP_CIPHER_CTX_set_padding(c->ecb, 0));
    must(EVP_CIPHER_CTX_set_padding(c->back, 0));
    memcpy(c->k0, k->k0, 32);
    memcpy(c->k1, k->k1, 32);
}

static struct contexts *contexts_of(const zt_siv_key *k) {
    struct contexts *c = &cache[(k->k0[0] ^ k->k1[0]) % CACHED];
    if (c->gmac == NULL || CRYPTO_memcmp(c->k0, k->k0, 32) != 0 || CRYPTO_memcmp(c->k1, k->k1, 32) != 0) {
        set_keys(c, k);
    }
    return c;
}

/* The short MAC m of step 3: GMAC over the padded header and the plaintext, folded to 8 bytes. */
static void short_mac(struct contexts *c, const uint8_t iv[8], const uint8_t aad[16], const uint8_t *text, size_t n, uint8_t m[8]) {
    uint8_t nonce[12] = {0}, g[16];
    int written = 0;
    memcpy(nonce, iv, 8);
    must(EVP_EncryptInit_ex(c->gmac, NULL, NULL, NULL, nonce));
    must(EVP_EncryptUpdate(c->gmac, NULL, &written, aad, 16));
    if (n != 0) {
        must(EVP_EncryptUpdate(c->gmac, NULL, &written, text, (int)n));
    }
    must(EVP_EncryptFinal_ex(c->gmac, g, &written));
    must(EVP_CIPHER_CTX_ctrl(c->gmac, EVP_CTRL_GCM_GET_TAG, 16, g));
    for (int i = 0; i < 8; i++) {
        m[i] = g[i] ^ g[i + 8];
    }
}

static void ctr_xor(struct contexts *c, const uint8_t tag[16], uint8_t *text, size_t n) {
    uint8_t counter[16];
    int written = 0;
    memcpy(counter, tag, 16);
    counter[12] &= 0x7f;
    must(EVP_EncryptInit_ex(c->ctr, NULL, NULL, NULL, counter));
    must(EVP_EncryptUpdate(c->ctr, text, &written, text, (int)n));
}

void zt_siv_seal_portable(const zt_siv_key *k, uint8_t *p, size_t n) {
    struct contexts *c = contexts_of(k);
    uint8_t aad[16], block[16], tag[16];
    int written = 0;
    zt_siv_aad(p, aad);
    memcpy(block, p, 8);
    short_mac(c, p, aad, p + ZT_AT_TEXT, n - ZT_AT_TEXT, block + 8);
    must(EVP_EncryptUpdate(c->ecb, tag, &written, block, 16));
    ctr_xor(c, tag, p + ZT_AT_TEXT, n - ZT_AT_TEXT);
    memcpy(p, tag, 8);
    memcpy(p + ZT_AT_MAC, tag + 8, 8);
}

int zt_siv_open_portable(const zt_siv_key *k, uint8_t *p, size_t n) {
    uint8_t aad[16], block[16], tag[16], m[8];
    int written = 0;
    if (n < ZT_PACKET_MIN) {
        return 0;
    }
    struct contexts *c = contexts_of(k);
    memcpy(tag, p, 8);
    memcpy(tag + 8, p + ZT_AT_MAC, 8);
    zt_siv_aad(p, aad);
    ctr_xor(c, tag, p + ZT_AT_TEXT, n - ZT_AT_TEXT);
    must(EVP_DecryptUpdate(c->back, block, &written, tag, 16));
    short_mac(c, block, aad, p + ZT_AT_TEXT, n - ZT_AT_TEXT, m);
    return CRYPTO_memcmp(m, block + 8, 8) == 0;
}

/* The first key stream block of a sealed packet. */
void zt_siv_stream_portable(const zt_siv_key *k, const uint8_t *p, uint8_t stream[16]) {
    struct contexts *c = contexts_of(k);
    uint8_t tag[16];
    memcpy(tag, p, 8);
    memcpy(tag + 8, p + ZT_AT_MAC, 8);
    memset(stream, 0, 16);
    ctr_xor(c, tag, stream, 16);
}

size_t zt_siv_key_size(void) { return sizeof(zt_siv_key); }

void zt_siv_peek(const zt_siv_key *k, const uint8_t *p, size_t n, uint8_t out[16]) {
    uint8_t stream[16];
    memset(out, 0, 16);
    if (n < ZT_PACKET_MIN) {
        return;
    }
    zt_impl()->siv_stream(k, p, stream);
    for (size_t i = 0; i < 16 && ZT_AT_TEXT + i < n; i++) {
        out[i] = stream[i] ^ p[ZT_AT_TEXT + i];
    }
}
