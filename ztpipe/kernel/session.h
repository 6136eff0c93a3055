/* session.h: one crypto worker's state, and its cache of expanded session keys. */
#ifndef ZT_SESSION_H
#define ZT_SESSION_H

#include "crypto.h"
#include "stages.h"
#include "table.h"

/* Keys of one peer, expanded for use. */
struct zt_session {
    uint32_t generation; /* of the key entry that it was made from; 0: not filled */
    uint8_t salsa[32];
    zt_siv_key *siv;
};

/* By peer index; filled on first use, checked against the peer's key generation on every use. */
struct zt_sessions {
    struct zt_context *c;
    uint32_t max;
    struct zt_session **at;
};

struct zt_sealer; /* seal.c */
struct zt_opener; /* open.c */

struct zt_crypto {
    struct zt_context *c;
    struct zt_sessions sessions;
    struct zt_sealer *sealer;
    struct zt_opener *opener;
};

struct zt_sealer *zt_sealer_new(struct zt_context *c, struct zt_sessions *sessions, struct zt_ring_set *in, struct zt_ring_set *out);
void zt_sealer_free(struct zt_sealer *s);
/* `sealer`: for frames that are replicated for others. */
struct zt_opener *zt_opener_new(struct zt_context *c, struct zt_sessions *sessions, struct zt_ring_set *in, struct zt_ring_set *out,
                                struct zt_sealer *sealer);
void zt_opener_free(struct zt_opener *o);

/* Seal a frame (len >= ZT_ETHER_LEN, no super-frame) to each of `rec`'s recipients, whom `to` names (zt_recipient). rec: as from a tap
 * worker; the data are not read from it. Copies that find no room in the rings are dropped and counted: unicast waits instead. */
void zt_seal_copies(struct zt_sealer *s, const struct zt_rec *rec, const uint8_t *frame, size_t len, const uint64_t *to, int64_t now);
/* Are the rings so full that it were better to let them be emptied first? */
bool zt_sealer_crowded(const struct zt_sealer *s);
/* Hand over what was sealed. */
void zt_sealer_flush(struct zt_sealer *s);

/* The session of peer index `peer` as `view` describes it, or NULL: no key, another generation, out of memory. The pointer is good until
 * the tables' epoch changes. */
const struct zt_session *zt_session_get(struct zt_sessions *s, uint32_t peer, const struct zt_peer_view *view);

/* Seal or open a packet in place with the suite that its byte 18 names, which must be 1 or 3 (vl1-wire §5). */
static inline void zt_session_seal(const struct zt_session *s, uint8_t *packet, size_t n) {
    if (packet[18] & 0x80) {
        zt_salsa_seal(s->salsa, packet, n);
    } else {
        zt_siv_seal(s->siv, packet, n);
    }
}

static inline bool zt_session_open(const struct zt_session *s, uint8_t suite, uint8_t *packet, size_t n) {
    return (suite == 3 ? zt_siv_open(s->siv, packet, n) : zt_salsa_open(s->salsa, packet, n)) != 0;
}

/* The first min(16, n - 27) plaintext bytes from the verb on, not authenticated. */
static inline void zt_session_peek(const struct zt_session *s, uint8_t suite, const uint8_t *packet, size_t n, uint8_t out[16]) {
    if (suite == 3) {
        zt_siv_peek(s->siv, packet, n, out);
    } else {
        zt_salsa_peek(s->salsa, packet, n, out);
    }
}

#endif
