/* strangers.c: see strangers.h. */
#include "strangers.h"

#include "crypto.h"
#include "net.h"
#include "table.h"

void zt_strangers_init(struct zt_strangers *s) {
    memset(s, 0, sizeof *s);
    zt_random_bytes((uint8_t *)&s->seed, sizeof s->seed);
}

bool zt_bucket_take(struct zt_bucket *b, int64_t now, uint32_t per_s, uint32_t burst_s) {
    int64_t full = (int64_t)per_s * burst_s * 1000, passed = now - b->at;
    if (b->at == 0 || passed > (int64_t)burst_s * 1000) {
        b->tokens = full;
    } else if (passed > 0) {
        b->tokens = b->tokens + passed * per_s < full ? b->tokens + passed * per_s : full;
    }
    b->at = now; /* of a clock that was set back, too: it goes on from there */
    if (b->tokens < 1000) {
        return false;
    }
    b->tokens -= 1000;
    return true;
}

static bool take(struct zt_bucket *b, int64_t now, uint32_t per_s) { return zt_bucket_take(b, now, per_s, ZT_STRANGERS_BURST_S); }

static bool is_hello(const uint8_t *packet) {
    return zt_suite(packet) == ZT_SUITE_NONE && (packet[ZT_P_VERB] & ZT_VERB_MASK) == ZT_VERB_HELLO;
}

static uint64_t source_of(const uint8_t *packet, const struct zt_endpoint *remote) {
    if (!is_hello(packet) || (packet[ZT_P_FLAGS] & ZT_HOPS) != 0) {
        return zt_get40(packet + ZT_P_SOURCE);
    }
    uint64_t prefix = 0;
    memcpy(&prefix, remote->ip, remote->family == 4 ? 3 : 6);
    return prefix | (uint64_t)remote->family << 56;
}

enum zt_counter zt_strangers_unknown(struct zt_strangers *s, const uint8_t *packet, const struct zt_endpoint *remote, int64_t now, bool root) {
    uint32_t at = (uint32_t)zt_mix64(source_of(packet, remote) ^ s->seed) & (ZT_STRANGERS_SLOTS - 1);
    uint32_t window = (uint32_t)((uint64_t)now / ZT_STRANGERS_WINDOW);
    if (s->slot[at].window != window) {
        s->slot[at].window = window;
        s->slot[at].count = 0;
    }
    if (s->slot[at].count >= ZT_STRANGERS_PER_SOURCE) {
        return ZT_C_drop_stranger_rate;
    }
    s->slot[at].count++;
    bool free = is_hello(packet) ? take(&s->hellos, now, root ? ZT_STRANGERS_HELLOS_PER_S_ROOT : ZT_STRANGERS_HELLOS_PER_S)
                                 : take(&s->others, now, ZT_STRANGERS_PER_S);
    return free ? ZT_COUNTERS : ZT_C_drop_stranger_budget;
}

enum zt_counter zt_strangers_foreign(struct zt_strangers *s, int64_t now) {
    return take(&s->foreign, now, ZT_FOREIGN_PER_S) ? ZT_COUNTERS : ZT_C_drop_foreign_budget;
}
