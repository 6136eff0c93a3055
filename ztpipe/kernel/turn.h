/* turn.h: turns of a worker's stages, one after the other. */
#ifndef ZT_TURN_H
#define ZT_TURN_H

#include "pace.h"
#include "stages.h"

/* The stages of one worker; NULL: another worker's. */
struct zt_turn {
    struct zt_tap *tap;
    struct zt_crypto *crypto;
    struct zt_udp *udp;
};

/* Turn follows turn, each stage handling up to `budget` records each way, and sleep when there are none, until something is Python's.
 * Returns ZT_PACE_* bits, never 0. */
uint32_t zt_turns(const struct zt_turn *t, struct zt_pace *p, int budget);

/* From now on SIGTERM ends zt_turns, now and whenever it is called again, with ZT_PACE_STOP. bell: eventfd that ends a sleep.
 * 0 or -errno. */
int zt_stop_at_sigterm(int bell);

#endif
