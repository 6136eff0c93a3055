/* abi.h: the layout of everything that processes share, and who may write it.
 *
 * Who owns what (one writer per piece of memory; no locks):
 *   ring head, slots between tail and head+1 .... the ring's producer, until it publishes (ring.h)
 *   ring tail, published slots .................. the ring's consumer, until it releases
 *   tables (networks, peers, paths, members) .... control writes, every worker reads, per-entry sequence locks (table.h)
 *   activity stamps inside tables ............... crypto workers, relaxed atomics; control reads
 *   packets seen lately, inside tables .......... crypto workers and control, compare and swap (replay.h)
 *   groups (who gets a multicast frame) .......... control writes, tap and crypto workers copy (fanout.h)
 *   MACs behind bridges .......................... control writes, tap and crypto workers read (bridged.h)
 *   policies (rules and credentials) ............. control writes, behind the entries that refer to them (guard.h); workers copy
 *   keys ........................................ control writes; only crypto (and fused) workers map the region
 *   bells ....................................... `sleeping`: set by its worker, cleared by whoever wakes it
 *   counters .................................... one block per process, written by it alone
 *
 * Nothing here points: processes map the regions at different addresses, so every reference is an index or an offset.
 */
#ifndef ZT_ABI_H
#define ZT_ABI_H

#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ZT_ABI_VERSION 5u
#define ZT_CACHE_LINE 64
#define ZT_NONE 0xffffffffu /* "no index" */

/* ---- frames between processes ------------------------------------------------------------------------------------ */

#define ZT_SLOT_BYTES (204u * 1024u) /* one super-frame, one GRO batch, or many small frames, with room to expand */
#define ZT_REC_ALIGN 64u
#define ZT_VNET_HDR 12u /* struct virtio_net_hdr_mrg_rxbuf: what TUNSETVNETHDRSZ 12 puts before every frame */

/* Where a datagram came from or goes to. family: 0 none, 4, 6. IPv4 uses ip[0..3]. */
struct zt_endpoint {
    uint8_t ip[16];
    uint16_t port; /* host byte order */
    uint8_t family;
    uint8_t reserved;
};

/* First bytes of every slot; records follow at ZT_REC_ALIGN. */
struct zt_slot {
    uint32_t nrec;
    uint32_t used; /* bytes in use counted from the start of the slot */
    uint64_t reserved[7];
};

/* One record: header, then `len` bytes of data at +ZT_REC_ALIGN; the next record starts at the next multiple of ZT_REC_ALIGN.
 *   tap -> crypto   data = vnet header + Ethernet frame or TSO/USO super-frame; network, peer, flow set. If recipients is not 0: a frame for a
 *                   group, and behind it as many uint64_t (zt_recipient); peer is not set, adi and multicast are. ZT_REC_BRIDGED: one of
 *                   its MACs is foreign, and via is set
 *   crypto -> peer  data = datagrams of `seg` bytes each (the last may be shorter), nseg of them; binding, remote set
 *   peer -> crypto  data = datagrams of `seg` bytes each as received by GRO (nseg 1: one datagram); binding, remote set
 *   crypto -> tap   data = vnet header + Ethernet frame or super-frame to write; network set
 */
struct zt_rec {
    uint32_t len;
    uint32_t flow;    /* hash of the inner flow (tap, crypto), 0 if none */
    uint32_t peer;    /* index in the peer table or ZT_NONE */
    uint16_t network; /* index in the network table */
    uint16_t binding; /* local socket: index in the binding table of the peer workers */
    uint16_t seg;
    uint16_t nseg;
    uint32_t flags; /* ZT_REC_* */
    struct zt_endpoint remote;
    uint32_t adi;        /* tap -> crypto, recipients != 0 */
    uint16_t recipients; /* at most ZT_GROUP_RECIPIENTS */
    uint8_t multicast;   /* ZT_MULTICAST_* of the packets to be made */
    uint8_t via[5];      /* tap -> crypto, ZT_REC_BRIDGED: address of the peer */
    uint8_t reserved[8];
};
#define ZT_REC_FILLER 1u  /* only fills the gap behind a shortened super-frame: coalesce.c */
#define ZT_REC_BRIDGED 2u /* to be sent with its MACs: EXT_FRAME */
_Static_assert(sizeof(struct zt_slot) == ZT_REC_ALIGN, "slot header is one record unit");
_Static_assert(sizeof(struct zt_rec) == ZT_REC_ALIGN, "record header is one record unit");

/* A ring of slots: one producer, one consumer, free-running indices, masked on access (slots is a power of two). */
struct zt_ring {
    uint32_t magic; /* ZT_RING_MAGIC */
    uint32_t abi;
    uint32_t slots;
    uint32_t slot_bytes;
    uint32_t producer; /* worker ids, for humans and for sweeping */
    uint32_t consumer;
    alignas(ZT_CACHE_LINE) _Atomic uint32_t head; /* slots published so far: producer */
    alignas(ZT_CACHE_LINE) _Atomic uint32_t tail; /* slots released so far: consumer */
    alignas(ZT_CACHE_LINE) _Atomic uint32_t full_wait; /* producer found it full and wants a bell when a slot is released */
    alignas(ZT_CACHE_LINE) uint8_t data[];
};
#define ZT_RING_MAGIC 0x5a545247u

