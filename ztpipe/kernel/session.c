/* session.c: see session.h. */
#include "session.h"

#include <stdlib.h>
#include <string.h>

#define SESSION_ALIGN 64u

static size_t session_bytes(void) { return 2 * SESSION_ALIGN + ((zt_siv_key_size() + SESSION_ALIGN - 1) & ~(size_t)(SESSION_ALIGN - 1)); }
_Static_assert(sizeof(struct zt_session) <= 2 * SESSION_ALIGN, "the expanded key follows at 2 * SESSION_ALIGN");

static struct zt_session *session_new(void) {
    uint8_t *memory = aligned_alloc(SESSION_ALIGN, session_bytes());
    if (memory == NULL) {
        return NULL;
    }
    memset(memory, 0, session_bytes());
    struct zt_session *s = (struct zt_session *)(void *)memory;
    s->siv = (zt_siv_key *)(void *)(memory + 2 * (size_t)SESSION_ALIGN);
    return s;
}

static bool fill(struct zt_sessions *s, uint32_t peer, struct zt_session *session) {
    struct zt_key_view key;
    bool found = zt_key_read(s->c->keys, peer, &key);
    session->generation = 0;
    if (found) {
        memcpy(session->salsa, key.salsa, sizeof session->salsa);
        zt_siv_key_init(session->siv, key.k0, key.k1);
        session->generation = key.generation;
    }
    explicit_bzero(&key, sizeof key);
    return found;
}

const struct zt_session *zt_session_get(struct zt_sessions *s, uint32_t peer, const struct zt_peer_view *view) {
    if (peer >= s->max || s->c->keys == NULL || view->key_generation == 0) {
        return NULL;
    }
    if (s->at[peer] == NULL) {
        s->at[peer] = session_new();
    }
    struct zt_session *session = s->at[peer];
    if (session == NULL || (session->generation != view->key_generation && !fill(s, peer, session))) {
        return NULL;
    }
    return session->generation == view->key_generation ? session : NULL;
}

static void sessions_free(struct zt_sessions *s) {
    for (uint32_t i = 0; s->at != NULL && i < s->max; i++) {
        if (s->at[i] != NULL) {
            explicit_bzero(s->at[i], session_bytes());
            free(s->at[i]);
        }
    }
    free(s->at);
}

struct zt_crypto *zt_crypto_new(struct zt_context *c, struct zt_ring_set *from_tap, struct zt_ring_set *to_peer,
                                struct zt_ring_set *from_peer, struct zt_ring_set *to_tap) {
    struct zt_crypto *s = calloc(1, sizeof *s);
    if (s == NULL) {
        return NULL;
    }
    s->c = c;
    s->sessions = (struct zt_sessions){.c = c, .max = c->tables->max_peers, .at = calloc(c->tables->max_peers, sizeof *s->sessions.at)};
    s->sealer = zt_sealer_new(c, &s->sessions, from_tap, to_peer);
    s->opener = s->sealer == NULL ? NULL : zt_opener_new(c, &s->sessions, from_peer, to_tap, s->sealer);
    if (s->sessions.at == NULL || s->opener == NULL) {
        zt_crypto_free(s);
        return NULL;
    }
    return s;
}

void zt_crypto_free(struct zt_crypto *s) {
    if (s != NULL) {
        zt_sealer_free(s->sealer);
        zt_opener_free(s->opener);
        sessions_free(&s->sessions);
        free(s);
    }
}
