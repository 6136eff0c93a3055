/* udp.c: UDP sockets <-> rings of the crypto workers (stages.h).
 *
 * Pull: one recvmsg takes what the kernel's GRO has gathered, straight into the slot of the ring that the datagram before it took. Where GRO
 * is off or has nothing to gather (a poor card, many senders), one recvmmsg takes many, and equal ones of one sender are put back to back as
 * GRO would have. Push: a record of equal datagrams leaves as one message with UDP_SEGMENT, and as many records as there are leave in one
 * sendmmsg. Where the kernel refuses UDP_SEGMENT, the socket goes on without it.
 *
 * What is for others goes no further than this worker while the node is a root (relay.h).
 */
#include "relay.h"
#include "slots.h"
#include "table.h"

#include <errno.h>
#include <stdlib.h>

#define UDP_PAYLOAD 65535u
#define UDP_RUNS 64u /* what the kernel gathers at most, so a record falls apart into at most so many */
#define UDP_ROOM (UDP_RUNS * 2 * ZT_REC_ALIGN + ((UDP_PAYLOAD + ZT_REC_ALIGN - 1) & ~(ZT_REC_ALIGN - 1)))
#define UDP_BULK (48u * 1024u) /* a slot this full is handed over at once */
#define UDP_BURST 32           /* receive calls on one socket before the next has its turn */
#define WAITING 32u            /* messages per recvmmsg */
#define STRIDE (UDP_PAYLOAD + 1 + 4096 + 320) /* of their buffers: not all in the same sets of the caches */
#define PLAIN_BYTES 10240u     /* longer than any VL1 packet; without GRO no message need be longer */
#define SINGLES 16             /* so many more datagrams that GRO did not gather than such that it did, and recvmmsg takes them */
#define GATHERED 1024          /* so many that it did count at most: a burst of strangers' does not make a stream be taken by recvmmsg */

/* Messages of one socket that recvmmsg gave; those from `next` on are still to be taken. */
struct zt_waiting {
    uint32_t next, got;
    uint32_t binding;
    struct mmsghdr message[WAITING];
    struct iovec iov[WAITING];
    union zt_name name[WAITING];
    union zt_control control[WAITING];
    uint8_t data[WAITING][STRIDE];
};

struct zt_udp {
    struct zt_context *c;
    struct zt_reader in[ZT_MAX_RINGS];
    struct zt_writer out[ZT_MAX_RINGS];
    uint32_t ins, outs;
    uint32_t guess;
    uint32_t pull_turn;
    uint32_t push_turn;
    bool relaying; /* in this call of pull */
    struct zt_sockets sockets;
    struct zt_outbox box;
    struct zt_relay *relay;
    struct zt_waiting waiting;
    uint8_t mixed[UDP_PAYLOAD]; /* a record of several fates */
};

struct zt_udp *zt_udp_new(struct zt_context *c, struct zt_ring_set *from_crypto, struct zt_ring_set *to_crypto) {
    struct zt_udp *u = calloc(1, sizeof *u);
    if (u == NULL) {
        return NULL;
    }
    u->c = u->box.c = c;
    u->relay = zt_relay_new(c, &u->box, &u->sockets);
    if (u->relay == NULL) {
        free(u);
        return NULL;
    }
    for (; u->ins < from_crypto->count; u->ins++) {
        u->in[u->ins].ring = &from_crypto->ring[u->ins];
    }
    for (; u->outs < to_crypto->count; u->outs++) {
        u->out[u->outs].ring = &to_crypto->ring[u->outs];
    }
    return u;
}

void zt_udp_free(struct zt_udp *u) {
    if (u != NULL) {
        zt_relay_free(u->relay);
        free(u);
    }
}

/* family: 4 or 6, or AF_INET or AF_INET6. */
int zt_udp_add(struct zt_udp *u, int fd, uint32_t binding, int family) {
    bool v6 = family == 6 || family == AF_INET6;
    if (fd < 0 || binding > 0xffff || (!v6 && family != 4 && family != AF_INET)) {
        return -EINVAL;
    }
    if (u->sockets.count == ZT_SOCKETS) {
        return -ENOSPC;
    }
    if ((u->c->offload & ZT_OFFLOAD_UDP_GRO) != 0) {
        int one = 1;
        (void)setsockopt(fd, SOL_UDP, UDP_GRO, &one, sizeof one); /* refused: recvmsg gives single datagrams, which is as good */
    }
    u->sockets.at[u->sockets.count++] = (struct zt_socket){.fd = fd, .binding = binding, .v6 = v6};
    return 0;
}