/* One per worker, in one region that all processes map. */
struct zt_bell {
    alignas(ZT_CACHE_LINE) _Atomic uint32_t sleeping;
};

/* ---- tables -------------------------------------------------------------------------------------------------------- */

struct zt_tables {
    uint32_t magic; /* ZT_TABLES_MAGIC */
    uint32_t abi;
    uint32_t max_networks;
    uint32_t max_peers;   /* power of two */
    uint32_t max_paths;   /* power of two */
    uint32_t max_members; /* power of two */
    uint64_t self;        /* our 40-bit address */
    int64_t clock_offset; /* node time in ms = CLOCK_MONOTONIC in ms + this */
    uint32_t networks_at; /* byte offsets of the arrays below from the start of the region */
    uint32_t peers_at;
    uint32_t paths_at;
    uint32_t members_at;
    uint32_t policies_at;
    uint32_t policies_size; /* bytes */
    uint32_t replay_at;
    uint32_t replay_sets;   /* power of two, or 0: copies are not looked for */
    uint64_t replay_seed;
    uint32_t groups_at;
    uint32_t max_groups; /* power of two */
    uint32_t bridged_at;
    uint32_t max_bridged; /* power of two */
    _Atomic uint32_t tunnel; /* not 0: control reaches peers that are in no table */
    _Atomic uint32_t relay; /* not 0: peer workers forward what is for others (relay.h) */
    _Atomic uint32_t epoch; /* bumped after any change: cheap "did anything change" for workers' private caches */
};
#define ZT_TABLES_MAGIC 0x5a545442u

#define ZT_ENTRY_USED 1u
#define ZT_NETWORK_ACCEPT_ALL 2u /* base rules are an unconditional accept: C may pass unicast frames of members. Else the policy says */
#define ZT_NETWORK_BRIDGE 4u     /* we are an active bridge here: frames with foreign MACs are legal */
#define ZT_NETWORK_MULTICAST 8u  /* its multicast limit is not 0 */
#define ZT_NETWORK_REPLICATOR 16u /* we replicate for others: frames that ask for it go to their groups */
#define ZT_NETWORK_BRIDGED 32u /* there are active bridges besides us: MACs that are no member's may lead somewhere */
#define ZT_PEER_DIRECT 2u        /* `remote` is the peer's own path, not a relay's */
#define ZT_MEMBER_RECEIVE 2u     /* passes the membership gate */

#define ZT_POLICIES_SIZE (32u * 1024u * 1024u) /* memory for policies; what is never written takes none */

/* What rules need to know of a network or a member (filter.h): `size` bytes at offset `at` of the policies. The entry that holds the
 * reference vouches for them: they are not overwritten before the reference has changed. generation 0: there is none. */
struct zt_policy_ref {
    uint32_t at;
    uint32_t size;
    uint32_t generation; /* never the same for two contents */
    uint32_t reserved;
};
#define ZT_POLICY_SLOW 0xffffffffu /* generation: C is not to decide */

/* seq: even = stable, odd = being written (sequence lock, one writer). */
struct zt_network_entry {
    alignas(ZT_CACHE_LINE) _Atomic uint32_t seq;
    uint32_t flags;
    uint64_t nwid;
    uint64_t mac; /* our MAC on it, 48 bits */
    uint32_t mtu;
    uint32_t reserved;
    struct zt_policy_ref policy; /* base rules, our credentials */
};

/* Open addressing by hash of the address; an index never moves while the entry lives. */
struct zt_peer_entry {
    alignas(ZT_CACHE_LINE) _Atomic uint32_t seq;
    uint32_t flags;
    uint64_t address;
    struct zt_endpoint remote; /* where frames for this peer are sent now: its best path, or a root's */
    uint16_t binding;
    uint16_t mtu; /* largest UDP payload on that path */
    uint8_t suite; /* 1 or 3 */
    uint8_t reserved[3];
    uint32_t key_generation; /* changes when the key region's entry of the same index does */
    _Atomic int64_t last_send; /* stamps, node time in ms: written by crypto workers */
};

/* In the key region, same index as the peer. */
struct zt_key_entry {
    alignas(ZT_CACHE_LINE) _Atomic uint32_t seq;
    uint32_t generation;
    uint8_t salsa[32];
    uint8_t k0[32];
    uint8_t k1[32];
};

/* A learned direct path: (peer, binding, remote). Open addressing by hash of the three. */
struct zt_path_entry {
    alignas(ZT_CACHE_LINE) _Atomic uint32_t seq;
    uint32_t flags;
    uint32_t peer;
    uint16_t binding;
    uint16_t reserved;
    struct zt_endpoint remote;
    _Atomic int64_t last_receive; /* crypto workers */
};

