/* crypto.h: the ciphers of VL1 (vl1-wire 5.3-5.6), the address hash (2.2), random bytes.
 *
 * The plain names go through a table chosen once, when the library is loaded, by what the CPU can do (cpu.c). The `_portable` forms
 * (OpenSSL, libsodium, plain C) run anywhere; tests and `ztpipe bench crypto` compare all implementations with each other.
 *
 * Packets are sealed and opened in place: `p` is a whole packet, `n` its length; 28 <= n is required of callers of seal, and checked by
 * open (a shorter packet is forged). No function allocates per packet; none keeps a secret in memory that outlives the call, except
 * the per-thread cipher contexts of the portable suite 3.
 */
#ifndef ZT_CRYPTO_H
#define ZT_CRYPTO_H

#include <stdalign.h>
#include <stddef.h>
#include <stdint.h>

#define ZT_PACKET_MIN 28u
#define ZT_PACKET_MAX 10100u /* more than any VL1 packet; what tests cover */

/* ---- suite 3, AES-GMAC-SIV ------------------------------------------------------------------------------------------- */

#define ZT_GHASH_POWERS 32

/* K0 and K1 expanded. Caller gives 64-byte aligned storage; the content is plain memory: may be copied (not shared with other
 * CPUs' processes: what is filled in depends on the CPU) and wiped. */
typedef struct zt_siv_key {
    alignas(64) uint8_t h[ZT_GHASH_POWERS][16]; /* powers of H for PCLMUL, highest first: h[i] = H^(32-i) */
    uint8_t hx[ZT_GHASH_POWERS][16];            /* of each, both halves added, in the low half: Karatsuba */
    uint8_t k0_enc[15][16];                     /* AES-256 round keys */
    uint8_t k1_enc[15][16];
    uint8_t k1_dec[15][16]; /* equivalent inverse cipher */
    uint8_t k0[32];
    uint8_t k1[32];
} zt_siv_key;

size_t zt_siv_key_size(void);
void zt_siv_key_init(zt_siv_key *k, const uint8_t k0[32], const uint8_t k1[32]);

/* p[0..7] holds the IV, p[18] the final flags byte (cipher 3, no hops). Writes the tag to p[0..7] and p[19..26], encrypts p[27..]. */
void zt_siv_seal(const zt_siv_key *k, uint8_t *p, size_t n);
/* 1: authentic, p[27..] is plaintext (p[0..26] unchanged). 0: forged or too short, p[27..] is undefined. */
int zt_siv_open(const zt_siv_key *k, uint8_t *p, size_t n);
/* The first min(16, n - 27) plaintext bytes, NOT authenticated; the rest of `out` is zero. */
void zt_siv_peek(const zt_siv_key *k, const uint8_t *p, size_t n, uint8_t out[16]);

void zt_siv_seal_portable(const zt_siv_key *k, uint8_t *p, size_t n);
int zt_siv_open_portable(const zt_siv_key *k, uint8_t *p, size_t n);

/* ---- suites 0 and 1, Poly1305 with or without Salsa20/12 ------------------------------------------------------------- */

/* Suite by p[18] (0x38: cipher); p[18] final, no hops. Writes the MAC to p[19..26]; suite 1 encrypts p[27..]. */
void zt_salsa_seal(const uint8_t key[32], uint8_t *p, size_t n);
/* 1: authentic and decrypted. 0: forged, too short, or neither suite 0 nor 1; p is then unchanged. */
int zt_salsa_open(const uint8_t key[32], uint8_t *p, size_t n);
/* As zt_siv_peek; suite 0: simply the bytes. */
void zt_salsa_peek(const uint8_t key[32], const uint8_t *p, size_t n, uint8_t out[16]);
/* XOR `buf` with the Salsa20/12 key stream from block number `block` (64 bytes each). */
void zt_salsa12_xor(const uint8_t key[32], const uint8_t nonce[8], uint64_t block, uint8_t *buf, size_t n);
void zt_poly1305(const uint8_t key[32], const uint8_t *data, size_t n, uint8_t tag[16]);

void zt_salsa_seal_portable(const uint8_t key[32], uint8_t *p, size_t n);
int zt_salsa_open_portable(const uint8_t key[32], uint8_t *p, size_t n);
void zt_salsa12_xor_portable(const uint8_t key[32], const uint8_t nonce[8], uint64_t block, uint8_t *buf, size_t n);
void zt_poly1305_portable(const uint8_t key[32], const uint8_t *data, size_t n, uint8_t tag[16]);

/* ---- which implementation -------------------------------------------------------------------------------------------- */

/* One complete set. Index 0 is the portable one, the last is the one in use; only what this CPU can run is listed. */
struct zt_crypto_impl {
    const char *name;
    void (*siv_seal)(const zt_siv_key *k, uint8_t *p, size_t n);
    int (*siv_open)(const zt_siv_key *k, uint8_t *p, size_t n);
    void (*siv_stream)(const zt_siv_key *k, const uint8_t *p, uint8_t stream[16]); /* the first 16 bytes of key stream */
    void (*salsa12_xor)(const uint8_t key[32], const uint8_t nonce[8], uint64_t block, uint8_t *buf, size_t n);
    void (*poly1305)(const uint8_t key[32], const uint8_t *data, size_t n, uint8_t tag[16]);
};

/* Idempotent; a constructor calls it when the library is loaded. */
void zt_cpu_init(void);
int zt_crypto_impl_count(void);
const struct zt_crypto_impl *zt_crypto_impl_get(int i); /* NULL when out of range */
/* Suites 0 and 1 with the parts of one set. */
void zt_salsa_seal_with(const struct zt_crypto_impl *impl, const uint8_t key[32], uint8_t *p, size_t n);
int zt_salsa_open_with(const struct zt_crypto_impl *impl, const uint8_t key[32], uint8_t *p, size_t n);

/* ---- the rest -------------------------------------------------------------------------------------------------------- */

#define ZT_ADDRESS_HASH_SCRATCH 2097152u

/* The memory-hard digest of a public key (vl1-wire 2.2); tens of milliseconds. One scratch buffer: concurrent calls wait. */
void zt_address_hash(const uint8_t pub[64], uint8_t digest[64]);
/* Same with the caller's ZT_ADDRESS_HASH_SCRATCH bytes. */
void zt_address_hash_in(uint8_t *scratch, const uint8_t pub[64], uint8_t digest[64]);

/* Random bytes for packet IVs: getrandom in larger portions, per thread, discarded in a child after fork. */
void zt_random_bytes(uint8_t *out, size_t n);

#endif
