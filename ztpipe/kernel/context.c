/* context.c: see context.h. */
#include "context.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

/* ---- context ------------------------------------------------------------------------------------------------------------- */

struct zt_context *zt_context_new(struct zt_tables *tables, struct zt_key_entry *keys, void *counters, struct zt_bell *bell,
                                  uint32_t offload) {
    struct zt_context *c = calloc(1, sizeof *c);
    struct zt_punts *punts = calloc(1, sizeof *punts);
    if (c == NULL || punts == NULL) {
        free(c);
        free(punts);
        return NULL;
    }
    *c = (struct zt_context){
        .tables = tables, .keys = keys, .counters = counters, .punts = punts, .bell = bell, .offload = offload};
    return c;
}

void zt_context_free(struct zt_context *c) {
    if (c != NULL) {
        free(c->punts);
        free(c);
    }
}

/* ---- rings ----------------------------------------------------------------------------------------------------------------- */

#define ZT_RING_MAX_SLOTS 4096u

size_t zt_ring_size(uint32_t slots) {
    bool valid = slots >= 2 && slots <= ZT_RING_MAX_SLOTS && (slots & (slots - 1)) == 0;
    return valid ? sizeof(struct zt_ring) + (size_t)slots * ZT_SLOT_BYTES : 0;
}

int zt_ring_init(void *at, size_t size, uint32_t slots, uint32_t producer, uint32_t consumer) {
    struct zt_ring *r = at;
    if (zt_ring_size(slots) == 0 || size < zt_ring_size(slots)) {
        return -EINVAL;
    }
    r->slots = slots;
    r->slot_bytes = ZT_SLOT_BYTES;
    r->producer = producer;
    r->consumer = consumer;
    r->abi = ZT_ABI_VERSION;
    r->magic = ZT_RING_MAGIC;
    return 0;
}

int zt_ring_check(const void *at, size_t size) {
    const struct zt_ring *r = at;
    if (size < sizeof *r || r->magic != ZT_RING_MAGIC) {
        return -EPROTO;
    }
    if (r->abi != ZT_ABI_VERSION) {
        return -EPROTONOSUPPORT;
    }
    if (r->slot_bytes != ZT_SLOT_BYTES || zt_ring_size(r->slots) == 0 || size < zt_ring_size(r->slots) ||
        zt_ring_used(r) > r->slots) {
        return -EINVAL;
    }
    return 0;
}

uint32_t zt_ring_used(const struct zt_ring *r) {
    uint32_t tail = atomic_load_explicit(&r->tail, memory_order_acquire); /* first: it never passes the head read after it */
    return atomic_load_explicit(&r->head, memory_order_acquire) - tail;
}

uint32_t zt_ring_sweep(struct zt_ring *r) {
    uint32_t head = atomic_load_explicit(&r->head, memory_order_acquire);
    return head - atomic_exchange_explicit(&r->tail, head, memory_order_release);
}

struct zt_ring_set *zt_ring_set_new(void) { return calloc(1, sizeof(struct zt_ring_set)); }

void zt_ring_set_free(struct zt_ring_set *s) { free(s); }

int zt_ring_set_add(struct zt_ring_set *s, void *ring, size_t size, struct zt_bell *bell, int fd) {
    int bad = zt_ring_check(ring, size);
    if (bad != 0) {
        return bad;
    }
    if (s->count == ZT_MAX_RINGS) {
        return -ENOSPC;
    }
    struct zt_ring *r = ring;
    s->ring[s->count] = (struct zt_ring_ref){
        .ring = r,
        .other = {.bell = bell, .fd = fd},
        .seen = atomic_load_explicit(&r->tail, memory_order_acquire), /* right for both ends: nothing seen beyond it */
    };
    s->count++;
    return 0;
}

/* ---- before sleeping -------------------------------------------------------------------------------------------------------- */

/* Either the consumer releases a slot after our fence and then sees both full_wait and our bell's flag, or we see its release here.
 * A full ring whose full_wait is clear is not blocked: the release that cleared it came before our flag, so ask again by trying. */
bool zt_rings_blocked(struct zt_ring_set *out) {
    for (uint32_t i = 0; out != NULL && i < out->count; i++) {
        struct zt_ring *r = out->ring[i].ring;
        uint32_t head = atomic_load_explicit(&r->head, memory_order_relaxed); /* ours */
        uint32_t tail = atomic_load_explicit(&r->tail, memory_order_acquire); /* pairs with the release in zt_ring_release */
        if (head - tail >= r->slots && atomic_load_explicit(&r->full_wait, memory_order_relaxed) != 0) {
            return true;
        }
    }
    return false;
}

static bool any_input(const struct zt_ring_set *in) {
    for (uint32_t i = 0; in != NULL && i < in->count; i++) {
        const struct zt_ring *r = in->ring[i].ring;
        uint32_t tail = atomic_load_explicit(&r->tail, memory_order_relaxed); /* ours */
        if (atomic_load_explicit(&r->head, memory_order_acquire) != tail) {
            return true;
        }
    }
    return false;
}

int zt_rings_filled(const struct zt_stage *stages, int count) {
    int filled = 0;
    for (int i = 0; i < count; i++) {
        filled += any_input(stages[i].in);
    }
    return filled;
}

int zt_rings_pending(const struct zt_stage *stages, int count) {
    int pending = 0;
    for (int i = 0; i < count; i++) {
        pending += any_input(stages[i].in) && !zt_rings_blocked(stages[i].out);
    }
    return pending;
}

/* ---- the process -------------------------------------------------------------------------------------------------------------- */

int zt_process_setup(int parent, const char *name) {
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || prctl(PR_SET_NAME, name) != 0) {
        return -errno;
    }
    return getppid() == parent ? 0 : -ESRCH; /* after the prctl: a parent that died before it would go unnoticed */
}

/* struct sched_attr of the first version; glibc before 2.41 declares neither it nor the call */
struct schedule {
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime, deadline, period;
};

int zt_process_schedule(bool batch, uint32_t slice_us) {
    struct schedule s = {.size = sizeof s,
                         .policy = batch ? SCHED_BATCH : SCHED_OTHER,
                         .nice = getpriority(PRIO_PROCESS, 0),
                         .runtime = (uint64_t)slice_us * 1000};
    return syscall(SYS_sched_setattr, 0, &s, 0) == 0 ? 0 : -errno;
}

/* ---- counters ------------------------------------------------------------------------------------------------------------------ */

static const char *const names[] = {
#define ZT_COUNTER_NAME(name, text) #name,
    ZT_COUNTER_LIST(ZT_COUNTER_NAME)
#undef ZT_COUNTER_NAME
};

static const char *const texts[] = {
#define ZT_COUNTER_TEXT(name, text) text,
    ZT_COUNTER_LIST(ZT_COUNTER_TEXT)
#undef ZT_COUNTER_TEXT
};

const char *zt_counter_name(int i) { return i >= 0 && i < ZT_COUNTERS ? names[i] : NULL; }
const char *zt_counter_text(int i) { return i >= 0 && i < ZT_COUNTERS ? texts[i] : NULL; }