/* Packets seen lately (replay.h), in whichever set their hash says: 48 bits of it and 16 bits of time. 0: free. */
#define ZT_REPLAY_WAYS 8u
struct zt_replay_set {
    alignas(ZT_CACHE_LINE) _Atomic uint64_t seen[ZT_REPLAY_WAYS];
};

/* Membership of a peer in a network. Open addressing by hash of (network, peer). */
struct zt_member_entry {
    alignas(ZT_CACHE_LINE) _Atomic uint32_t seq;
    uint32_t flags;
    uint32_t network;
    uint32_t peer;
    int64_t send_until; /* frames to it need no credential push before this time (node ms) */
    struct zt_policy_ref policy; /* its credentials in force */
    _Atomic int64_t last_frame; /* last accepted frame from it: crypto workers */
};

/* Who gets the frames for a multicast group. Open addressing by hash of the three; the list lies in the policies' memory. */
#define ZT_GROUPS 1024u
#define ZT_GROUP_RECIPIENTS 1024u
struct zt_group_entry {
    alignas(ZT_CACHE_LINE) _Atomic uint32_t seq;
    uint32_t flags;
    uint32_t network;
    uint32_t adi;
    uint64_t mac;
    int64_t renew_at; /* from then on (node ms) the slow path wants to hear that the entry is in use */
    int64_t until;    /* from then on it is none */
    struct zt_policy_ref list;
};

/* A list, without pointers: `count` addresses follow, as uint64_t. */
struct zt_group_list {
    uint32_t magic; /* ZT_GROUP_MAGIC */
    uint32_t limit; /* most recipients of one frame */
    uint16_t count;
    uint16_t first; /* so many at the beginning come first, always; of the others as many as the limit leaves room for, in turn */
    uint16_t flags; /* ZT_GROUP_* */
    uint16_t reserved;
};
#define ZT_GROUP_MAGIC 0x5a545047u
#define ZT_GROUP_REPLICATED 1u /* to a replicator, which does the rest: no rules, source MAC always */

/* Behind which bridge a MAC was seen of late. Open addressing by hash of (network, MAC). */
#define ZT_BRIDGED 131072u
struct zt_bridged_entry {
    alignas(ZT_CACHE_LINE) _Atomic uint32_t seq;
    uint32_t flags;
    uint32_t network;
    uint32_t reserved;
    uint64_t mac;
    uint64_t address; /* of the bridge */
    int64_t renew_at; /* from then on (node ms) the slow path wants to hear that a frame came from there */
    int64_t until;    /* from then on it is none */
};

/* What a record names a recipient by: the index may be another's by the time it is looked up, the address says so. */
static inline uint64_t zt_recipient(uint64_t address, uint32_t peer) { return address << 24 | peer; }

/* ---- punts: from a worker's C stages to its Python loop, and on to control ---------------------------------------- */

enum zt_punt_kind {
    ZT_PUNT_DATAGRAM = 1,     /* data = one datagram as received (not for us, a control verb, an unknown source, ...) */
    ZT_PUNT_PACKET = 2,       /* data = a reassembled packet, still sealed */
    ZT_PUNT_FRAME = 3,        /* data = one complete Ethernet frame from the TAP, checksums filled in, no vnet header */
    ZT_PUNT_UNKNOWN_PATH = 4, /* an authenticated frame of `address` came directly over a path that is not in the table */
    ZT_PUNT_GATHER = 5,       /* data = struct zt_punt_gather: `address` asked with an accepted frame who is in a group of `nwid` */
    ZT_PUNT_GROUP = 6,        /* data = a frame that was sent to its group: the entry is in use, and due to be renewed. address: of the
                               * member whose frame it is, 0: ours, from the TAP */
    ZT_PUNT_BRIDGED = 7,      /* data = uint64_t: a frame came from this MAC, through `address`: the entry is in use, and due to be renewed */
};

/* Packed back to back in zt_punts.data, each padded to 8 bytes. */
struct zt_punt {
    uint32_t len; /* of data */
    uint16_t kind;
    uint16_t binding;
    struct zt_endpoint remote;
    uint32_t reserved;
    uint64_t nwid;
    uint64_t address;
};

/* Numbers in the machine's order. */
struct zt_punt_gather {
    uint8_t packet_id[8]; /* as on the wire */
    uint64_t mac;
    uint32_t adi;
    uint32_t limit;
    uint32_t size; /* of the packet as it came */
    uint8_t hops;
    uint8_t suite;
    uint8_t reserved[2];
};

#define ZT_PUNT_BYTES (256u * 1024u)
/* A worker's private, bounded punt buffer: filled by C, emptied by Python when zt_pace says so. */
struct zt_punts {
    uint32_t used;
    uint32_t count;
    uint32_t urgent; /* of them; the others are strangers', who may wait for each other */
    uint32_t reserved;
    uint8_t data[ZT_PUNT_BYTES];
};

#endif
