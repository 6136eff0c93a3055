/* bridged.c: see bridged.h. */
#include "bridged.h"

#define TELL_AGAIN 1000 /* ms: the slow path may have missed it */

/* The MAC's place, with its entry as of this epoch or, if that is due, as of now. */
static uint32_t find(struct zt_bridged *b, const struct zt_tables *t, uint32_t network, uint64_t mac, int64_t now) {
    uint32_t at = zt_bridged_hash(network, mac) & (ZT_BRIDGED_PLACES - 1), epoch = zt_tables_epoch(t);
    bool same = b->place[at].used && b->place[at].network == network && b->place[at].mac == mac;
    const struct zt_bridged_view *known = &b->place[at].entry;
    if (same && b->place[at].epoch == epoch && (known->address == 0 || (now < known->renew_at && now < known->until))) {
        return at;
    }
    b->place[at].told = same ? b->place[at].told : 0;
    b->place[at].used = true;
    b->place[at].epoch = epoch;
    b->place[at].network = network;
    b->place[at].mac = mac;
    struct zt_bridged_view *e = &b->place[at].entry;
    uint32_t index = same && b->place[at].entry.address != 0 ? b->place[at].index : ZT_NONE;
    if (index == ZT_NONE || !zt_bridged_read(t, index, e) || e->network != network || e->mac != mac) {
        index = zt_bridged_find(t, network, mac);
        if (index == ZT_NONE || !zt_bridged_read(t, index, e) || e->network != network || e->mac != mac) {
            *e = (struct zt_bridged_view){.address = 0};
        }
    }
    b->place[at].index = index;
    return at;
}

uint64_t zt_bridged_address(struct zt_bridged *b, const struct zt_tables *t, uint32_t network, uint64_t mac, int64_t now) {
    const struct zt_bridged_view *e = &b->place[find(b, t, network, mac, now)].entry;
    return now < e->until ? e->address : 0;
}

void zt_bridged_seen(struct zt_bridged *b, struct zt_context *c, uint32_t network, uint64_t nwid, uint64_t mac, int64_t now) {
    uint32_t at = find(b, c->tables, network, mac, now);
    if (b->place[at].entry.address == 0 || now < b->place[at].entry.renew_at || now - b->place[at].told < TELL_AGAIN) {
        return;
    }
    struct zt_punt head = {.kind = ZT_PUNT_BRIDGED, .nwid = nwid, .address = b->place[at].entry.address};
    b->place[at].told = now;
    (void)zt_punt_add(c, &head, &mac, sizeof mac);
}
