/* The stages (stages.h): what a worker's turn consists of, one call per batch. */
struct zt_tap;
struct zt_crypto;
struct zt_udp;

struct zt_tap *zt_tap_new(struct zt_context *c, struct zt_ring_set *to_crypto, struct zt_ring_set *from_crypto);
void zt_tap_free(struct zt_tap *t);
int zt_tap_add(struct zt_tap *t, int fd, uint32_t network);
int zt_tap_remove(struct zt_tap *t, uint32_t network);
int zt_tap_pull(struct zt_tap *t, int budget);
int zt_tap_push(struct zt_tap *t, int budget);

struct zt_crypto *zt_crypto_new(struct zt_context *c, struct zt_ring_set *from_tap, struct zt_ring_set *to_peer,
                                struct zt_ring_set *from_peer, struct zt_ring_set *to_tap);
void zt_crypto_free(struct zt_crypto *s);
int zt_seal(struct zt_crypto *s, int budget);
int zt_open(struct zt_crypto *s, int budget);

struct zt_udp *zt_udp_new(struct zt_context *c, struct zt_ring_set *from_crypto, struct zt_ring_set *to_crypto);
void zt_udp_free(struct zt_udp *u);
int zt_udp_add(struct zt_udp *u, int fd, uint32_t binding, int family);
int zt_udp_remove(struct zt_udp *u, uint32_t binding);
int zt_udp_pull(struct zt_udp *u, int budget);
int zt_udp_push(struct zt_udp *u, int budget);
