/* Ciphers, as Python sees them (crypto.h, csum.h). */
#define ZT_ADDRESS_HASH_SCRATCH ...
typedef struct zt_siv_key zt_siv_key;
size_t zt_siv_key_size(void);
void zt_siv_key_init(zt_siv_key *k, const uint8_t *k0, const uint8_t *k1);
void zt_siv_seal(const zt_siv_key *k, uint8_t *p, size_t n);
int zt_siv_open(const zt_siv_key *k, uint8_t *p, size_t n);
void zt_siv_peek(const zt_siv_key *k, const uint8_t *p, size_t n, uint8_t *out);
void zt_siv_seal_portable(const zt_siv_key *k, uint8_t *p, size_t n);
int zt_siv_open_portable(const zt_siv_key *k, uint8_t *p, size_t n);

void zt_salsa_seal(const uint8_t *key, uint8_t *p, size_t n);
int zt_salsa_open(const uint8_t *key, uint8_t *p, size_t n);
void zt_salsa_peek(const uint8_t *key, const uint8_t *p, size_t n, uint8_t *out);
void zt_salsa12_xor(const uint8_t *key, const uint8_t *nonce, uint64_t block, uint8_t *buf, size_t n);
void zt_poly1305(const uint8_t *key, const uint8_t *data, size_t n, uint8_t *tag);
void zt_salsa_seal_portable(const uint8_t *key, uint8_t *p, size_t n);
int zt_salsa_open_portable(const uint8_t *key, uint8_t *p, size_t n);
void zt_salsa12_xor_portable(const uint8_t *key, const uint8_t *nonce, uint64_t block, uint8_t *buf, size_t n);
void zt_poly1305_portable(const uint8_t *key, const uint8_t *data, size_t n, uint8_t *tag);

struct zt_crypto_impl {
    const char *name;
    void (*siv_seal)(const zt_siv_key *k, uint8_t *p, size_t n);
    int (*siv_open)(const zt_siv_key *k, uint8_t *p, size_t n);
    void (*siv_stream)(const zt_siv_key *k, const uint8_t *p, uint8_t *stream);
    void (*salsa12_xor)(const uint8_t *key, const uint8_t *nonce, uint64_t block, uint8_t *buf, size_t n);
    void (*poly1305)(const uint8_t *key, const uint8_t *data, size_t n, uint8_t *tag);
};
void zt_cpu_init(void);
int zt_crypto_impl_count(void);
const struct zt_crypto_impl *zt_crypto_impl_get(int i);
void zt_salsa_seal_with(const struct zt_crypto_impl *impl, const uint8_t *key, uint8_t *p, size_t n);
int zt_salsa_open_with(const struct zt_crypto_impl *impl, const uint8_t *key, uint8_t *p, size_t n);

void zt_address_hash(const uint8_t *pub, uint8_t *digest);
void zt_address_hash_in(uint8_t *scratch, const uint8_t *pub, uint8_t *digest);
void zt_random_bytes(uint8_t *out, size_t n);

struct zt_csum_impl {
    const char *name;
    uint32_t (*partial)(const uint8_t *data, size_t n, uint32_t sum);
    uint32_t (*copy)(uint8_t *dst, const uint8_t *src, size_t n, uint32_t sum);
};
uint32_t zt_csum_partial(const uint8_t *data, size_t n, uint32_t sum);
uint32_t zt_copy_csum(uint8_t *dst, const uint8_t *src, size_t n, uint32_t sum);
uint32_t zt_csum_partial_portable(const uint8_t *data, size_t n, uint32_t sum);
uint32_t zt_copy_csum_portable(uint8_t *dst, const uint8_t *src, size_t n, uint32_t sum);
uint16_t zt_csum_fold(uint32_t sum);
uint32_t zt_csum_add(uint32_t a, uint32_t b);
int zt_csum_impl_count(void);
const struct zt_csum_impl *zt_csum_impl_get(int i);
