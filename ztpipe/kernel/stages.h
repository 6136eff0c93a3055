/* stages.h: what a worker's turn consists of (turn.c), one call per batch. Each stage lives in a file of its own:
 *   tap.c   pull: TAP -> ring to crypto          push: ring from crypto -> TAP
 *   seal.c  ring from tap -> ring to peer        open.c  ring from peer -> ring to tap
 *   udp.c   pull: sockets -> ring to crypto      push: ring from crypto -> sockets
 *
 * Return value of pull/push/seal/open: the number of records handled (0 = nothing to do). A full output ring ends the call early and
 * leaves the input where it is: the bell rings when there is room.
 */
#ifndef ZT_STAGES_H
#define ZT_STAGES_H

#include "abi.h"
#include "counters.h"
#include "ring.h"

#define ZT_MAX_RINGS 64

/* What all stages of one process share. */
struct zt_context {
    struct zt_tables *tables;
    struct zt_key_entry *keys; /* NULL in processes that must not see keys */
    _Atomic uint64_t *counters; /* this process's block */
    struct zt_punts *punts;
    struct zt_bell *bell; /* our own */
    uint32_t offload;     /* ZT_OFFLOAD_* */
    bool held;            /* pull nothing: these workers are about to be replaced */
};

#define ZT_OFFLOAD_TAP_VNET 1u /* TAPs were opened with IFF_VNET_HDR */
#define ZT_OFFLOAD_TAP_TSO 2u
#define ZT_OFFLOAD_TAP_USO 4u
#define ZT_OFFLOAD_UDP_GSO 8u
#define ZT_OFFLOAD_UDP_GRO 16u

/* Rings of one stage in one direction: `count` of them, one per worker at the other end. */
struct zt_ring_set {
    uint32_t count;
    struct zt_ring_ref ring[ZT_MAX_RINGS];
};

static inline void zt_count(struct zt_context *c, enum zt_counter which, uint64_t n) {
    /* one writer per block: a relaxed load and store is enough, and costs no locked instruction */
    _Atomic uint64_t *p = &c->counters[which];
    atomic_store_explicit(p, atomic_load_explicit(p, memory_order_relaxed) + n, memory_order_relaxed);
}

struct zt_tap;    /* tap.c */
struct zt_crypto; /* seal.c, open.c */
struct zt_udp;    /* udp.c */

struct zt_tap *zt_tap_new(struct zt_context *c, struct zt_ring_set *to_crypto, struct zt_ring_set *from_crypto);
void zt_tap_free(struct zt_tap *t);
/* fd: non-blocking TAP queue of network table index `network`. 0 or -errno. */
int zt_tap_add(struct zt_tap *t, int fd, uint32_t network);
int zt_tap_remove(struct zt_tap *t, uint32_t network);
int zt_tap_pull(struct zt_tap *t, int budget);
int zt_tap_push(struct zt_tap *t, int budget);

struct zt_crypto *zt_crypto_new(struct zt_context *c, struct zt_ring_set *from_tap, struct zt_ring_set *to_peer,
                                struct zt_ring_set *from_peer, struct zt_ring_set *to_tap);
void zt_crypto_free(struct zt_crypto *s);
int zt_seal(struct zt_crypto *s, int budget);
int zt_open(struct zt_crypto *s, int budget);

struct zt_udp *zt_udp_new(struct zt_context *c, struct zt_ring_set *from_crypto, struct zt_ring_set *to_crypto);
void zt_udp_free(struct zt_udp *u);
/* fd: non-blocking UDP socket of binding id `binding`. 0 or -errno. */
int zt_udp_add(struct zt_udp *u, int fd, uint32_t binding, int family);
int zt_udp_remove(struct zt_udp *u, uint32_t binding);
int zt_udp_pull(struct zt_udp *u, int budget);
int zt_udp_push(struct zt_udp *u, int budget);

/* Append a punt; counts drop_punt_overflow and returns false when the buffer is full. punt.c */
bool zt_punt_add(struct zt_context *c, const struct zt_punt *head, const void *data, size_t len);
/* The same for one that need not be handed over before others are (zt_pace). */
bool zt_punt_add_patient(struct zt_context *c, const struct zt_punt *head, const void *data, size_t len);

#endif
