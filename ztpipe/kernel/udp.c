/* udp.c: UDP sockets <-> rings of the crypto workers (stages.h).
 *
 * Pull: one recvmsg takes what the kernel's GRO has gathered, straight into the slot of the ring that the datagram before it took; without
 * GRO, recvmmsg. Push: a record of equal datagrams leaves as one message with UDP_SEGMENT, and as many records as there are leave in one
 * sendmmsg. Where the kernel refuses UDP_SEGMENT, the socket goes on without it.
 */
#include "net.h"
#include "slots.h"
#include "table.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif
#ifndef SOL_UDP
#define SOL_UDP 17
#endif

#define UDP_SOCKETS 256u
#define UDP_PAYLOAD 65535u
#define UDP_ROOM (ZT_REC_ALIGN + ((UDP_PAYLOAD + ZT_REC_ALIGN - 1) & ~(ZT_REC_ALIGN - 1)))
#define UDP_BULK (48u * 1024u) /* a slot this full is handed over at once */
#define UDP_BURST 32           /* receive calls on one socket before the next has its turn */
#define PLAIN_MESSAGES 32u     /* per recvmmsg */
#define PLAIN_BYTES 10240u     /* longer than any VL1 packet */
#define SEND_MESSAGES 64u      /* per sendmmsg */
#define SEND_TRIES 4           /* on a full socket buffer, waiting up to 1 ms each */
#define GSO_PAUSE 10000        /* ms without UDP_SEGMENT after the kernel called it invalid: it may have been that one route */

union control {
    struct cmsghdr align;
    uint8_t bytes[CMSG_SPACE(sizeof(int))];
};

union name {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
};

struct udp_socket {
    int fd;
    uint32_t binding;
    bool v6;
    int64_t plain_until; /* no UDP_SEGMENT before this time */
};

/* Messages for one sendmmsg. */
struct outbox {
    struct udp_socket *socket;
    uint32_t count;
    struct mmsghdr message[SEND_MESSAGES];
    struct iovec iov[SEND_MESSAGES];
    union control control[SEND_MESSAGES];
    union name name[SEND_MESSAGES];
    uint32_t seg[SEND_MESSAGES]; /* 0: a single datagram */
};

struct zt_udp {
    struct zt_context *c;
    struct zt_reader in[ZT_MAX_RINGS];
    struct zt_writer out[ZT_MAX_RINGS];
    uint32_t ins, outs;
    uint32_t guess;
    uint32_t pull_turn;
    uint32_t push_turn;
    int64_t now;
    uint32_t sockets;
    struct udp_socket socket[UDP_SOCKETS];
    struct outbox box;
    uint8_t plain[PLAIN_MESSAGES][PLAIN_BYTES];
};

struct zt_udp *zt_udp_new(struct zt_context *c, struct zt_ring_set *from_crypto, struct zt_ring_set *to_crypto) {
    struct zt_udp *u = calloc(1, sizeof *u);
    if (u == NULL) {
        return NULL;
    }
    u->c = c;
    for (; u->ins < from_crypto->count; u->ins++) {
        u->in[u->ins].ring = &from_crypto->ring[u->ins];
    }
    for (; u->outs < to_crypto->count; u->outs++) {
        u->out[u->outs].ring = &to_crypto->ring[u->outs];
    }
    return u;
}

void zt_udp_free(struct zt_udp *u) { free(u); }

/* family: 4 or 6, or AF_INET or AF_INET6. */
int zt_udp_add(struct zt_udp *u, int fd, uint32_t binding, int family) {
    bool v6 = family == 6 || family == AF_INET6;
    if (fd < 0 || binding > 0xffff || (!v6 && family != 4 && family != AF_INET)) {
        return -EINVAL;
    }
    if (u->sockets == UDP_SOCKETS) {
        return -ENOSPC;
    }
    if ((u->c->offload & ZT_OFFLOAD_UDP_GRO) != 0) {
        int one = 1;
        (void)setsockopt(fd, SOL_UDP, UDP_GRO, &one, sizeof one); /* refused: recvmsg gives single datagrams, which is as good */
    }
    u->socket[u->sockets++] = (struct udp_socket){.fd = fd, .binding = binding, .v6 = v6};
    return 0;
}

int zt_udp_remove(struct zt_udp *u, uint32_t binding) {
    uint32_t kept = 0;
    for (uint32_t i = 0; i < u->sockets; i++) {
        if (u->socket[i].binding != binding) {
            u->socket[kept++] = u->socket[i];
        }
    }
    bool removed = kept != u->sockets;
    u->sockets = kept;
    return removed ? 0 : -ENOENT;
}

