/* Shared memory as Python sees it: tables (table.h), rings, context and punts (context.h, stages.h). */
#define ZT_ABI_VERSION ...
#define ZT_NONE ...
#define ZT_SLOT_BYTES ...
#define ZT_REC_ALIGN ...
#define ZT_VNET_HDR ...
#define ZT_COUNTER_BLOCK ...
#define ZT_MAX_RINGS ...
#define ZT_NETWORK_ACCEPT_ALL ...
#define ZT_NETWORK_BRIDGE ...
#define ZT_NETWORK_MULTICAST ...
#define ZT_NETWORK_REPLICATOR ...
#define ZT_NETWORK_BRIDGED ...
#define ZT_PEER_DIRECT ...
#define ZT_MEMBER_RECEIVE ...
#define ZT_OFFLOAD_TAP_VNET ...
#define ZT_OFFLOAD_TAP_TSO ...
#define ZT_OFFLOAD_TAP_USO ...
#define ZT_OFFLOAD_UDP_GSO ...
#define ZT_OFFLOAD_UDP_GRO ...
#define ZT_PUNT_BYTES ...
static const int ZT_COUNTERS;
static const int ZT_PUNT_DATAGRAM;
static const int ZT_PUNT_PACKET;
static const int ZT_PUNT_FRAME;
static const int ZT_PUNT_UNKNOWN_PATH;
static const int ZT_PUNT_GATHER;
static const int ZT_PUNT_GROUP;
static const int ZT_PUNT_BRIDGED;
#define ZT_BRIDGED ...
#define ZT_REC_BRIDGED ...
#define ZT_GROUPS ...
#define ZT_GROUP_RECIPIENTS ...
#define ZT_GROUP_MAGIC ...
#define ZT_GROUP_REPLICATED ...

struct zt_endpoint {
    uint8_t ip[16];
    uint16_t port;
    uint8_t family;
    ...;
};
struct zt_bell {
    ...;
};
struct zt_tables {
    uint32_t max_networks;
    uint32_t max_peers;
    uint32_t max_paths;
    uint32_t max_members;
    uint64_t self;
    int64_t clock_offset;
    ...;
};
struct zt_key_entry {
    ...;
};
struct zt_slot {
    uint32_t nrec;
    uint32_t used;
    ...;
};
struct zt_rec {
    uint32_t len;
    uint32_t flow;
    uint32_t peer;
    uint16_t network;
    uint16_t binding;
    uint16_t seg;
    uint16_t nseg;
    uint32_t flags;
    struct zt_endpoint remote;
    uint32_t adi;
    uint16_t recipients;
    uint8_t multicast;
    uint8_t via[5];
    ...;
};
struct zt_punt {
    uint32_t len;
    uint16_t kind;
    uint16_t binding;
    struct zt_endpoint remote;
    uint64_t nwid;
    uint64_t address;
    ...;
};
struct zt_punts {
    uint32_t used;
    uint32_t count;
    uint32_t urgent;
    uint8_t data[...];
};
struct zt_context {
    struct zt_punts *punts;
    uint32_t offload;
    bool held;
    ...;
};
struct zt_ring;
struct zt_bell_ref {
    struct zt_bell *bell;
    int fd;
};
struct zt_ring_ref {
    struct zt_ring *ring;
    struct zt_bell_ref other;
    ...;
};
struct zt_ring_set {
    uint32_t count;
    struct zt_ring_ref ring[...];
};
struct zt_stage {
    struct zt_ring_set *in;
    struct zt_ring_set *out;
};

