/* pace.c: see pace.h.
 *
 * While there is work, turn follows turn, and descriptors are looked at now and then. Without work the worker sleeps:
 *
 *   1. flag up (zt_bell_prepare), fence, and one more look at the rings: a producer that published before it saw the flag is seen here,
 *      one that publishes later sees the flag and rings the bell;
 *   2. epoll over the TAPs or sockets, the bell and the commands. Descriptors whose stage waits for a slot are not listened to until the
 *      bell says that there is one, so that epoll never spins;
 *   3. flag down, and the turn begins, with nothing between the wake-up and the stages.
 *
 * A worker that stopped working a moment ago looks around for `spin_us` first, giving the CPU away in between.
 */
#include "pace.h"

#include <sched.h>
#include <sys/epoll.h>
#include <time.h>

#define TURNS_PER_LOOK 32u /* turns with work after which descriptors other than the data's are looked at */
#define RETRY_MS 1         /* a stage that holds input and cannot hand it on to a descriptor (send buffer full) tries again after this */
#define EVENTS 16
#define PATIENCE_US 50000 /* how long strangers wait for others, once some have been handed over */

int64_t zt_microseconds(void) {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

/* Is there something to hand over to the slow path now? What strangers sent goes one by one while they are few, and otherwise together:
 * waking the slow path for each costs several times what it does for them. */
static uint32_t punted(struct zt_pace *p) {
    const struct zt_punts *punts = p->c->punts;
    if (punts->count == 0) {
        return 0;
    }
    if (punts->urgent == 0) {
        int64_t now = zt_microseconds();
        if (now < p->patient_until && punts->used < ZT_PUNT_BYTES / 2) {
            return 0;
        }
        p->patient_until = now + PATIENCE_US;
    }
    return ZT_PACE_PUNTS;
}

/* Until something is due that comes by itself, in ms, rounded up. */
static int time_left(const struct zt_pace *p, int64_t now) {
    int64_t until = p->c->punts->count != 0 && p->patient_until < p->next_beat ? p->patient_until : p->next_beat;
    return until > now ? (int)((until - now) / 1000 + 1) : 0;
}

/* Wait for a descriptor. Sets *ready to how many had something. */
static uint32_t look(struct zt_pace *p, int timeout, int *ready) {
    struct epoll_event event[EVENTS];
    uint32_t todo = 0;
    int n = epoll_wait(p->epoll, event, EVENTS, timeout);
    p->busy = 0;
    for (int i = 0; i < n; i++) {
        int fd = event[i].data.fd;
        if (fd == p->bell) {
            zt_count(p->c, ZT_C_bells, 1);
        } else if (fd == p->commands) {
            todo |= ZT_PACE_COMMANDS;
        } else if ((event[i].events & (EPOLLERR | EPOLLHUP)) != 0) {
            p->broken = fd;
            todo |= ZT_PACE_BROKEN;
        }
    }
    *ready = n;
    return todo;
}

static uint32_t beat(const struct zt_pace *p, int64_t now) { return now >= p->next_beat ? ZT_PACE_BEAT : 0; }

/* Must what epoll listens to be changed before a sleep? */
static bool misarmed(const struct zt_pace *p) {
    for (uint32_t i = 0; i < p->sources; i++) {
        if (p->source[i].armed == (p->c->held || zt_rings_blocked(p->source[i].out))) {
            return true;
        }
    }
    return false;
}

/* Look around until something comes up or the time is over. True: it has. */
static bool spin(struct zt_pace *p, int64_t now, uint32_t *todo) {
    int64_t until = now + p->spin_us;
    int ready = 0;
    do {
        if (zt_rings_pending(p->stage, (int)p->stages) != 0) {
            return true;
        }
        if (p->sources != 0) {
            *todo |= look(p, 0, &ready);
        } else {
            sched_yield();
        }
    } while (ready == 0 && zt_microseconds() < until);
    return ready != 0;
}

static uint32_t sleep_until_work(struct zt_pace *p) {
    int64_t now = zt_microseconds();
    uint32_t todo = beat(p, now);
    int ready;
    if (todo != 0) {
        return todo;
    }
    if (p->spin_us != 0 && !p->retry && p->worked) {
        p->worked = false;
        if (spin(p, now, &todo)) {
            return todo;
        }
    }
    zt_bell_prepare(p->c->bell);
    bool pending = zt_rings_pending(p->stage, (int)p->stages) != 0, arm = misarmed(p);
    if ((pending && !p->retry) || arm) {
        zt_bell_awake(p->c->bell);
        p->retry = pending; /* if the next turn cannot handle it either, a descriptor does not take it */
        return todo | (arm ? ZT_PACE_ARM : 0);
    }
    p->retry = pending;
    zt_count(p->c, ZT_C_sleeps, 1);
    todo |= look(p, pending ? RETRY_MS : time_left(p, now), &ready);
    zt_bell_awake(p->c->bell);
    return todo;
}

uint32_t zt_pace(struct zt_pace *p, int handled) {
    uint32_t todo = punted(p);
    int ready;
    zt_count(p->c, ZT_C_turns, 1);
    if (handled != 0) {
        p->retry = false;
        p->worked = true;
        if (++p->busy >= TURNS_PER_LOOK) {
            todo |= look(p, 0, &ready) | beat(p, zt_microseconds());
        }
        return todo;
    }
    return todo != 0 ? todo : sleep_until_work(p);
}