/* ---- addresses -------------------------------------------------------------------------------------------------------------- */

static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

static bool from_name(struct zt_endpoint *e, const union name *n) {
    memset(e, 0, sizeof *e);
    if (n->any.sa_family == AF_INET) {
        e->family = 4;
        e->port = ntohs(n->v4.sin_port);
        memcpy(e->ip, &n->v4.sin_addr, 4);
        return true;
    }
    e->port = ntohs(n->v6.sin6_port);
    const uint8_t *ip = n->v6.sin6_addr.s6_addr;
    bool is_v4 = memcmp(ip, mapped, sizeof mapped) == 0;
    e->family = is_v4 ? 4 : 6;
    memcpy(e->ip, is_v4 ? ip + sizeof mapped : ip, is_v4 ? 4 : 16);
    return n->any.sa_family == AF_INET6;
}

/* The address as this socket wants it; its length, or 0 if the socket cannot reach it. */
static socklen_t to_name(union name *n, const struct zt_endpoint *e, bool v6) {
    memset(n, 0, sizeof *n);
    if (!v6) {
        n->v4.sin_family = AF_INET;
        n->v4.sin_port = htons(e->port);
        memcpy(&n->v4.sin_addr, e->ip, 4);
        return e->family == 4 ? sizeof n->v4 : 0;
    }
    n->v6.sin6_family = AF_INET6;
    n->v6.sin6_port = htons(e->port);
    uint8_t *ip = n->v6.sin6_addr.s6_addr;
    if (e->family == 4) {
        memcpy(ip, mapped, sizeof mapped);
        memcpy(ip + sizeof mapped, e->ip, 4);
    } else {
        memcpy(ip, e->ip, 16);
    }
    return e->family == 4 || e->family == 6 ? sizeof n->v6 : 0;
}

/* ---- pull ------------------------------------------------------------------------------------------------------------------- */

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
    zt_count(u->c, ZT_C_udp_receive_datagrams, rec->nseg);
    zt_count(u->c, ZT_C_udp_receive_bytes, rec->len);
}

static uint32_t gro_size(struct msghdr *m) {
    for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c != NULL; c = CMSG_NXTHDR(m, c)) {
        if (c->cmsg_level == SOL_UDP && c->cmsg_type == UDP_GRO) {
            int size;
            memcpy(&size, CMSG_DATA(c), sizeof size);
            return size > 0 && size <= (int)UDP_PAYLOAD ? (uint32_t)size : 0;
        }
    }
    return 0;
}

/* Fill in a record for `got` bytes received as `m` says. False: not usable, counted. */
static bool describe(struct zt_udp *u, const struct udp_socket *s, struct zt_rec *rec, struct msghdr *m, size_t got) {
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
    rec->binding = (uint16_t)s->binding;
    rec->seg = (uint16_t)size;
    rec->nseg = (uint16_t)((got + size - 1) / size);
    return true;
}

/* One receive call: how many messages it gave; 0 none; -1 no room. */
static int pull_gro(struct zt_udp *u, const struct udp_socket *s) {
    if (!all_have_room(u)) {
        return -1;
    }
    struct zt_rec *rec = zt_writer_begin(&u->out[u->guess]);
    union name name;
    union control control;
    struct iovec iov = {.iov_base = zt_rec_data(rec), .iov_len = UDP_PAYLOAD};
    struct msghdr m = {.msg_name = &name, .msg_namelen = sizeof name, .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control,
                       .msg_controllen = sizeof control};
    ssize_t got = recvmsg(s->fd, &m, MSG_DONTWAIT);
    if (got < 0) {
        return 0; /* EAGAIN, or an ICMP error that the next call will not see again */
    }
    if (describe(u, s, rec, &m, (size_t)got)) {
        dispatch(u, rec, zt_rec_data(rec));
        if (u->out[u->guess].used >= UDP_BULK) {
            zt_writer_flush(&u->out[u->guess]);
        }
    }
    return 1;
}

