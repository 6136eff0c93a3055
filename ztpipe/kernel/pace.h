/* pace.h: the end of a worker's turn: go on at once, or sleep until there is something to do. See pace.c for the protocol. */
#ifndef ZT_PACE_H
#define ZT_PACE_H

#include "context.h"

#define ZT_PACE_STAGES 8
#define ZT_PACE_SOURCES 2

/* What a turn's end leaves to Python: bits of zt_pace's result. */
#define ZT_PACE_PUNTS 1u    /* the stages have punted */
#define ZT_PACE_COMMANDS 2u /* control has sent a command */
#define ZT_PACE_BEAT 4u     /* the heartbeat is due */
#define ZT_PACE_ARM 8u      /* a source's descriptors must be armed, or disarmed: see struct zt_source */
#define ZT_PACE_BROKEN 16u  /* the descriptor `broken` reports an error */
#define ZT_PACE_STOP 32u    /* SIGTERM came (turn.h) */

/* Descriptors that a stage pulls from, to be listened to only while its output has room. */
struct zt_source {
    struct zt_ring_set *out;
    bool armed; /* as Python has set epoll */
};

struct zt_pace {
    struct zt_context *c;
    int epoll;    /* watches the bell (edge-triggered), the commands and the sources, each with its descriptor as data */
    int bell;
    int commands;
    int broken;
    uint32_t spin_us;  /* look around for so long after the last work before sleeping */
    uint32_t busy;     /* turns with work since descriptors were looked at */
    bool retry;        /* there is work that the last turn could not do */
    bool worked;       /* since the last sleep */
    int64_t next_beat; /* CLOCK_MONOTONIC, us */
    int64_t patient_until; /* strangers' punts wait until then: again after some have been handed over */
    uint32_t stages;
    uint32_t sources;
    struct zt_stage stage[ZT_PACE_STAGES];
    struct zt_source source[ZT_PACE_SOURCES];
};

/* A turn has handled so many records. Returns ZT_PACE_* bits, 0 mostly. */
uint32_t zt_pace(struct zt_pace *p, int handled);

int64_t zt_microseconds(void); /* CLOCK_MONOTONIC */

#endif
