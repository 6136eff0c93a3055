/* guard.h: a worker's private copies of policies, and the decision of rules about frames in the hot path.
 *
 * A policy is copied out of shared memory when its generation is new, checked once, and evaluated as often as frames come. Copying
 * allocates, evaluating does not. Whatever is doubtful is punted: a reference that changed meanwhile, a policy that does not fit.
 */
#ifndef ZT_GUARD_H
#define ZT_GUARD_H

#include "filter.h"
#include "net.h"
#include "table.h"

struct zt_guard;

struct zt_guard *zt_guard_new(const struct zt_tables *t); /* NULL: out of memory */
void zt_guard_free(struct zt_guard *g);

/* Two sides of one network as the tables had them. */
struct zt_pair {
    uint32_t network; /* indices of the entries that the references came from */
    uint32_t member;
    struct zt_policy_ref own;
    struct zt_policy_ref remote;
    uint64_t address; /* the peer's */
    bool no_copies;   /* rules have had their chance to copy the frame */
};

/* Bytes that a copy of what `ref` names takes. */
static inline uint32_t zt_policy_room(const struct zt_policy_ref *ref) {
    return (ref->size + (uint32_t)sizeof(zt_word) - 1) & ~((uint32_t)sizeof(zt_word) - 1);
}

/* Copy what `ref` names, zt_policy_room bytes. The bytes may be of something that came later: only if the entry still refers to them
 * afterwards they are not. False: it names nothing. */
bool zt_policy_copy(const struct zt_tables *t, const struct zt_policy_ref *ref, void *out);

/* May rules decide in C at all? Cheap: looks at the references only. */
static inline bool zt_pair_known(const struct zt_pair *p) {
    return p->own.generation != 0 && p->own.generation != ZT_POLICY_SLOW && p->remote.generation != ZT_POLICY_SLOW;
}

/* May a frame turn out to need the slow path, or can nothing be said now? */
bool zt_guard_may_punt(struct zt_guard *g, const struct zt_pair *p);

/* A frame from the TAP, `len` >= ZT_ETHER_LEN, possibly a super-frame: PASS and DROP hold for every frame it stands for. */
enum zt_decision zt_guard_outbound(struct zt_guard *g, const struct zt_pair *p, const struct zt_vnet *vnet, const uint8_t *frame, size_t len);

/* One frame from the peer: MACs, and body (EtherType and payload), n >= 2. */
enum zt_decision zt_guard_inbound(struct zt_guard *g, const struct zt_pair *p, const uint8_t macs[12], const uint8_t *body, size_t n);

#endif
