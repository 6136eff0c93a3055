/* context.h: making the handles that stages work with (stages.h), once per process, and the loop's side of the sleep protocol. */
#ifndef ZT_CONTEXT_H
#define ZT_CONTEXT_H

#include "stages.h"

/* ---- what a process shares with its stages --------------------------------------------------------------------------- */

/* `keys` may be NULL. Allocates the punt buffer. NULL: out of memory. */
struct zt_context *zt_context_new(struct zt_tables *tables, struct zt_key_entry *keys, void *counters, struct zt_bell *bell,
                                  uint32_t offload);
void zt_context_free(struct zt_context *c);

/* ---- rings -------------------------------------------------------------------------------------------------------------- */

/* Bytes of a ring of `slots` (a power of two from 2 to 4096), or 0. */
size_t zt_ring_size(uint32_t slots);
/* `at`: zeroed memory of zt_ring_size bytes. 0 or -EINVAL. */
int zt_ring_init(void *at, size_t size, uint32_t slots, uint32_t producer, uint32_t consumer);
/* 0; -EPROTO not a ring; -EPROTONOSUPPORT other ABI; -EINVAL sizes do not fit, or indices further apart than the ring is long. */
int zt_ring_check(const void *at, size_t size);
/* Slots published and not yet released. */
uint32_t zt_ring_used(const struct zt_ring *r);
/* Give everything that waits back to the producer; only while the consumer does not run. Returns how many slots. */
uint32_t zt_ring_sweep(struct zt_ring *r);

struct zt_ring_set *zt_ring_set_new(void);
void zt_ring_set_free(struct zt_ring_set *s);
/* Append one end of a ring; `bell` and `fd` belong to the worker at the other end (NULL and -1: same process). Continues where the ring
 * stands. 0, -ENOSPC or what zt_ring_check says. */
int zt_ring_set_add(struct zt_ring_set *s, void *ring, size_t size, struct zt_bell *bell, int fd);

/* ---- before sleeping ------------------------------------------------------------------------------------------------------ */

/* A stage as the loop sees it. NULL: that side is a file descriptor, not a ring. */
struct zt_stage {
    struct zt_ring_set *in;
    struct zt_ring_set *out;
};

/* Is a stage waiting for a slot of `out`? True only while the consumer knows that we wait, so that it will ring. */
bool zt_rings_blocked(struct zt_ring_set *out);
/* How many of the stages have input in a ring and no blocked output. To be called after zt_bell_prepare, whose fence it relies on. */
int zt_rings_pending(const struct zt_stage *stages, int count);
/* How many have input in a ring, whatever their outputs. */
int zt_rings_filled(const struct zt_stage *stages, int count);

/* ---- the process ------------------------------------------------------------------------------------------------------------ */

/* Die when the parent does (-ESRCH: it already has: its pid is not `parent`), and be called `name` in ps. 0 or -errno. */
int zt_process_setup(int parent, const char *name);
/* Scheduling class of the calling thread, keeping its niceness, and its time slice (100 us to 100 ms; a kernel before 6.12 ignores it).
 * 0 or -errno. */
int zt_process_schedule(bool batch, uint32_t slice_us);

const char *zt_counter_name(int i); /* NULL when out of range */
const char *zt_counter_text(int i);

#endif