static int pull_plain(struct zt_udp *u, const struct udp_socket *s) {
    struct mmsghdr message[PLAIN_MESSAGES];
    struct iovec iov[PLAIN_MESSAGES];
    union name name[PLAIN_MESSAGES];
    uint32_t limit = PLAIN_MESSAGES;
    if (!all_have_room(u)) {
        return -1;
    }
    for (uint32_t i = 0; i < u->outs; i++) { /* all of them might be for one ring, all of them long */
        uint32_t fit = zt_writer_left(&u->out[i]) / (ZT_REC_ALIGN + PLAIN_BYTES);
        limit = fit < limit ? fit : limit;
    }
    for (uint32_t i = 0; i < limit; i++) {
        iov[i] = (struct iovec){.iov_base = u->plain[i], .iov_len = PLAIN_BYTES};
        message[i].msg_hdr = (struct msghdr){.msg_name = &name[i], .msg_namelen = sizeof name[i], .msg_iov = &iov[i], .msg_iovlen = 1};
    }
    int got = recvmmsg(s->fd, message, limit, MSG_DONTWAIT, NULL);
    for (int i = 0; i < got; i++) {
        struct zt_rec rec = {.flags = 0};
        if (describe(u, s, &rec, &message[i].msg_hdr, message[i].msg_len)) {
            dispatch(u, &rec, u->plain[i]);
        }
    }
    return got < 0 ? 0 : got;
}

int zt_udp_pull(struct zt_udp *u, int budget) {
    int handled = 0, burst = 0;
    bool gro = (u->c->offload & ZT_OFFLOAD_UDP_GRO) != 0;
    for (uint32_t idle = 0; idle < u->sockets && handled < budget;) {
        u->pull_turn %= u->sockets;
        const struct udp_socket *s = &u->socket[u->pull_turn];
        int r = gro ? pull_gro(u, s) : pull_plain(u, s);
        if (r < 0) {
            break;
        }
        handled += r;
        idle = r != 0 ? 0 : idle + 1;
        if (r == 0 || ++burst == UDP_BURST) {
            u->pull_turn++;
            burst = 0;
        }
    }
    for (uint32_t i = 0; i < u->outs; i++) {
        zt_writer_flush(&u->out[i]);
    }
    return handled;
}

/* ---- push ------------------------------------------------------------------------------------------------------------------- */

static void count_sent(struct zt_udp *u, const struct outbox *b, uint32_t i) {
    size_t len = b->iov[i].iov_len;
    zt_count(u->c, ZT_C_udp_send_datagrams, b->seg[i] == 0 ? 1 : (len + b->seg[i] - 1) / b->seg[i]);
    zt_count(u->c, ZT_C_udp_send_bytes, len);
}

static bool busy(int error) { return error == EAGAIN || error == EWOULDBLOCK || error == ENOBUFS || error == ENOMEM; }

static void wait_writable(int fd) {
    struct pollfd p = {.fd = fd, .events = POLLOUT};
    (void)poll(&p, 1, 1);
}

/* One datagram; 0 or the error. */
static int send_single(const struct udp_socket *s, const struct msghdr *to, uint8_t *data, size_t len) {
    struct iovec iov = {.iov_base = data, .iov_len = len};
    struct msghdr m = {.msg_name = to->msg_name, .msg_namelen = to->msg_namelen, .msg_iov = &iov, .msg_iovlen = 1};
    for (int i = 0; i < SEND_TRIES; i++) {
        if (sendmsg(s->fd, &m, MSG_DONTWAIT) >= 0) {
            return 0;
        }
        if (!busy(errno)) {
            return errno;
        }
        wait_writable(s->fd);
    }
    return EAGAIN;
}

static void count_refused(struct zt_udp *u, int error, uint64_t datagrams) {
    zt_count(u->c, error == EMSGSIZE ? ZT_C_drop_send_oversize : ZT_C_drop_send_error, datagrams);
}

/* The kernel would not segment message `i`: send its datagrams one by one, and remember if that works better. */
static void send_apart(struct zt_udp *u, struct outbox *b, uint32_t i, int error) {
    uint8_t *data = b->iov[i].iov_base;
    size_t left = b->iov[i].iov_len;
    bool sent = false;
    while (left != 0) {
        size_t n = left < b->seg[i] ? left : b->seg[i];
        int refused = send_single(b->socket, &b->message[i].msg_hdr, data, n);
        if (refused == 0) {
            sent = true;
            zt_count(u->c, ZT_C_udp_send_datagrams, 1);
            zt_count(u->c, ZT_C_udp_send_bytes, n);
        } else {
            count_refused(u, refused, 1);
        }
        data += n;
        left -= n;
    }
    if (sent || error == EIO) {
        zt_count(u->c, ZT_C_udp_gso_refused, 1);
        b->socket->plain_until = error == EIO ? INT64_MAX : u->now + GSO_PAUSE; /* EIO: no checksum offload, for good */
    }
}