int zt_udp_remove(struct zt_udp *u, uint32_t binding) {
    uint32_t kept = 0;
    for (uint32_t i = 0; i < u->sockets.count; i++) {
        if (u->sockets.at[i].binding != binding) {
            u->sockets.at[kept++] = u->sockets.at[i];
        }
    }
    bool removed = kept != u->sockets.count;
    u->sockets.count = kept;
    return removed ? 0 : -ENOENT;
}

/* ---- pull ------------------------------------------------------------------------------------------------------------------- */

static bool from_name(struct zt_endpoint *e, const union zt_name *n) {
    memset(e, 0, sizeof *e);
    if (n->any.sa_family == AF_INET) {
        e->family = 4;
        e->port = ntohs(n->v4.sin_port);
        memcpy(e->ip, &n->v4.sin_addr, 4);
        return true;
    }
    e->port = ntohs(n->v6.sin6_port);
    const uint8_t *ip = n->v6.sin6_addr.s6_addr;
    bool is_v4 = memcmp(ip, zt_mapped_prefix, sizeof zt_mapped_prefix) == 0;
    e->family = is_v4 ? 4 : 6;
    memcpy(e->ip, is_v4 ? ip + sizeof zt_mapped_prefix : ip, is_v4 ? 4 : 16);
    return n->any.sa_family == AF_INET6;
}

static bool all_have_room(struct zt_udp *u) {
    for (uint32_t i = 0; i < u->outs; i++) {
        if (!zt_writer_room(u->c, &u->out[i], UDP_ROOM)) {
            return false;
        }
    }
    return u->outs != 0;
}

/* Give a received record, wherever it lies, to the ring of its remote; what was read into the right slot stays where it is. */
static void dispatch(struct zt_udp *u, const struct zt_rec *read, const uint8_t *data) {
    uint32_t ring = u->outs == 1 ? 0 : (uint32_t)(zt_endpoint_hash(&read->remote) >> 32) % u->outs;
    struct zt_writer *w = &u->out[ring];
    struct zt_rec *rec = zt_writer_at(w);
    if (rec != read) {
        memcpy(rec, read, sizeof *rec);
        memcpy(zt_rec_data(rec), data, read->len);
    }
    u->guess = ring;
    zt_writer_end(w, rec);
}

/* As much of a record as has one fate. */
static void dispatch_part(struct zt_udp *u, const struct zt_rec *whole, const uint8_t *data, uint32_t len) {
    struct zt_rec part = *whole;
    part.len = len;
    part.nseg = (uint16_t)((len + whole->seg - 1) / whole->seg);
    dispatch(u, &part, data);
}

/* A record has been received: sort out what is for others. What is in its place already stays there if all of it is for us. */
static void take(struct zt_udp *u, const struct zt_rec *rec, uint8_t *data) {
    zt_count(u->c, ZT_C_udp_receive_datagrams, rec->nseg);
    zt_count(u->c, ZT_C_udp_receive_bytes, rec->len);
    bool keep = true;
    uint32_t n = u->relaying ? zt_relay_take(u->relay, rec, data, rec->len, &keep) : rec->len;
    if (n == rec->len) {
        if (keep) {
            dispatch(u, rec, data);
        }
        return;
    }
    struct zt_rec head = *rec;
    memcpy(u->mixed, data, head.len);
    for (uint32_t at = 0;;) {
        if (keep) {
            dispatch_part(u, &head, u->mixed + at, n);
        }
        at += n;
        if (at == head.len) {
            return;
        }
        n = zt_relay_take(u->relay, &head, u->mixed + at, head.len - at, &keep);
    }
}

static uint32_t gro_size(const struct msghdr *m) {
    for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c != NULL; c = CMSG_NXTHDR((struct msghdr *)(uintptr_t)m, c)) {
        if (c->cmsg_level == SOL_UDP && c->cmsg_type == UDP_GRO) {
            int size;
            memcpy(&size, CMSG_DATA(c), sizeof size);
            return size > 0 && size <= (int)UDP_PAYLOAD ? (uint32_t)size : 0;
        }
    }
    return 0;
}

