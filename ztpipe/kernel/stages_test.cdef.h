/* Parts of the stages that tests and benchmarks reach one by one: segment.h, coalesce.h, reassemble.h, flow.h. */
struct zt_vnet {
    ...;
};
struct zt_super {
    uint32_t segments;
    ...;
};
bool zt_super_init(struct zt_super *s, const struct zt_vnet *vnet, const uint8_t *frame, size_t len);
uint32_t zt_super_size(const struct zt_super *s, uint32_t i);
void zt_super_emit(const struct zt_super *s, uint32_t i, uint8_t *body);

struct zt_coalescer {
    ...;
};
void zt_coalescer_init(struct zt_coalescer *k, struct zt_context *c, struct zt_ring_ref *ring);
bool zt_coalescer_room(struct zt_coalescer *k);
void zt_coalescer_add(struct zt_coalescer *k, uint32_t network, uint32_t flow, const uint8_t *macs, const uint8_t *body, size_t n);
void zt_coalescer_flush(struct zt_coalescer *k);

struct zt_reassembler;
struct zt_reassembler *zt_reassembler_new(struct zt_context *c);
void zt_reassembler_free(struct zt_reassembler *r);
size_t zt_reassembler_add(struct zt_reassembler *r, int64_t now, const struct zt_endpoint *remote, uint16_t binding,
                          const uint8_t *datagram, size_t n, uint8_t **packet);

size_t zt_lz4_expand(const uint8_t *block, size_t n, uint8_t *out, size_t room);

uint32_t zt_flow_hash(const uint8_t *body, size_t n, uint64_t seed);

#define ZT_BENCH_SEAL ...
#define ZT_BENCH_OPEN ...
int64_t zt_bench_stage(struct zt_crypto *crypto, int stage, struct zt_ring_ref *in, struct zt_ring_ref *out,
                       const uint8_t *image, size_t n, int times);
int64_t zt_bench_replay(const struct zt_tables *t, const uint64_t *hash, uint8_t *seen, int n, int64_t now);
int64_t zt_bench_ring(struct zt_ring_ref *producer, struct zt_ring_ref *consumer, int times);
