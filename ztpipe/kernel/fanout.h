/* fanout.h: who gets a copy of a frame for a multicast group (vl2 §6.5). The slow path has decided that and wrote it down (zt_group_entry); here it
 * is looked up, and rules have their say for each recipient. One of these per tap worker, for our own frames, and one per crypto worker, for
 * those that we replicate for others; each with private copies of the lists in use.
 *
 * What is nobody's to repeat: ARP, and neighbour solicitations, because the slow path knows better whom they concern, or the answer.
 */
#ifndef ZT_FANOUT_H
#define ZT_FANOUT_H

#include "guard.h"

struct zt_fanout;

struct zt_fanout *zt_fanout_new(const struct zt_tables *t); /* NULL: out of memory */
void zt_fanout_free(struct zt_fanout *f);

/* Does a frame for a group ask for somebody's link-layer address? body: EtherType and payload, n >= 2. */
bool zt_asks_address(const uint8_t *body, size_t n);

/* One frame's copies. `to`: zt_recipient each; good until the next decision. */
struct zt_copies {
    uint32_t count;
    uint32_t refused; /* recipients that rules keep it from */
    uint8_t multicast; /* ZT_MULTICAST_* of the packets */
    bool renew;        /* let the slow path know that the entry is in use */
    const uint64_t *to;
};

/* PASS: as `copies` says, maybe to nobody. DROP: the rules do not let it out at all. PUNT: the slow path has to decide. The frame is for network
 * `index`, `len` >= ZT_ETHER_LEN, and may be a super-frame. origin: the member who wants it replicated, 0 if it comes from the TAP. */
enum zt_decision zt_fanout_decide(struct zt_fanout *f, struct zt_guard *guard, uint32_t index, const struct zt_network_view *network,
                                  const struct zt_vnet *vnet, const uint8_t *frame, size_t len, uint64_t origin, int64_t now,
                                  struct zt_copies *copies);

#endif
