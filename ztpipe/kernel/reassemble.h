/* reassemble.h: fragments that did not arrive back to back, kept until their packet is whole (vl1-wire §6.3).
 *
 * A fixed number of entries in small sets; a full set gives up its oldest. Keyed by packet id, remote endpoint and binding, so that nobody
 * but a packet's sender (or its relay) can disturb its assembly. Memory is reserved at once and touched only when used.
 */
#ifndef ZT_REASSEMBLE_H
#define ZT_REASSEMBLE_H

#include "net.h"
#include "stages.h"

#define ZT_REASSEMBLE_TIMEOUT 1500 /* ms from the first piece */

struct zt_reassembler;

struct zt_reassembler *zt_reassembler_new(struct zt_context *c);
void zt_reassembler_free(struct zt_reassembler *r);

/* Add one datagram: a fragment (byte 13 is 0xff, n > 16) or a head (flag 0x40, n >= 28). When it completes its packet, the length, and
 * *packet points at the packet, good until the next call; else 0. What cannot be used is counted as a drop. */
size_t zt_reassembler_add(struct zt_reassembler *r, int64_t now, const struct zt_endpoint *remote, uint16_t binding, const uint8_t *datagram,
                          size_t n, uint8_t **packet);

/* Give up what has waited too long. For every batch: looks at the entries only if some wait, and at most once per timeout. */
void zt_reassembler_expire(struct zt_reassembler *r, int64_t now);

#endif
