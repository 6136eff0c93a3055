/* check.h: what the C tests share. Each *_test.c here is a program of its own, linked with the whole kernel (../sanitize.sh). */
#ifndef ZT_CHECK_H
#define ZT_CHECK_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(condition, ...)                                                                                       \
    do {                                                                                                            \
        if (!(condition)) {                                                                                         \
            fprintf(stderr, "%s:%d: %s: ", __FILE__, __LINE__, #condition);                                         \
            fprintf(stderr, __VA_ARGS__);                                                                           \
            fputc('\n', stderr);                                                                                    \
            exit(1);                                                                                                \
        }                                                                                                           \
    } while (0)

/* splitmix64: the same numbers on every run */
static inline uint64_t check_random(uint64_t *state) {
    uint64_t z = *state += 0x9e3779b97f4a7c15ULL;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ z >> 27) * 0x94d049bb133111ebULL;
    return z ^ z >> 31;
}

static inline void check_fill(uint64_t *state, uint8_t *p, size_t n) {
    for (size_t i = 0; i < n; i++) {
        p[i] = (uint8_t)check_random(state);
    }
}

/* Exactly n bytes on the heap, so that a sanitizer sees the first byte beyond. */
static inline uint8_t *check_alloc(size_t n) {
    uint8_t *p = malloc(n != 0 ? n : 1);
    CHECK(p != NULL, "out of memory");
    return p;
}

#endif