/* ---- tables: read ---- */
#define ZT_POLICIES_SIZE ...
#define ZT_POLICY_SLOW ...
struct zt_policy_ref {
    uint32_t at;
    uint32_t size;
    uint32_t generation;
    ...;
};
struct zt_network_view {
    uint64_t nwid;
    uint64_t mac;
    uint32_t mtu;
    uint32_t flags;
    struct zt_policy_ref policy;
};
struct zt_peer_view {
    uint64_t address;
    struct zt_endpoint remote;
    uint32_t flags;
    uint32_t key_generation;
    uint16_t binding;
    uint16_t mtu;
    uint8_t suite;
};
struct zt_key_view {
    uint32_t generation;
    uint8_t salsa[32];
    uint8_t k0[32];
    uint8_t k1[32];
};
struct zt_path_view {
    struct zt_endpoint remote;
    uint32_t peer;
    uint16_t binding;
    int64_t last_receive;
};
struct zt_member_view {
    uint32_t network;
    uint32_t peer;
    uint32_t flags;
    int64_t send_until;
    int64_t last_frame;
    struct zt_policy_ref policy;
};
struct zt_group_view {
    uint32_t network;
    uint32_t adi;
    uint64_t mac;
    int64_t renew_at;
    int64_t until;
    struct zt_policy_ref list;
};
struct zt_bridged_view {
    uint32_t network;
    uint64_t mac;
    uint64_t address;
    int64_t renew_at;
    int64_t until;
};
bool zt_bridged_read(const struct zt_tables *t, uint32_t index, struct zt_bridged_view *v);
uint32_t zt_bridged_find(const struct zt_tables *t, uint32_t network, uint64_t mac);
bool zt_group_read(const struct zt_tables *t, uint32_t index, struct zt_group_view *v);
uint32_t zt_group_find(const struct zt_tables *t, uint32_t network, uint64_t mac, uint32_t adi);
bool zt_network_read(const struct zt_tables *t, uint32_t index, struct zt_network_view *v);
bool zt_peer_read(const struct zt_tables *t, uint32_t index, struct zt_peer_view *v);
bool zt_key_read(const struct zt_key_entry *keys, uint32_t index, struct zt_key_view *v);
bool zt_path_read(const struct zt_tables *t, uint32_t index, struct zt_path_view *v);
bool zt_member_read(const struct zt_tables *t, uint32_t index, struct zt_member_view *v);
uint32_t zt_network_find(const struct zt_tables *t, uint64_t nwid);
uint32_t zt_peer_find(const struct zt_tables *t, uint64_t address);
uint32_t zt_path_find(const struct zt_tables *t, uint32_t peer, uint16_t binding, const struct zt_endpoint *remote);
uint32_t zt_member_find(const struct zt_tables *t, uint32_t network, uint32_t peer);
int64_t zt_peer_last_send(const struct zt_tables *t, uint32_t peer);
int64_t zt_now(const struct zt_tables *t);
uint32_t zt_tables_epoch(const struct zt_tables *t);
void zt_stamp_peer(const struct zt_tables *t, uint32_t peer, int64_t now);
void zt_stamp_path(const struct zt_tables *t, uint32_t path, int64_t now);
void zt_stamp_member(const struct zt_tables *t, uint32_t member, int64_t now);

/* ---- tables: write ---- */
size_t zt_tables_size(uint32_t max_networks, uint32_t max_peers, uint32_t max_paths, uint32_t max_members, uint32_t replay_sets);
size_t zt_keys_size(uint32_t max_peers);
int zt_tables_init(void *at, size_t size, uint32_t max_networks, uint32_t max_peers, uint32_t max_paths, uint32_t max_members,
                   uint32_t replay_sets, uint64_t self, int64_t clock_offset);
int zt_tables_check(const void *at, size_t size);
void zt_tables_set_clock(struct zt_tables *t, int64_t clock_offset);
void zt_tables_set_tunnel(struct zt_tables *t, bool tunnel);
void zt_tables_set_relay(struct zt_tables *t, bool relay);
int64_t zt_network_put(struct zt_tables *t, uint64_t nwid, uint64_t mac, uint32_t mtu, uint32_t flags);
int64_t zt_peer_put(struct zt_tables *t, uint64_t address, uint32_t flags, uint8_t suite, uint16_t binding,
                    const struct zt_endpoint *remote, uint16_t mtu);
int zt_key_put(struct zt_tables *t, struct zt_key_entry *keys, uint32_t peer, const uint8_t *salsa, const uint8_t *k0,
               const uint8_t *k1);
