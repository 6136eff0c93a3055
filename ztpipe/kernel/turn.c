/* turn.c: see turn.h.
 *
 * Python is entered only when there is something for it: its interpreter would cost 6 us a turn, which is a tenth of what a turn under
 * load takes. SIGTERM is noticed here for the same reason, and rings the bell, because a signal that comes between the last look and
 * the sleep would not end the sleep.
 */
#include "turn.h"

#include <errno.h>
#include <signal.h>
#include <unistd.h>

static volatile sig_atomic_t stopped;
static volatile sig_atomic_t stop_bell = -1;

static void on_sigterm(int signal) {
    (void)signal;
    int saved = errno;
    uint64_t one = 1;
    stopped = 1;
    ssize_t rung = write(stop_bell, &one, sizeof one); /* fails only while the bell is ringing already */
    (void)rung;
    errno = saved;
}

int zt_stop_at_sigterm(int bell) {
    struct sigaction action = {.sa_handler = on_sigterm};
    stop_bell = bell;
    sigemptyset(&action.sa_mask);
    return sigaction(SIGTERM, &action, NULL) == 0 ? 0 : -errno;
}

/* Outwards before inwards, each the way the frames go: what one stage makes the next finds in the cache. */
static int turn(const struct zt_turn *t, int budget) {
    int handled = t->tap != NULL ? zt_tap_pull(t->tap, budget) : 0;
    handled += t->crypto != NULL ? zt_seal(t->crypto, budget) : 0;
    if (t->udp != NULL) {
        handled += zt_udp_push(t->udp, budget) + zt_udp_pull(t->udp, budget);
    }
    handled += t->crypto != NULL ? zt_open(t->crypto, budget) : 0;
    return handled + (t->tap != NULL ? zt_tap_push(t->tap, budget) : 0);
}

uint32_t zt_turns(const struct zt_turn *t, struct zt_pace *p, int budget) {
    while (!stopped) {
        uint32_t todo = zt_pace(p, turn(t, budget));
        if (todo != 0) {
            return todo;
        }
    }
    return ZT_PACE_STOP;
}
