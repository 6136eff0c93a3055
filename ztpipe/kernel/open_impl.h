/* open_impl.h: what the parts of the opener share: open.c (records and datagrams), open_packet.c (a whole packet), open_multicast.c
 * (a MULTICAST_FRAME) and open_sender.c (what the tables say about who sent it). */
#ifndef ZT_OPEN_IMPL_H
#define ZT_OPEN_IMPL_H

#include "bridged.h"
#include "coalesce.h"
#include "fanout.h"
#include "flow.h"
#include "guard.h"
#include "reassemble.h"
#include "replay.h"
#include "session.h"
#include "share.h"
#include "strangers.h"

#define ZT_SENDERS 64u /* power of two */
#define ZT_OPEN_FRAME (ZT_VNET_HDR + ZT_ETHER_LEN + ZT_PACKET_LONGEST)

/* A sender and what the tables say about it, as of the opener's epoch. */
struct zt_sender {
    bool used;
    bool network_known; /* nwid, network, ... are valid; network ZT_NONE: not one for C */
    bool path_known;    /* binding, remote, path are valid; path ZT_NONE: not in the table */
    uint16_t binding;
    uint64_t address;
    uint64_t mac;
    uint64_t nwid;
    uint32_t peer; /* ZT_NONE: no session */
    uint32_t member;
    uint32_t network_index;
    uint32_t path;
    struct zt_endpoint remote;
    struct zt_network_view network;
    struct zt_pair pair; /* for rules, if the network has any */
    const struct zt_session *session;
};

/* Where a packet came from. */
struct zt_arrival {
    const struct zt_endpoint *remote;
    uint16_t binding;
    uint16_t kind; /* how it is punted: ZT_PUNT_DATAGRAM or, if it came in pieces, ZT_PUNT_PACKET */
};

/* Questions for the members of a group that came with frames and were passed on to the slow path: for each of the last ones, when. */
#define ZT_GATHER_SLOTS 256u /* power of two */

struct zt_gathers {
    struct zt_bucket budget;
    struct {
        uint64_t key;
        int64_t at;
    } slot[ZT_GATHER_SLOTS];
};

struct zt_opener {
    struct zt_context *c;
    struct zt_sessions *sessions;
    struct zt_reassembler *reassembler;
    struct zt_guard *guard;
    struct zt_fanout *fanout;
    struct zt_sealer *sealer; /* for what we replicate */
    bool replicated;          /* something, in this call */
    struct zt_reader in[ZT_MAX_RINGS];
    struct zt_coalescer out[ZT_MAX_RINGS];
    uint32_t ins, outs;
    uint32_t turn;
    uint32_t epoch;
    int64_t now;
    int64_t *unknown_at; /* per peer: when an unknown path was reported last */
    struct zt_sender sender[ZT_SENDERS];
    struct zt_strangers strangers;
    struct zt_gathers gathers;
    struct zt_bridged bridged;
    struct zt_bucket replications; /* left to the slow path */
    struct zt_share groups;    /* what frames for them may cost ... */
    struct zt_share questions; /* ... and those that ask for addresses, which must not suffer from a flood of others */
    uint8_t copy[ZT_PACKET_LONGEST];  /* a sealed packet that may have to be punted after all */
    uint8_t frame[ZT_OPEN_FRAME];     /* one to be replicated */
    uint8_t plain[ZT_PACKET_LONGEST]; /* what a compressed payload stands for */
};

static inline void zt_open_drop(struct zt_opener *o, enum zt_counter reason) { zt_count(o->c, reason, 1); }

static inline struct zt_punt zt_open_punt_head(const struct zt_arrival *a) {
    return (struct zt_punt){.kind = a->kind, .binding = a->binding, .remote = *a->remote};
}

/* Hand a datagram or a packet to the slow path, as it came. */
static inline void zt_open_punt(struct zt_opener *o, const struct zt_arrival *a, const uint8_t *data, size_t n) {
    struct zt_punt head = zt_open_punt_head(a);
    zt_count(o->c, ZT_C_open_punted, zt_punt_add(o->c, &head, data, n));
}

/* One frame that was let in, to the tap worker of its flow. */
static inline void zt_open_deliver(struct zt_opener *o, const struct zt_sender *s, const uint8_t macs[12], const uint8_t *body, size_t n) {
    uint32_t flow = o->outs == 1 ? 0 : zt_flow_hash(body, n, s->mac ^ s->nwid);
    zt_count(o->c, ZT_C_open_packets, 1);
    zt_coalescer_add(&o->out[flow % o->outs], s->network_index, flow, macs, body, n);
}

/* Is this foreign MAC behind the sender, as far as C knows? */
static inline bool zt_open_bridged(struct zt_opener *o, const struct zt_sender *s, uint64_t mac) {
    return mac != s->network.mac && zt_bridged_address(&o->bridged, o->c->tables, s->network_index, mac, o->now) == s->address;
}

/* A frame with these MACs was accepted. */
static inline void zt_open_note_source(struct zt_opener *o, const struct zt_sender *s, const uint8_t macs[12]) {
    uint64_t mac = zt_get48(macs + 6);
    if (mac != s->mac) {
        zt_bridged_seen(&o->bridged, o->c, s->network_index, s->nwid, mac, o->now);
    }
}

/* ---- open_sender.c ---- */

/* Forget what was looked up if a table has changed since. */
void zt_senders_refresh(struct zt_opener *o);
/* The sender; its peer is ZT_NONE if we have no session with it. */
struct zt_sender *zt_sender_find(struct zt_opener *o, uint64_t address);
/* May C pass this sender's frames of this network on, if its rules let them? (vl2 §5.6: joined, gate) */
bool zt_sender_accepted(struct zt_opener *o, struct zt_sender *s, uint64_t nwid);
/* Note where an authenticated packet came from. Behind a relay it says nothing about the path. */
void zt_sender_note_path(struct zt_opener *o, struct zt_sender *s, const struct zt_arrival *a, const uint8_t *packet);

static inline bool zt_sender_has_rules(const struct zt_sender *s) { return (s->network.flags & ZT_NETWORK_ACCEPT_ALL) == 0; }

/* ---- open_packet.c ---- */

/* A whole packet for us, sealed, n >= 28; may be changed in place. */
void zt_open_packet(struct zt_opener *o, const struct zt_arrival *a, uint8_t *p, size_t n);
/* A datagram that is not for us, a beacon, or of a suite that C does not open: for the slow path, if there is time. */
void zt_open_punt_foreign(struct zt_opener *o, const struct zt_arrival *a, const uint8_t *p, size_t n);

/* ---- open_multicast.c ---- */

/* Authentic MULTICAST_FRAME, decrypted in place, as zt_open_packet hands on; `sealed`: as it came, `print`: what copies are known by. */
void zt_open_multicast(struct zt_opener *o, struct zt_sender *s, const struct zt_arrival *a, const uint8_t *p, size_t n,
                       const uint8_t *sealed, uint64_t print);

#endif
