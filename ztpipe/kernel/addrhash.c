/* addrhash.c: the memory-hard hash behind an address (vl1-wire 2.2). */
#include "crypto_impl.h"

#include <pthread.h>
#include <sodium.h>

#define WORDS (ZT_ADDRESS_HASH_SCRATCH / 8)
#define STREAM_BLOCKS 64 /* key stream fetched at a time: 4 KiB stays in the first cache */

/* One Salsa20/20 stream that is only ever read on. */
struct stream {
    uint8_t key[32];
    uint8_t nonce[8];
    uint64_t block;
};

static void next_blocks(struct stream *s, uint8_t *out, size_t blocks) {
    memset(out, 0, blocks * 64);
    crypto_stream_salsa20_xor_ic(out, out, blocks * 64, s->nonce, s->block, s->key);
    s->block += blocks;
}

/* Steps 3 and 4: every 64-byte block is the one before it XOR the next key stream block. */
static void fill(struct stream *s, uint8_t *m) {
    next_blocks(s, m, ZT_ADDRESS_HASH_SCRATCH / 64);
    for (size_t i = 64; i < ZT_ADDRESS_HASH_SCRATCH; i += 8) {
        uint64_t a, b;
        memcpy(&a, m + i - 64, 8);
        memcpy(&b, m + i, 8);
        b ^= a;
        memcpy(m + i, &b, 8);
    }
}

static uint64_t big_endian(uint64_t little_endian) { return __builtin_bswap64(little_endian); }

/* Step 5: swap words of the digest and the scratch, chosen by the scratch, and stir the digest. */
static void scan(struct stream *s, uint8_t *m, uint8_t digest[64]) {
    uint8_t keystream[STREAM_BLOCKS * 64];
    for (size_t n = 0; n < WORDS; n += 2) {
        size_t at = n / 2 % STREAM_BLOCKS;
        if (at == 0) {
            next_blocks(s, keystream, STREAM_BLOCKS);
        }
        uint8_t word[8];
        uint8_t *a = digest + 8 * (big_endian(zt_load64(m + 8 * n)) % 8);
        uint8_t *b = m + 8 * (big_endian(zt_load64(m + 8 * n + 8)) % WORDS);
        memcpy(word, a, 8);
        memcpy(a, b, 8);
        memcpy(b, word, 8);
        for (size_t i = 0; i < 64; i++) {
            digest[i] ^= keystream[at * 64 + i];
        }
    }
}

void zt_address_hash_in(uint8_t *scratch, const uint8_t pub[64], uint8_t digest[64]) {
    struct stream s = {.block = 0};
    crypto_hash_sha512(digest, pub, 64);
    memcpy(s.key, digest, 32);
    memcpy(s.nonce, digest + 32, 8);
    fill(&s, scratch);
    scan(&s, scratch, digest);
}

void zt_address_hash(const uint8_t pub[64], uint8_t digest[64]) {
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static uint8_t scratch[ZT_ADDRESS_HASH_SCRATCH];
    pthread_mutex_lock(&lock);
    zt_address_hash_in(scratch, pub, digest);
    pthread_mutex_unlock(&lock);
}
