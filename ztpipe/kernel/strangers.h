/* strangers.h: what unknown senders may cost the slow path. Everything here is decided by the header alone, before Python sees a byte.
 *
 * A HELLO that came directly counts for its source prefix (IPv4 /24, IPv6 /48), anything else for the ZeroTier address it claims; and each
 * for one of two budgets of all strangers together. The slow path has its own, narrower gates in front of key agreements and address hashes (docs/strangers.md);
 * these ones keep it from being called. One of these per crypto worker.
 */
#ifndef ZT_STRANGERS_H
#define ZT_STRANGERS_H

#include "stages.h"

#define ZT_STRANGERS_WINDOW 1000     /* ms */
#define ZT_STRANGERS_PER_SOURCE 32u  /* per window: the copies of a HELLO that leave from each socket, twice and more */
#define ZT_STRANGERS_HELLOS_PER_S 100u
#define ZT_STRANGERS_HELLOS_PER_S_ROOT 300u /* roots are there to meet strangers */
#define ZT_STRANGERS_PER_S 500u             /* all else, which costs less */
#define ZT_FOREIGN_PER_S 2000u
#define ZT_STRANGERS_BURST_S 4u

#define ZT_STRANGERS_SLOTS 4096u /* power of two */

struct zt_bucket {
    int64_t at;     /* 0: never used, and full */
    int64_t tokens; /* thousandths */
};

struct zt_strangers {
    uint64_t seed; /* nobody outside can choose whom he shares a slot with */
    struct zt_bucket hellos;
    struct zt_bucket others;
    struct zt_bucket foreign;
    struct {
        uint32_t window;
        uint32_t count;
    } slot[ZT_STRANGERS_SLOTS];
};

void zt_strangers_init(struct zt_strangers *s);

/* Take one of `per_s` tokens a second, of which `burst_s` seconds' worth may wait. False: there is none. */
bool zt_bucket_take(struct zt_bucket *b, int64_t now, uint32_t per_s, uint32_t burst_s);

/* May this packet (n >= 28) of an unknown sender be punted? ZT_COUNTERS: yes; else the drop to count. */
enum zt_counter zt_strangers_unknown(struct zt_strangers *s, const uint8_t *packet, const struct zt_endpoint *remote, int64_t now, bool root);

/* And this datagram that is not for us, or of a suite that C does not open? */
enum zt_counter zt_strangers_foreign(struct zt_strangers *s, int64_t now);

#endif
