/* crypto_bench.c: see crypto_bench.h. */
#include "crypto_bench.h"

#include <stdbool.h>
#include <string.h>
#include <time.h>

#define PACKETS 8 /* taken in turn: each call is independent of the one before, as in a batch; all fit into the first cache */

/* What the timed functions work on. */
struct work {
    const struct zt_crypto_impl *impl;
    const struct zt_csum_impl *csum;
    size_t n;
    zt_siv_key siv;
    uint8_t key[64];
    uint8_t *packet; /* the one whose turn it is */
    alignas(64) uint8_t packets[PACKETS][ZT_PACKET_MAX + 64];
    alignas(64) uint8_t copy[ZT_PACKET_MAX + 64];
    volatile uint32_t sink;
};

/* the tag of one round is the IV of another: as good as any */
static void siv_seal(struct work *w) { w->impl->siv_seal(&w->siv, w->packet, w->n); }

/* every packet after the first is forged: that takes the same time */
static void siv_open(struct work *w) { w->sink += (uint32_t)w->impl->siv_open(&w->siv, w->packet, w->n); }

static void salsa_seal(struct work *w) { zt_salsa_seal_with(w->impl, w->key, w->packet, w->n); }

/* a forged packet would be refused early: open a fresh copy each time, and pay for the copy */
static void salsa_open(struct work *w) {
    memcpy(w->copy, w->packet, w->n);
    w->sink += (uint32_t)zt_salsa_open_with(w->impl, w->key, w->copy, w->n);
}

static void salsa12(struct work *w) { w->impl->salsa12_xor(w->key, w->key + 32, 0, w->packet, w->n); }

static void poly1305(struct work *w) { w->impl->poly1305(w->key, w->packet, w->n, w->copy); }

static void address_hash(struct work *w) { zt_address_hash(w->key, w->packet); }

static void random_id(struct work *w) { zt_random_bytes(w->packet, 8); }

static void sum(struct work *w) { w->sink += w->csum->partial(w->packet, w->n, 0); }

static void copy_sum(struct work *w) { w->sink += w->csum->copy(w->copy, w->packet, w->n, 0); }

static const struct {
    const char *name;
    void (*run)(struct work *w);
    bool csum;
} CASES[] = {
    {"siv_seal", siv_seal, false},   {"siv_open", siv_open, false},         {"salsa_seal", salsa_seal, false},
    {"salsa_open", salsa_open, false}, {"salsa12", salsa12, false},           {"poly1305", poly1305, false},
    {"address_hash", address_hash, false}, {"random", random_id, false}, {"sum", sum, true},
    {"copy_sum", copy_sum, true},
};

static double now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static double bench(struct work *w, const char *what, uint32_t rounds) {
    if (w->n < ZT_PACKET_MIN || w->n > ZT_PACKET_MAX || rounds == 0) {
        return -1;
    }
    for (size_t i = 0; i < sizeof(CASES) / sizeof(CASES[0]); i++) {
        if (strcmp(CASES[i].name, what) != 0 || CASES[i].csum != (w->csum != NULL)) {
            continue;
        }
        zt_siv_key_init(&w->siv, w->key, w->key + 32);
        for (int j = 0; j < PACKETS; j++) {
            w->packets[j][18] = 0x88;
            zt_salsa_seal_portable(w->key, w->packets[j], w->n);
        }
        double begin = now_ns();
        for (uint32_t r = 0; r < rounds; r++) {
            w->packet = w->packets[r % PACKETS];
            CASES[i].run(w);
        }
        return (now_ns() - begin) / rounds;
    }
    return -1;
}

double zt_bench_crypto(const struct zt_crypto_impl *impl, const char *what, size_t n, uint32_t rounds) {
    struct work w = {.impl = impl, .n = n};
    return bench(&w, what, rounds);
}

double zt_bench_csum(const struct zt_csum_impl *impl, const char *what, size_t n, uint32_t rounds) {
    struct work w = {.csum = impl, .n = n};
    return bench(&w, what, rounds);
}
