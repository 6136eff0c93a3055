/* The replay guard (replay.h). */
#define ZT_REPLAY_WAYS ...
uint64_t zt_replay_hash(const struct zt_tables *t, const uint8_t *packet, uint64_t place);
bool zt_replay_seen(const struct zt_tables *t, uint64_t hash, int64_t now);
bool zt_replay_check(const struct zt_tables *t, const uint8_t *packet, uint32_t binding, const struct zt_endpoint *remote, int64_t now);