/* Fill in a record for `got` bytes received as `m` says. False: not usable, counted. */
static bool describe(struct zt_udp *u, uint32_t binding, struct zt_rec *rec, const struct msghdr *m, size_t got) {
    if ((m->msg_flags & MSG_TRUNC) != 0) {
        zt_count(u->c, ZT_C_drop_truncated_datagram, 1);
        return false;
    }
    if (got == 0 || !from_name(&rec->remote, m->msg_name)) {
        zt_count(u->c, ZT_C_drop_short_datagram, 1);
        return false;
    }
    uint32_t size = gro_size(m);
    size = size == 0 || size > got ? (uint32_t)got : size;
    rec->len = (uint32_t)got;
    rec->peer = ZT_NONE;
    rec->binding = (uint16_t)binding;
    rec->seg = (uint16_t)size;
    rec->nseg = (uint16_t)((got + size - 1) / size);
    return true;
}

/* Is gathering worth it? recvmmsg takes single datagrams faster, but has to copy what was gathered. */
static void judge_gro(struct zt_socket *s, uint32_t nseg) {
    int32_t sum = nseg == 1 ? s->gathered - 1 : s->gathered + (int32_t)nseg;
    s->gathered = sum > GATHERED ? GATHERED : sum < -SINGLES ? -SINGLES : sum;
}

/* One receive call, for what GRO has gathered: into its place. How many messages it gave; 0: the socket is empty; -1: no room. */
static int pull_gathered(struct zt_udp *u, struct zt_socket *s) {
    if (!all_have_room(u)) {
        return -1;
    }
    struct zt_rec *rec = zt_writer_begin(&u->out[u->guess]);
    union zt_name name;
    union zt_control control;
    struct iovec iov = {.iov_base = zt_rec_data(rec), .iov_len = UDP_PAYLOAD};
    struct msghdr m = {.msg_name = &name, .msg_namelen = sizeof name, .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control,
                       .msg_controllen = sizeof control};
    ssize_t got = recvmsg(s->fd, &m, MSG_DONTWAIT);
    if (got < 0) {
        return 0; /* EAGAIN, or an ICMP error that the next call will not see again */
    }
    if (describe(u, s->binding, rec, &m, (size_t)got)) {
        judge_gro(s, rec->nseg);
        take(u, rec, zt_rec_data(rec));
        if (u->out[u->guess].used >= UDP_BULK) {
            zt_writer_flush(&u->out[u->guess]);
        }
    }
    return 1;
}

/* Is message `m` a single datagram that continues a run of rec->seg bytes each, the last of which was `last` long? */
static bool continues(const struct zt_rec *rec, uint32_t last, const struct mmsghdr *m) {
    struct zt_endpoint from;
    uint32_t size = gro_size(&m->msg_hdr);
    return last == rec->seg && m->msg_len != 0 && m->msg_len <= rec->seg && (size == 0 || size >= m->msg_len) &&
           (m->msg_hdr.msg_flags & MSG_TRUNC) == 0 && rec->len + m->msg_len <= UDP_PAYLOAD && rec->nseg < UDP_RUNS &&
           from_name(&from, m->msg_hdr.msg_name) && zt_endpoint_equal(&rec->remote, &from);
}

/* The first message that waits, and those behind it that make one run with it, back to back as GRO would have put them. */
static void take_run(struct zt_udp *u) {
    struct zt_waiting *w = &u->waiting;
    uint32_t i = w->next++, last;
    struct zt_rec *rec = zt_writer_begin(&u->out[u->guess]);
    uint8_t *data = zt_rec_data(rec);
    if (!describe(u, w->binding, rec, &w->message[i].msg_hdr, w->message[i].msg_len)) {
        return;
    }
    memcpy(data, w->data[i], rec->len);
    for (last = rec->len; rec->len == (uint32_t)rec->nseg * rec->seg && w->next < w->got; w->next++) {
        if (!continues(rec, last, &w->message[w->next])) {
            break;
        }
        last = w->message[w->next].msg_len;
        memcpy(data + rec->len, w->data[w->next], last);
        rec->len += last;
        rec->nseg++;
    }
    take(u, rec, data);
}

