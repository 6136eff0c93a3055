/* segment.h: a TAP's frame or super-frame as the sequence of Ethernet frames it stands for.
 *
 * The kernel leaves work to us: partial checksums (NEEDS_CSUM), TCP and UDP segmentation (TSO, USO), with up to two VLAN tags. A
 * `zt_super` is a checked description; segments are written one at a time, in any order, straight to where they are needed.
 */
#ifndef ZT_SEGMENT_H
#define ZT_SEGMENT_H

#include "net.h"

enum zt_super_kind { ZT_SUPER_PLAIN, ZT_SUPER_CSUM, ZT_SUPER_TCP, ZT_SUPER_UDP };

struct zt_super {
    const uint8_t *frame;
    uint32_t len;
    uint32_t segments; /* at least 1 */
    uint32_t gso;      /* payload bytes of every segment but the last */
    uint16_t l3;       /* offsets in the frame */
    uint16_t l4;
    uint16_t payload;
    uint16_t csum_at; /* ZT_SUPER_CSUM: offset of the checksum field; the sum starts at l4 */
    uint8_t kind;     /* enum zt_super_kind */
    bool ipv6;
    uint32_t pseudo; /* sum of both addresses and the protocol */
};

/* Check a frame of `len` bytes against its vnet header (NULL: none). False: the header does not fit the frame. */
bool zt_super_init(struct zt_super *s, const struct zt_vnet *vnet, const uint8_t *frame, size_t len);

/* Bytes of segment `i` (i < segments) without its MACs: EtherType and what follows. */
static inline uint32_t zt_super_size(const struct zt_super *s, uint32_t i) {
    if (s->segments == 1) {
        return s->len - ZT_MACS_LEN;
    }
    uint32_t before = i * s->gso, total = s->len - s->payload;
    return s->payload - ZT_MACS_LEN + (total - before < s->gso ? total - before : s->gso);
}

/* Write segment `i`, zt_super_size bytes, complete with lengths, IPv4 id, TCP sequence number and flags, and checksums. */
void zt_super_emit(const struct zt_super *s, uint32_t i, uint8_t *body);

#endif
