/* coalesce.h: opened frames -> records for the tap stage, consecutive segments of one TCP flow (or UDP, where the TAP takes USO) joined to
 * super-frames, as the kernel's own GRO would.
 *
 * Segments are joined only when the super-frame stands for exactly them: same headers, contiguous, checksums verified. Order within a
 * flow is kept. A super-frame grows at the end of the slot being written; when another flow's frame comes in between, a growing one
 * keeps a region of the slot for itself, and a filler record covers what it leaves unused.
 */
#ifndef ZT_COALESCE_H
#define ZT_COALESCE_H

#include "slots.h"

#include "net.h"

#define ZT_COALESCE_FLOWS 4u

/* A super-frame that may still grow. */
struct zt_flow {
    struct zt_rec *rec;
    uint32_t region; /* bytes kept for it in the slot, record header included; 0: it is the last of the slot and grows freely */
    uint32_t segments;
    uint32_t gso;    /* payload bytes of the first segment */
    uint32_t serial; /* order of their last growth */
    uint16_t payload; /* offset of the payload in the frame */
    uint16_t l4;
    uint16_t id_step; /* IPv4: what the id grows by */
    bool ipv6;
    bool udp;
};

struct zt_coalescer {
    struct zt_context *c;
    struct zt_writer w;
    uint32_t count; /* of flows */
    uint32_t serial;
    struct zt_flow flow[ZT_COALESCE_FLOWS];
};

/* The longest single frame that is accepted, without its MACs. */
#define ZT_COALESCE_BODY_MAX 10240u

static inline void zt_coalescer_init(struct zt_coalescer *k, struct zt_context *c, struct zt_ring_ref *ring) {
    *k = (struct zt_coalescer){.c = c, .w = {.ring = ring}};
}

/* Room for one more frame; finishes the slot in hand if there is none in it. False: the ring is full. */
bool zt_coalescer_room(struct zt_coalescer *k);

/* One Ethernet frame: MACs (destination, source) and body (EtherType, payload; 2 <= n <= ZT_COALESCE_BODY_MAX). After zt_coalescer_room. */
void zt_coalescer_add(struct zt_coalescer *k, uint32_t network, uint32_t flow, const uint8_t macs[12], const uint8_t *body, size_t n);

/* End of the batch: everything is handed to the tap stage. */
void zt_coalescer_flush(struct zt_coalescer *k);

#endif
