/* table_write.h: writing the shared tables, by control only (table.c, table_switch.c). Results of 0 and above are an index; below: -errno. */
#ifndef ZT_TABLE_WRITE_H
#define ZT_TABLE_WRITE_H

#include "table.h"

/* Bytes of a region for these maxima (powers of two, networks <= 65536; replay_sets may be 0), or 0 when they are not valid. */
size_t zt_tables_size(uint32_t max_networks, uint32_t max_peers, uint32_t max_paths, uint32_t max_members, uint32_t replay_sets);
size_t zt_keys_size(uint32_t max_peers);
/* `at`: zeroed memory of zt_tables_size bytes. 0 or -EINVAL. */
int zt_tables_init(void *at, size_t size, uint32_t max_networks, uint32_t max_peers, uint32_t max_paths, uint32_t max_members,
                   uint32_t replay_sets, uint64_t self, int64_t clock_offset);
/* May this mapping of `size` bytes be used? 0; -EPROTO not a table region; -EPROTONOSUPPORT other ABI; -EINVAL sizes do not fit. */
int zt_tables_check(const void *at, size_t size);
void zt_tables_set_clock(struct zt_tables *t, int64_t clock_offset);
void zt_tables_set_tunnel(struct zt_tables *t, bool tunnel);
void zt_tables_set_relay(struct zt_tables *t, bool relay);

/* -ENOSPC: no free entry within the probe limit. An existing entry is changed in place. */
int64_t zt_network_put(struct zt_tables *t, uint64_t nwid, uint64_t mac, uint32_t mtu, uint32_t flags);
int64_t zt_peer_put(struct zt_tables *t, uint64_t address, uint32_t flags, uint8_t suite, uint16_t binding,
                    const struct zt_endpoint *remote, uint16_t mtu);
/* Write the key of peer index `peer` and its generation in both regions; the same key again changes nothing. 0 or -errno. */
int zt_key_put(struct zt_tables *t, struct zt_key_entry *keys, uint32_t peer, const uint8_t salsa[32], const uint8_t k0[32],
               const uint8_t k1[32]);
/* -ENOENT: no such peer (or network). */
int64_t zt_path_put(struct zt_tables *t, uint32_t peer, uint16_t binding, const struct zt_endpoint *remote);
int64_t zt_member_put(struct zt_tables *t, uint32_t network, uint32_t peer, uint32_t flags, int64_t send_until);

/* `list` must have been put (zt_policy_put). -ENOENT: no such network. */
int64_t zt_group_put(struct zt_tables *t, uint32_t network, uint64_t mac, uint32_t adi, int64_t renew_at, int64_t until,
                     const struct zt_policy_ref *list);

/* An existing entry is changed in place; if only its times change, the epoch does not. -ENOENT: no such network. */
int64_t zt_bridged_put(struct zt_tables *t, uint32_t network, uint64_t mac, uint64_t address, int64_t renew_at, int64_t until);

/* Copy a policy to where no reference points any more. 0 or -EINVAL. */
int zt_policy_put(struct zt_tables *t, uint32_t at, const void *policy, uint32_t size);
/* Let an entry refer to a policy that was put, or to none. 0 or -ENOENT. */
int zt_network_set_policy(struct zt_tables *t, uint32_t network, const struct zt_policy_ref *policy);
int zt_member_set_policy(struct zt_tables *t, uint32_t member, const struct zt_policy_ref *policy);

/* 0 or -ENOENT. Removing a peer removes its key, paths and memberships; removing a network its memberships and
 * groups; MACs behind bridges are to be removed one by one before. */
int zt_network_remove(struct zt_tables *t, uint64_t nwid);
int zt_peer_remove(struct zt_tables *t, struct zt_key_entry *keys, uint64_t address);
int zt_path_remove(struct zt_tables *t, uint32_t peer, uint16_t binding, const struct zt_endpoint *remote);
int zt_member_remove(struct zt_tables *t, uint32_t network, uint32_t peer);
int zt_group_remove(struct zt_tables *t, uint32_t network, uint64_t mac, uint32_t adi);
int zt_bridged_remove(struct zt_tables *t, uint32_t network, uint64_t mac);

/* Indices of paths that were received over, and of peers that were sent to, at node time `since` or later: how many, at most `max`. */
uint32_t zt_paths_moved(const struct zt_tables *t, int64_t since, uint32_t *out, uint32_t max);
uint32_t zt_peers_moved(const struct zt_tables *t, int64_t since, uint32_t *out, uint32_t max);

/* Iteration: the first used index >= `from`, or ZT_NONE. */
uint32_t zt_network_next(const struct zt_tables *t, uint32_t from);
uint32_t zt_peer_next(const struct zt_tables *t, uint32_t from);
uint32_t zt_path_next(const struct zt_tables *t, uint32_t from);
uint32_t zt_member_next(const struct zt_tables *t, uint32_t from);

#endif
