/* bridged.h: behind which bridge a MAC was seen (vl2 §5.4, §5.7). The slow path learns that and writes it down (zt_bridged_entry); here it is
 * looked up, frame after frame. That frames of a MAC still come is told to the slow path now and then, so that it goes on believing it: an entry
 * that is due is read again first, since new times alone do not change the tables' epoch. One of these per stage. */
#ifndef ZT_BRIDGED_H
#define ZT_BRIDGED_H

#include "net.h"
#include "stages.h"
#include "table.h"

#define ZT_BRIDGED_PLACES 256u /* power of two: MACs in use at a time */

struct zt_bridged {
    struct {
        uint32_t epoch;
        uint32_t network;
        uint64_t mac;
        uint32_t index;
        bool used; /* the entry is that of the MAC, or `entry.address` is 0: there is none */
        struct zt_bridged_view entry;
        int64_t told;
    } place[ZT_BRIDGED_PLACES];
};

/* The address of the bridge, 0 if the MAC is behind none that is known. */
uint64_t zt_bridged_address(struct zt_bridged *b, const struct zt_tables *t, uint32_t network, uint64_t mac, int64_t now);

/* A frame from this MAC was accepted: let the slow path know if it wants to hear so. */
void zt_bridged_seen(struct zt_bridged *b, struct zt_context *c, uint32_t network, uint64_t nwid, uint64_t mac, int64_t now);

#endif
