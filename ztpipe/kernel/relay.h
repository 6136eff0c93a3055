/* relay.h: datagrams for others, forwarded by the peer worker that received them (vl1-behaviour §3.7): unopened, without a ring, in the
 * batches they came in.
 *
 * Only while the tables say that we relay for everybody, which is when we are a root. Everything else about relaying is decided by the slow
 * path (node/relay.py, the twin of this file): what may be forwarded for a trusted path, what goes on via another root, who is to be
 * introduced to whom. So a datagram for a node without a direct path is left alone, as one for ourselves is, and the first packet between two
 * nodes, and one every half minute after it, is punted instead of forwarded: the slow path forwards it and introduces the two.
 */
#ifndef ZT_RELAY_H
#define ZT_RELAY_H

#include "outbox.h"

struct zt_relay;

/* It sends through `box` and `sockets`, which must outlive it. NULL: out of memory. */
struct zt_relay *zt_relay_new(struct zt_context *c, struct zt_outbox *box, struct zt_sockets *sockets);
void zt_relay_free(struct zt_relay *r);

/* Before a batch. False: we do not relay, zt_relay_take must not be called. */
bool zt_relay_begin(struct zt_relay *r);

/* What becomes of the first datagrams of `data` (all of rec->seg bytes but the last, received as rec says)? Returns the bytes of as many as
 * share one fate. *keep: they are not for others, or not for us to forward. Else they are dealt with, and `data` is the caller's again. */
uint32_t zt_relay_take(struct zt_relay *r, const struct zt_rec *rec, uint8_t *data, uint32_t len, bool *keep);

/* After a batch: send what waits. */
void zt_relay_flush(struct zt_relay *r);

#endif
