/* The end of a turn (pace.h). */
#define ZT_PACE_PUNTS ...
#define ZT_PACE_COMMANDS ...
#define ZT_PACE_BEAT ...
#define ZT_PACE_ARM ...
#define ZT_PACE_BROKEN ...
#define ZT_PACE_STOP ...
struct zt_source {
    struct zt_ring_set *out;
    bool armed;
};
struct zt_pace {
    struct zt_context *c;
    int epoll;
    int bell;
    int commands;
    int broken;
    uint32_t spin_us;
    uint32_t busy;
    bool retry;
    bool worked;
    int64_t next_beat;
    int64_t patient_until;
    uint32_t stages;
    uint32_t sources;
    struct zt_stage stage[...];
    struct zt_source source[...];
};
uint32_t zt_pace(struct zt_pace *p, int handled);
int64_t zt_microseconds(void);
