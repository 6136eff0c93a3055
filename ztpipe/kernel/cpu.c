/* cpu.c: what this CPU can do, and the set of cipher implementations in use. */
#include "aes_x86_impl.h"
#include "crypto_impl.h"
#include "salsa_x86_impl.h"

#include <sodium.h>
#include <stdlib.h>
#ifdef __x86_64__
#include <cpuid.h>
#endif

static struct zt_cpu cpu;

const struct zt_cpu *zt_cpu(void) { return &cpu; }

#ifdef __x86_64__
/* VAES and VPCLMULQDQ, for which clang's builtin has no names. Their registers are those of AVX-512. */
static bool has_vaes(void) {
    unsigned a, b, c = 0, d;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 && (c & 1u << 9) != 0 && (c & 1u << 10) != 0;
}
#endif

static void detect(void) {
#ifdef __x86_64__
    /* these builtins ask XGETBV too: the operating system must save the registers */
    __builtin_cpu_init();
    cpu.aesni = __builtin_cpu_supports("aes") && __builtin_cpu_supports("pclmul") && __builtin_cpu_supports("sse4.1");
    cpu.avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi2");
    cpu.avx512 = cpu.avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                 __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
    cpu.avx512ifma = cpu.avx512 && __builtin_cpu_supports("avx512ifma");
    cpu.vaes512 = cpu.avx512 && cpu.aesni && has_vaes();
#endif
}

static struct zt_crypto_impl sets[3] = {
    {.name = "portable",
     .siv_seal = zt_siv_seal_portable,
     .siv_open = zt_siv_open_portable,
     .siv_stream = zt_siv_stream_portable,
     .salsa12_xor = zt_salsa12_xor_portable,
     .poly1305 = zt_poly1305_portable},
};
static int count = 1;

#ifdef __x86_64__
/* A set is complete: it begins as a copy of the one before it and replaces what this CPU does better. */
static struct zt_crypto_impl *next_set(const char *name) {
    struct zt_crypto_impl *set = &sets[count];
    *set = sets[count - 1];
    set->name = name;
    count++;
    return set;
}

static void fill(void) {
    if (cpu.aesni || cpu.avx2) {
        struct zt_crypto_impl *set = next_set("avx2");
        if (cpu.aesni) {
            set->siv_seal = zt_siv_seal_aesni;
            set->siv_open = zt_siv_open_aesni;
            set->siv_stream = zt_siv_stream_aesni;
        }
        if (cpu.avx2) {
            set->salsa12_xor = zt_salsa12_xor_avx2;
            set->poly1305 = zt_poly1305_openssl;
        }
    }
    if (cpu.avx512) {
        struct zt_crypto_impl *set = next_set("avx512");
        set->salsa12_xor = zt_salsa12_xor_avx512;
        if (cpu.vaes512) {
            set->siv_seal = zt_siv_seal_vaes512;
            set->siv_open = zt_siv_open_vaes512;
        }
        if (cpu.avx512ifma) {
            set->poly1305 = zt_poly1305_ifma;
        }
    }
}
#else
static void fill(void) {}
#endif

void zt_cpu_init(void) {
    static bool done;
    if (!done) {
        done = true;
        if (sodium_init() < 0) { /* chooses libsodium's own implementations */
            abort();
        }
        detect();
        fill();
    }
}

/* Before main, or when Python loads the module: no thread can see a half-filled table. */
__attribute__((constructor)) static void at_load(void) { zt_cpu_init(); }

const struct zt_crypto_impl *zt_impl(void) { return &sets[count - 1]; }

int zt_crypto_impl_count(void) { return count; }

const struct zt_crypto_impl *zt_crypto_impl_get(int i) { return i >= 0 && i < count ? &sets[i] : NULL; }

void zt_siv_seal(const zt_siv_key *k, uint8_t *p, size_t n) { zt_impl()->siv_seal(k, p, n); }

int zt_siv_open(const zt_siv_key *k, uint8_t *p, size_t n) { return zt_impl()->siv_open(k, p, n); }

void zt_salsa12_xor(const uint8_t key[32], const uint8_t nonce[8], uint64_t block, uint8_t *buf, size_t n) {
    zt_impl()->salsa12_xor(key, nonce, block, buf, n);
}

void zt_poly1305(const uint8_t key[32], const uint8_t *data, size_t n, uint8_t tag[16]) { zt_impl()->poly1305(key, data, n, tag); }

void zt_siv_key_init(zt_siv_key *k, const uint8_t k0[32], const uint8_t k1[32]) {
    memset(k, 0, sizeof(*k));
    memcpy(k->k0, k0, 32);
    memcpy(k->k1, k1, 32);
#ifdef __x86_64__
    if (cpu.aesni) {
        zt_siv_key_expand_aesni(k);
    }
#endif
}
