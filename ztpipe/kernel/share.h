/* share.h: what frames for groups may cost while frames for single members flow. One of these per stage that repeats or accepts frames for
 * groups.
 *
 * While there is little else, groups take what they want. Once unicast is busy they live on an allowance: so many copies a second whatever
 * happens, and one more for so many units of unicast handled; what they do not use waits for them, up to a second's worth. A frame with more
 * recipients than are left still goes to all of them, and the debt is paid off before the next. What is over is dropped and counted
 * (drop_group_share): unicast has the rest of the worker to itself.
 */
#ifndef ZT_SHARE_H
#define ZT_SHARE_H

#include <stdbool.h>
#include <stdint.h>

#define ZT_SHARE_COPIES_PER_S 4000 /* beside busy unicast */
#define ZT_SHARE_WINDOW 20         /* ms over which unicast is found busy or not */
#define ZT_SHARE_BUSY 4u           /* units in it */
#define ZT_SHARE_FRAMES 20u        /* frames or super-frames from the TAP, and ... */
#define ZT_SHARE_PACKETS 80u       /* ... packets from the wire, that earn one copy */

struct zt_share {
    int64_t at;     /* node ms: when tokens were added last; 0: never */
    int64_t tokens; /* thousandths of a copy; below 0: debt */
    int64_t window; /* when this window began */
    uint32_t units; /* of unicast in it */
    uint32_t price; /* units that earn a copy */
    bool busy;      /* unicast was, in the window before */
};

/* At the begin of every turn. */
static inline void zt_share_turn(struct zt_share *s, int64_t now) {
    const int64_t full = (int64_t)ZT_SHARE_COPIES_PER_S * 1000;
    int64_t passed = now - s->at;
    if (s->at == 0 || passed >= 1000 || passed < 0) {
        s->tokens = full;
    } else {
        s->tokens += passed * ZT_SHARE_COPIES_PER_S;
        s->tokens = s->tokens < full ? s->tokens : full;
    }
    s->at = now;
    if (now - s->window >= ZT_SHARE_WINDOW || now < s->window) {
        s->busy = s->units >= ZT_SHARE_BUSY && now - s->window < 2 * ZT_SHARE_WINDOW;
        s->window = now;
        s->units = 0;
    }
}

/* So much unicast was handled. */
static inline void zt_share_unicast(struct zt_share *s, uint32_t units) {
    s->units += units;
    s->tokens += units * 1000 / s->price;
}

/* May a frame for a group go on? */
static inline bool zt_share_left(const struct zt_share *s) { return !s->busy || s->tokens > 0; }

/* It did, to so many. */
static inline void zt_share_spend(struct zt_share *s, uint32_t copies) { s->tokens -= s->busy ? (int64_t)copies * 1000 : 0; }

#endif
