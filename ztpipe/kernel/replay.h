/* replay.h: which packets were seen lately. VL1 has no sequence numbers, so a copy of a packet is as authentic as the packet.
 *
 * Packet IDs are random (vl1-wire §4.3), so memory of them is all there is: a table of sets of eight, one cache line each, shared by all
 * crypto workers and control, since a copy may come from another address and so to another worker. A packet stays for as long as fewer
 * than eight younger ones have fallen into its set, in whatever order they arrive. Ask about authentic packets only: nobody else can then
 * push anything out.
 *
 * No locks: a set changes by compare and swap of its oldest entry. Two workers that ask about one packet at the same time choose the same
 * entry, so that one of them fails, looks again, and finds it.
 */
#ifndef ZT_REPLAY_H
#define ZT_REPLAY_H

#include "net.h"
#include "table.h"

#define ZT_REPLAY_TICK 6   /* 2^6 ms */
#define ZT_REPLAY_LEAD 256 /* ticks that another process' clock may be ahead */
#define ZT_REPLAY_TRIES 8

/* What tells a sealed packet (n >= 28) from all others: its ID and MAC. `place` not 0: and where it came from, for what a sender rightly
 * sends from several sockets (HELLO, ECHO). Nobody outside knows the seed, so nobody can aim at a set. */
static inline uint64_t zt_replay_hash(const struct zt_tables *t, const uint8_t *packet, uint64_t place) {
    return zt_mix64(zt_mix64(zt_get64(packet) ^ t->replay_seed) ^ zt_get64(packet + 19) ^ place);
}

static inline struct zt_replay_set *zt_replay_set_of(const struct zt_tables *t, uint64_t hash) {
    struct zt_replay_set *sets = (struct zt_replay_set *)(void *)((uint8_t *)(uintptr_t)t + t->replay_at);
    return &sets[(uint32_t)hash & (t->replay_sets - 1)];
}

/* Fetch what zt_replay_seen will look at. */
static inline void zt_replay_prefetch(const struct zt_tables *t, uint64_t hash) {
    if (t->replay_sets != 0) {
        __builtin_prefetch(zt_replay_set_of(t, hash), 1);
    }
}

/* Was it seen before? It is from now on. `now`: node ms. */
bool zt_replay_seen(const struct zt_tables *t, uint64_t hash, int64_t now);

/* Both in one, for Python. `remote`: where it came from, or NULL if that is not to count. */
bool zt_replay_check(const struct zt_tables *t, const uint8_t *packet, uint32_t binding, const struct zt_endpoint *remote, int64_t now);

#endif
