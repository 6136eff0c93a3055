/* ring.h: the only code that touches ring indices and bells.
 *
 * A slot belongs to the producer from the moment that `head - tail < slots` lets it in until zt_ring_publish; then to the consumer until
 * zt_ring_release. Filling is separate from publishing: a producer that dies between the two has published nothing, and a consumer that
 * dies before releasing finds the slot again after its restart.
 *
 * Each acquire below names the release it pairs with.
 */
#ifndef ZT_RING_H
#define ZT_RING_H

#include "abi.h"

#include <unistd.h>

/* Process-local handle of one end of a ring. `other` is the bell of the worker at the other end (fd < 0: same process, no bell). */
struct zt_bell_ref {
    struct zt_bell *bell;
    int fd;
};

struct zt_ring_ref {
    struct zt_ring *ring;
    struct zt_bell_ref other;
    uint32_t seen; /* producer: last tail seen; consumer: last head seen */
};

static inline struct zt_slot *zt_ring_slot(struct zt_ring *r, uint32_t index) {
    return (struct zt_slot *)(void *)(r->data + (size_t)(index & (r->slots - 1)) * r->slot_bytes);
}

/* Wake the worker behind the bell if it sleeps. The fence pairs with the one in zt_bell_prepare: either the sleeper sees what we
 * published in its re-check, or we see its `sleeping` flag here. */
static inline void zt_bell_wake(struct zt_bell_ref *b) {
    if (b->fd < 0 || b->bell == NULL) {
        return;
    }
    atomic_thread_fence(memory_order_seq_cst);
    if (atomic_load_explicit(&b->bell->sleeping, memory_order_relaxed) != 0 &&
        atomic_exchange_explicit(&b->bell->sleeping, 0, memory_order_relaxed) != 0) {
        uint64_t one = 1;
        ssize_t ignored = write(b->fd, &one, sizeof one);
        (void)ignored; /* EAGAIN: the counter is full, so the sleeper is awake already */
    }
}

/* About to sleep: flag, fence, then the caller re-checks its rings and only then polls. */
static inline void zt_bell_prepare(struct zt_bell *b) {
    atomic_store_explicit(&b->sleeping, 1, memory_order_relaxed);
    atomic_thread_fence(memory_order_seq_cst);
}

static inline void zt_bell_awake(struct zt_bell *b) { atomic_store_explicit(&b->sleeping, 0, memory_order_relaxed); }

/* Producer: the next slot to fill, or NULL when the ring is full (then a bell is asked for; check once more after asking). */
static inline struct zt_slot *zt_ring_reserve(struct zt_ring_ref *h) {
    struct zt_ring *r = h->ring;
    uint32_t head = atomic_load_explicit(&r->head, memory_order_relaxed); /* ours */
    if (head - h->seen >= r->slots) {
        h->seen = atomic_load_explicit(&r->tail, memory_order_acquire); /* pairs with the release in zt_ring_release */
        if (head - h->seen >= r->slots) {
            atomic_store_explicit(&r->full_wait, 1, memory_order_relaxed);
            atomic_thread_fence(memory_order_seq_cst);
            h->seen = atomic_load_explicit(&r->tail, memory_order_acquire);
            if (head - h->seen >= r->slots) {
                return NULL;
            }
        }
    }
    return zt_ring_slot(r, head);
}

/* Producer: is there another free slot behind the one that is being filled? Asks for no bell. */
static inline bool zt_ring_spare(struct zt_ring_ref *h) {
    struct zt_ring *r = h->ring;
    uint32_t next = atomic_load_explicit(&r->head, memory_order_relaxed) + 1;
    if (next - h->seen >= r->slots) {
        h->seen = atomic_load_explicit(&r->tail, memory_order_acquire); /* pairs with the release in zt_ring_release */
    }
    return next - h->seen < r->slots;
}

/* Producer: hand the reserved slot over and wake the consumer if it sleeps. */
static inline void zt_ring_publish(struct zt_ring_ref *h) {
    struct zt_ring *r = h->ring;
    uint32_t head = atomic_load_explicit(&r->head, memory_order_relaxed);
    atomic_store_explicit(&r->head, head + 1, memory_order_release); /* pairs with the acquire in zt_ring_peek */
    zt_bell_wake(&h->other);
}

/* Consumer: the oldest published slot, or NULL. */
static inline struct zt_slot *zt_ring_peek(struct zt_ring_ref *h) {
    struct zt_ring *r = h->ring;
    uint32_t tail = atomic_load_explicit(&r->tail, memory_order_relaxed); /* ours */
    if (tail == h->seen) {
        h->seen = atomic_load_explicit(&r->head, memory_order_acquire); /* pairs with the release in zt_ring_publish */
        if (tail == h->seen) {
            return NULL;
        }
    }
    return zt_ring_slot(r, tail);
}

/* Consumer: give the slot back, and wake a producer that found the ring full. */
static inline void zt_ring_release(struct zt_ring_ref *h) {
    struct zt_ring *r = h->ring;
    uint32_t tail = atomic_load_explicit(&r->tail, memory_order_relaxed);
    atomic_store_explicit(&r->tail, tail + 1, memory_order_release); /* pairs with the acquire in zt_ring_reserve */
    atomic_thread_fence(memory_order_seq_cst);
    if (atomic_load_explicit(&r->full_wait, memory_order_relaxed) != 0) {
        atomic_store_explicit(&r->full_wait, 0, memory_order_relaxed);
        zt_bell_wake(&h->other);
    }
}

#endif
