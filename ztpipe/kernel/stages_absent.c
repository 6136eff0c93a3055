/* Weak stand-ins, so that the module links while a stage is still missing; each goes when its file arrives. */
#include "stages.h"

#define WEAK __attribute__((weak))
#define UNUSED __attribute__((unused))

WEAK struct zt_tap *zt_tap_new(struct zt_context *c UNUSED, struct zt_ring_set *o UNUSED, struct zt_ring_set *i UNUSED) { return NULL; }
WEAK void zt_tap_free(struct zt_tap *t UNUSED) {}
WEAK int zt_tap_add(struct zt_tap *t UNUSED, int fd UNUSED, uint32_t network UNUSED) { return -38; }
WEAK int zt_tap_remove(struct zt_tap *t UNUSED, uint32_t network UNUSED) { return -38; }
WEAK int zt_tap_pull(struct zt_tap *t UNUSED, int budget UNUSED) { return 0; }
WEAK int zt_tap_push(struct zt_tap *t UNUSED, int budget UNUSED) { return 0; }
WEAK struct zt_crypto *zt_crypto_new(struct zt_context *c UNUSED, struct zt_ring_set *a UNUSED, struct zt_ring_set *b UNUSED,
                                     struct zt_ring_set *d UNUSED, struct zt_ring_set *e UNUSED) { return NULL; }
WEAK void zt_crypto_free(struct zt_crypto *s UNUSED) {}
WEAK int zt_seal(struct zt_crypto *s UNUSED, int budget UNUSED) { return 0; }
WEAK int zt_open(struct zt_crypto *s UNUSED, int budget UNUSED) { return 0; }
WEAK struct zt_udp *zt_udp_new(struct zt_context *c UNUSED, struct zt_ring_set *i UNUSED, struct zt_ring_set *o UNUSED) { return NULL; }
WEAK void zt_udp_free(struct zt_udp *u UNUSED) {}
WEAK int zt_udp_add(struct zt_udp *u UNUSED, int fd UNUSED, uint32_t binding UNUSED, int family UNUSED) { return -38; }
WEAK int zt_udp_remove(struct zt_udp *u UNUSED, uint32_t binding UNUSED) { return -38; }
WEAK int zt_udp_pull(struct zt_udp *u UNUSED, int budget UNUSED) { return 0; }
WEAK int zt_udp_push(struct zt_udp *u UNUSED, int budget UNUSED) { return 0; }
