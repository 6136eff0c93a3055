/* confine.h: giving up what a process does not need: capabilities, and system calls. Nothing of it can be taken back. */
#ifndef ZT_CONFINE_H
#define ZT_CONFINE_H

#include <stdint.h>

/* Keep the capabilities of the mask `keep` (bit n: capability n) that this thread has, and no others, in every set; no program that it
 * starts can get more. Threads inherit it: to be called before there is a second one. 0 or -errno. */
int zt_capabilities_keep(uint64_t keep);
/* Let capabilities survive the change to another user, until zt_capabilities_keep. 0 or -errno. */
int zt_capabilities_carry(void);
/* From here on this thread, and those it starts, may make the system calls of a worker; others fail with EPERM. Needs
 * zt_capabilities_keep before. 0 or -errno; -ENOSYS on an architecture that the filter does not know. */
int zt_system_calls_of_a_worker(void);

#endif
