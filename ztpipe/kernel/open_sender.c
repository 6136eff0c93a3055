/* open_sender.c: what the tables say about a sender (open_impl.h). */
#include "open_impl.h"

#define UNKNOWN_PATH_INTERVAL 1000 /* ms, per peer */

void zt_senders_refresh(struct zt_opener *o) {
    uint32_t epoch = zt_tables_epoch(o->c->tables);
    if (epoch != o->epoch) {
        o->epoch = epoch;
        memset(o->sender, 0, sizeof o->sender);
    }
}

struct zt_sender *zt_sender_find(struct zt_opener *o, uint64_t address) {
    struct zt_sender *s = &o->sender[zt_mix64(address) & (ZT_SENDERS - 1)];
    if (s->used && s->address == address) {
        return s;
    }
    *s = (struct zt_sender){.used = true, .address = address, .peer = zt_peer_find(o->c->tables, address)};
    struct zt_peer_view view;
    if (s->peer != ZT_NONE && zt_peer_read(o->c->tables, s->peer, &view) && view.address == address) {
        s->session = zt_session_get(o->sessions, s->peer, &view);
    }
    if (s->session == NULL) {
        s->peer = ZT_NONE;
    }
    return s;
}

bool zt_sender_accepted(struct zt_opener *o, struct zt_sender *s, uint64_t nwid) {
    if (!s->network_known || s->nwid != nwid) {
        struct zt_member_view v;
        s->network_known = true;
        s->nwid = nwid;
        s->mac = zt_mac_of(s->address, nwid);
        s->network_index = zt_network_find(o->c->tables, nwid);
        if (s->network_index != ZT_NONE &&
            !(zt_network_read(o->c->tables, s->network_index, &s->network) && s->network.nwid == nwid)) {
            s->network_index = ZT_NONE;
        }
        s->member = s->network_index == ZT_NONE ? ZT_NONE : zt_member_find(o->c->tables, s->network_index, s->peer);
        if (s->member != ZT_NONE && !(zt_member_read(o->c->tables, s->member, &v) && (v.flags & ZT_MEMBER_RECEIVE) != 0)) {
            s->member = ZT_NONE;
        }
        if (s->member != ZT_NONE && zt_sender_has_rules(s)) {
            s->pair = (struct zt_pair){.network = s->network_index,
                                       .member = s->member,
                                       .own = s->network.policy,
                                       .remote = v.policy,
                                       .address = s->address};
            s->member = zt_pair_known(&s->pair) ? s->member : ZT_NONE;
        }
    }
    return s->member != ZT_NONE;
}

void zt_sender_note_path(struct zt_opener *o, struct zt_sender *s, const struct zt_arrival *a, const uint8_t *packet) {
    if ((packet[ZT_P_FLAGS] & ZT_HOPS) != 0) {
        return;
    }
    if (!s->path_known || s->binding != a->binding || !zt_endpoint_equal(&s->remote, a->remote)) {
        s->path_known = true;
        s->binding = a->binding;
        s->remote = *a->remote;
        s->path = zt_path_find(o->c->tables, s->peer, a->binding, a->remote);
    }
    if (s->path != ZT_NONE) {
        zt_stamp_path(o->c->tables, s->path, o->now);
    } else if (o->unknown_at[s->peer] == 0 || o->now - o->unknown_at[s->peer] >= UNKNOWN_PATH_INTERVAL) {
        struct zt_punt head = {.kind = ZT_PUNT_UNKNOWN_PATH, .binding = a->binding, .remote = *a->remote, .address = s->address};
        o->unknown_at[s->peer] = o->now;
        (void)zt_punt_add(o->c, &head, NULL, 0);
    }
}