/* What was received and found no room. False: there is still none. */
static bool take_waiting(struct zt_udp *u) {
    while (u->waiting.next < u->waiting.got) {
        if (!all_have_room(u)) {
            return false;
        }
        take_run(u);
    }
    return true;
}

/* One receive call for many datagrams. The same results; also, a socket that gave less than asked for is empty. */
static int pull_many(struct zt_udp *u, struct zt_socket *s, bool *empty) {
    struct zt_waiting *w = &u->waiting;
    bool gro = (u->c->offload & ZT_OFFLOAD_UDP_GRO) != 0;
    if (!all_have_room(u)) {
        return -1;
    }
    for (uint32_t i = 0; i < WAITING; i++) {
        w->iov[i] = (struct iovec){.iov_base = w->data[i], .iov_len = gro ? UDP_PAYLOAD : PLAIN_BYTES};
        w->message[i].msg_hdr =
            (struct msghdr){.msg_name = &w->name[i], .msg_namelen = sizeof w->name[i], .msg_iov = &w->iov[i], .msg_iovlen = 1};
        if (gro) {
            w->message[i].msg_hdr.msg_control = &w->control[i];
            w->message[i].msg_hdr.msg_controllen = sizeof w->control[i];
        }
    }
    int got = recvmmsg(s->fd, w->message, WAITING, MSG_DONTWAIT, NULL);
    w->next = 0;
    w->got = got < 0 ? 0 : (uint32_t)got;
    w->binding = s->binding;
    *empty = w->got < WAITING;
    for (uint32_t i = 0; i < w->got; i++) {
        uint32_t size = gro_size(&w->message[i].msg_hdr);
        judge_gro(s, size != 0 && size < w->message[i].msg_len ? 2 : 1);
    }
    (void)take_waiting(u);
    return (int)w->got;
}

int zt_udp_pull(struct zt_udp *u, int budget) {
    int handled = 0, burst = 0;
    bool gro = (u->c->offload & ZT_OFFLOAD_UDP_GRO) != 0, room;
    u->relaying = zt_relay_begin(u->relay);
    room = take_waiting(u);
    for (uint32_t idle = 0; room && !u->c->held && idle < u->sockets.count && handled < budget;) {
        u->pull_turn %= u->sockets.count;
        struct zt_socket *s = &u->sockets.at[u->pull_turn];
        bool empty = false;
        int r = gro && s->gathered > -SINGLES ? pull_gathered(u, s) : pull_many(u, s, &empty);
        room = r >= 0 && u->waiting.next == u->waiting.got;
        handled += r > 0 ? r : 0;
        empty = empty || r <= 0;
        idle = empty ? idle + 1 : 0;
        if (empty || ++burst == UDP_BURST) {
            u->pull_turn++;
            burst = 0;
        }
    }
    for (uint32_t i = 0; i < u->outs; i++) {
        zt_writer_flush(&u->out[i]);
    }
    if (u->relaying) {
        zt_relay_flush(u->relay);
    }
    return handled;
}

/* ---- push ------------------------------------------------------------------------------------------------------------------- */

static void push_record(struct zt_udp *u, struct zt_rec *rec) {
    struct zt_socket *s = zt_sockets_find(&u->sockets, rec->binding);
    uint32_t seg = rec->seg == 0 || rec->seg > rec->len ? rec->len : rec->seg;
    uint32_t count = rec->len == 0 ? 0 : (rec->len + seg - 1) / seg;
    if (s == NULL) {
        zt_count(u->c, ZT_C_drop_no_binding, count);
        return;
    }
    zt_outbox_run(&u->box, s, &rec->remote, zt_rec_data(rec), rec->len, seg);
}

int zt_udp_push(struct zt_udp *u, int budget) {
    int handled = 0;
    u->box.now = zt_now(u->c->tables);
    for (uint32_t i = 0; i < u->ins; i++) {
        struct zt_reader *r = &u->in[u->push_turn++ % u->ins];
        for (struct zt_rec *rec; handled < budget && (rec = zt_reader_record(r)) != NULL;) {
            push_record(u, rec);
            if (r->index + 1 >= r->slot->nrec || handled + 1 == budget) {
                zt_outbox_send(&u->box); /* before the slot that the messages point into is released */
            }
            zt_reader_next(r);
            handled++;
        }
    }
    return handled;
}
