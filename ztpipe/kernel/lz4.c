/* lz4.c: see lz4.h. A block is a row of sequences: a token, literals, and a copy of what was written before; the last has no copy. */
#include "lz4.h"

#include <stdbool.h>
#include <string.h>

#define LEAST_COPY 4u

/* A length: four bits of the token, and when they are all set, bytes to be added up to the first that is not 255. */
static bool read_length(const uint8_t **at, const uint8_t *end, size_t *length) {
    if (*length != 15) {
        return true;
    }
    for (uint8_t more = 255; more == 255;) {
        if (*at == end) {
            return false;
        }
        more = *(*at)++;
        *length += more;
    }
    return true;
}

/* Byte by byte where source and target overlap: the copy repeats itself. */
static void copy_back(uint8_t *to, size_t back, size_t length) {
    if (back >= length) {
        memcpy(to, to - back, length);
        return;
    }
    for (size_t i = 0; i < length; i++) {
        to[i] = to[i - back];
    }
}

size_t zt_lz4_expand(const uint8_t *block, size_t n, uint8_t *out, size_t room) {
    const uint8_t *at = block, *end = block + n;
    size_t done = 0;
    while (at != end) {
        uint8_t token = *at++;
        size_t literals = token >> 4, length = token & 15;
        if (!read_length(&at, end, &literals) || literals > (size_t)(end - at) || literals > room - done) {
            return 0;
        }
        memcpy(out + done, at, literals);
        at += literals;
        done += literals;
        if (at == end) {
            return done;
        }
        if (end - at < 2) {
            return 0;
        }
        size_t back = at[0] | (size_t)at[1] << 8;
        at += 2;
        if (!read_length(&at, end, &length) || back == 0 || back > done || length + LEAST_COPY > room - done) {
            return 0;
        }
        copy_back(out + done, back, length + LEAST_COPY);
        done += length + LEAST_COPY;
    }
    return 0; /* the last sequence must end behind its literals */
}