/* Send the outbox. A message that fails is dealt with by itself, and the rest goes on behind it. */
static void send_box(struct zt_udp *u) {
    struct outbox *b = &u->box;
    int tries = 0;
    for (uint32_t i = 0; i < b->count;) {
        int sent = sendmmsg(b->socket->fd, &b->message[i], b->count - i, MSG_DONTWAIT);
        if (sent > 0) {
            for (uint32_t end = i + (uint32_t)sent; i < end; i++) {
                count_sent(u, b, i);
            }
            tries = 0;
            continue;
        }
        int error = errno;
        if (error == EINTR || (busy(error) && ++tries < SEND_TRIES)) {
            if (error != EINTR) {
                wait_writable(b->socket->fd);
            }
            continue;
        }
        if (b->seg[i] != 0 && (error == EIO || error == EINVAL || error == EMSGSIZE || error == EOPNOTSUPP)) {
            send_apart(u, b, i, error);
        } else {
            count_refused(u, error, b->seg[i] == 0 ? 1 : (b->iov[i].iov_len + b->seg[i] - 1) / b->seg[i]);
        }
        tries = 0;
        i++;
    }
    b->count = 0;
}

/* Put a message into the outbox; seg 0: one datagram, else datagrams of seg bytes, at least two. */
static void add_message(struct zt_udp *u, struct udp_socket *s, const struct zt_endpoint *to, uint8_t *data, uint32_t len, uint32_t seg) {
    struct outbox *b = &u->box;
    if (b->count != 0 && (b->count == SEND_MESSAGES || b->socket != s)) {
        send_box(u);
    }
    uint32_t i = b->count;
    socklen_t name = to_name(&b->name[i], to, s->v6);
    if (name == 0) {
        zt_count(u->c, ZT_C_drop_no_binding, seg == 0 ? 1 : (len + seg - 1) / seg);
        return;
    }
    b->socket = s;
    b->count = i + 1;
    b->seg[i] = seg;
    b->iov[i] = (struct iovec){.iov_base = data, .iov_len = len};
    struct msghdr *m = &b->message[i].msg_hdr;
    *m = (struct msghdr){.msg_name = &b->name[i], .msg_namelen = name, .msg_iov = &b->iov[i], .msg_iovlen = 1};
    if (seg != 0) {
        uint16_t size = (uint16_t)seg;
        m->msg_control = &b->control[i];
        m->msg_controllen = CMSG_SPACE(sizeof size);
        memset(&b->control[i], 0, sizeof b->control[i]);
        struct cmsghdr *c = CMSG_FIRSTHDR(m);
        c->cmsg_level = SOL_UDP;
        c->cmsg_type = UDP_SEGMENT;
        c->cmsg_len = CMSG_LEN(sizeof size);
        memcpy(CMSG_DATA(c), &size, sizeof size);
    }
}

static void push_record(struct zt_udp *u, struct zt_rec *rec) {
    struct udp_socket *s = NULL;
    for (uint32_t i = 0; i < u->sockets && s == NULL; i++) {
        s = u->socket[i].binding == rec->binding ? &u->socket[i] : NULL;
    }
    uint32_t seg = rec->seg == 0 || rec->seg > rec->len ? rec->len : rec->seg;
    uint32_t count = rec->len == 0 ? 0 : (rec->len + seg - 1) / seg;
    if (s == NULL) {
        zt_count(u->c, ZT_C_drop_no_binding, count);
        return;
    }
    uint8_t *data = zt_rec_data(rec);
    bool gso = (u->c->offload & ZT_OFFLOAD_UDP_GSO) != 0 && u->now >= s->plain_until && rec->len <= UDP_PAYLOAD;
    if (gso && count > 1) {
        add_message(u, s, &rec->remote, data, rec->len, seg);
        return;
    }
    for (uint32_t at = 0; at < rec->len; at += seg) {
        add_message(u, s, &rec->remote, data + at, rec->len - at < seg ? rec->len - at : seg, 0);
    }
}

int zt_udp_push(struct zt_udp *u, int budget) {
    int handled = 0;
    u->now = zt_now(u->c->tables);
    for (uint32_t i = 0; i < u->ins; i++) {
        struct zt_reader *r = &u->in[u->push_turn++ % u->ins];
        for (struct zt_rec *rec; handled < budget && (rec = zt_reader_record(r)) != NULL;) {
            push_record(u, rec);
            if (r->index + 1 >= r->slot->nrec || handled + 1 == budget) {
                send_box(u); /* before the slot that the messages point into is released */
            }
            zt_reader_next(r);
            handled++;
        }
    }
    return handled;
}
