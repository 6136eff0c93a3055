/* lz4.h: expanding an LZ4 block (vl1-wire §5.9), the only compression that VL1 has. Compressing is left to the slow path. */
#ifndef ZT_LZ4_H
#define ZT_LZ4_H

#include <stddef.h>
#include <stdint.h>

/* Bytes written to `out`, or 0: damaged, empty, or longer than `room`. Reads and writes nothing beyond what it was given. */
size_t zt_lz4_expand(const uint8_t *block, size_t n, uint8_t *out, size_t room);

#endif