int64_t zt_path_put(struct zt_tables *t, uint32_t peer, uint16_t binding, const struct zt_endpoint *remote);
int64_t zt_member_put(struct zt_tables *t, uint32_t network, uint32_t peer, uint32_t flags, int64_t send_until);
int64_t zt_group_put(struct zt_tables *t, uint32_t network, uint64_t mac, uint32_t adi, int64_t renew_at, int64_t until,
                     const struct zt_policy_ref *list);
int64_t zt_bridged_put(struct zt_tables *t, uint32_t network, uint64_t mac, uint64_t address, int64_t renew_at, int64_t until);
int zt_bridged_remove(struct zt_tables *t, uint32_t network, uint64_t mac);
int zt_group_remove(struct zt_tables *t, uint32_t network, uint64_t mac, uint32_t adi);
int zt_policy_put(struct zt_tables *t, uint32_t at, const void *policy, uint32_t size);
int zt_network_set_policy(struct zt_tables *t, uint32_t network, const struct zt_policy_ref *policy);
int zt_member_set_policy(struct zt_tables *t, uint32_t member, const struct zt_policy_ref *policy);
int zt_network_remove(struct zt_tables *t, uint64_t nwid);
int zt_peer_remove(struct zt_tables *t, struct zt_key_entry *keys, uint64_t address);
int zt_path_remove(struct zt_tables *t, uint32_t peer, uint16_t binding, const struct zt_endpoint *remote);
int zt_member_remove(struct zt_tables *t, uint32_t network, uint32_t peer);
uint32_t zt_paths_moved(const struct zt_tables *t, int64_t since, uint32_t *out, uint32_t max);
uint32_t zt_peers_moved(const struct zt_tables *t, int64_t since, uint32_t *out, uint32_t max);
uint32_t zt_network_next(const struct zt_tables *t, uint32_t from);
uint32_t zt_peer_next(const struct zt_tables *t, uint32_t from);
uint32_t zt_path_next(const struct zt_tables *t, uint32_t from);
uint32_t zt_member_next(const struct zt_tables *t, uint32_t from);

/* ---- rings and bells ---- */
size_t zt_ring_size(uint32_t slots);
int zt_ring_init(void *at, size_t size, uint32_t slots, uint32_t producer, uint32_t consumer);
int zt_ring_check(const void *at, size_t size);
uint32_t zt_ring_used(const struct zt_ring *r);
uint32_t zt_ring_sweep(struct zt_ring *r);
struct zt_ring_set *zt_ring_set_new(void);
void zt_ring_set_free(struct zt_ring_set *s);
int zt_ring_set_add(struct zt_ring_set *s, void *ring, size_t size, struct zt_bell *bell, int fd);
struct zt_slot *zt_ring_reserve(struct zt_ring_ref *h);
void zt_ring_publish(struct zt_ring_ref *h);
struct zt_slot *zt_ring_peek(struct zt_ring_ref *h);
void zt_ring_release(struct zt_ring_ref *h);
void zt_bell_prepare(struct zt_bell *b);
void zt_bell_awake(struct zt_bell *b);
void zt_bell_wake(struct zt_bell_ref *b);
bool zt_rings_blocked(struct zt_ring_set *out);
int zt_rings_pending(const struct zt_stage *stages, int count);
int zt_rings_filled(const struct zt_stage *stages, int count);

/* ---- the process ---- */
struct zt_context *zt_context_new(struct zt_tables *tables, struct zt_key_entry *keys, void *counters, struct zt_bell *bell,
                                  uint32_t offload);
void zt_context_free(struct zt_context *c);
int zt_process_setup(int parent, const char *name);
int zt_process_schedule(bool batch, uint32_t slice_us);
const char *zt_counter_name(int i);
const char *zt_counter_text(int i);
bool zt_punt_add(struct zt_context *c, const struct zt_punt *head, const void *data, size_t len);
bool zt_punt_add_patient(struct zt_context *c, const struct zt_punt *head, const void *data, size_t len);
