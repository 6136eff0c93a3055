/* replay.c: see replay.h. */
#include "replay.h"

bool zt_replay_seen(const struct zt_tables *t, uint64_t hash, int64_t now) {
    if (t->replay_sets == 0) {
        return false;
    }
    struct zt_replay_set *set = zt_replay_set_of(t, hash);
    uint16_t tick = (uint16_t)((uint64_t)now >> ZT_REPLAY_TICK);
    uint64_t print = (hash >> 16 == 0 ? 1 : hash >> 16) << 16;
    uint32_t first = (uint32_t)(hash >> 32); /* of equally old ones any may go, but for one packet the same */
    for (int tries = 0; tries < ZT_REPLAY_TRIES; tries++) {
        uint64_t oldest = 0;
        uint32_t at = 0, most = 0;
        for (uint32_t k = 0; k < ZT_REPLAY_WAYS; k++) {
            uint32_t i = (first + k) % ZT_REPLAY_WAYS;
            uint64_t entry = atomic_load_explicit(&set->seen[i], memory_order_relaxed);
            if (((entry ^ print) >> 16) == 0) {
                return true;
            }
            uint32_t age = entry == 0 ? 0x10000u : (uint16_t)(tick + ZT_REPLAY_LEAD - (uint16_t)entry);
            if (k == 0 || age > most) {
                most = age;
                at = i;
                oldest = entry;
            }
        }
        if (atomic_compare_exchange_strong_explicit(&set->seen[at], &oldest, print | tick, memory_order_relaxed, memory_order_relaxed)) {
            return false;
        }
    }
    return false; /* eight others were quicker, each time: not worth a lock */
}

bool zt_replay_check(const struct zt_tables *t, const uint8_t *packet, uint32_t binding, const struct zt_endpoint *remote, int64_t now) {
    uint64_t place = remote == NULL ? 0 : zt_mix64(zt_endpoint_hash(remote) + binding + 1);
    return zt_replay_seen(t, zt_replay_hash(t, packet, place), now);
}
