/* Ciphers, random bytes and the address hash from several threads at once: for the thread sanitizer. */
#include "check.h"
#include "crypto.h"

#include <pthread.h>

#define THREADS 4
#define ROUNDS 300

/* One key that all threads read, and many of their own: the portable suite 3 keeps contexts per thread. */
static zt_siv_key shared;

static void *run(void *argument) {
    uint64_t seed = (uint64_t)(uintptr_t)argument;
    uint8_t packet[1410], plain[1410], k[64], id[8];
    zt_siv_key own;
    for (int i = 0; i < ROUNDS; i++) {
        check_fill(&seed, plain, sizeof(plain));
        check_fill(&seed, k, sizeof(k));
        zt_random_bytes(id, sizeof(id));
        plain[18] = 0x18;
        memcpy(plain, id, 8);
        zt_siv_key_init(&own, k, k + 32);
        for (int j = 0; j < zt_crypto_impl_count(); j++) {
            const struct zt_crypto_impl *impl = zt_crypto_impl_get(j);
            const zt_siv_key *key = i % 2 ? &shared : &own;
            memcpy(packet, plain, sizeof(packet));
            impl->siv_seal(key, packet, sizeof(packet));
            CHECK(impl->siv_open(key, packet, sizeof(packet)) == 1, "%s", impl->name);
            CHECK(memcmp(packet + 27, plain + 27, sizeof(packet) - 27) == 0, "%s", impl->name);
        }
    }
    uint8_t digest[64], again[64], *scratch = check_alloc(ZT_ADDRESS_HASH_SCRATCH);
    zt_address_hash(k, digest);
    zt_address_hash_in(scratch, k, again);
    CHECK(memcmp(digest, again, 64) == 0, "address hash");
    free(scratch);
    return NULL;
}

int main(void) {
    pthread_t threads[THREADS];
    uint8_t k[64] = {1, 2, 3};
    zt_siv_key_init(&shared, k, k + 32);
    for (uintptr_t i = 0; i < THREADS; i++) {
        CHECK(pthread_create(&threads[i], NULL, run, (void *)(i + 1)) == 0, "pthread_create");
    }
    for (int i = 0; i < THREADS; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0, "pthread_join");
    }
    puts("threads: ok");
    return 0;
}
