/* outbox.c: see outbox.h. */
#include "outbox.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

#define SEND_TRIES 4    /* on a full socket buffer, waiting up to 1 ms each */
#define LONGEST_MESSAGE 65535u
#define GSO_PAUSE 10000 /* ms without UDP_SEGMENT after the kernel refused it: it may have been that one route, or a setting of the card */

const uint8_t zt_mapped_prefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

/* ---- send ------------------------------------------------------------------------------------------------------------------- */

static void count_sent(const struct zt_outbox *b, uint32_t i) {
    size_t len = b->iov[i].iov_len;
    zt_count(b->c, ZT_C_udp_send_datagrams, b->seg[i] == 0 ? 1 : (len + b->seg[i] - 1) / b->seg[i]);
    zt_count(b->c, ZT_C_udp_send_bytes, len);
}

static bool busy(int error) { return error == EAGAIN || error == EWOULDBLOCK || error == ENOBUFS || error == ENOMEM; }

static void wait_writable(int fd) {
    struct pollfd p = {.fd = fd, .events = POLLOUT};
    (void)poll(&p, 1, 1);
}

/* One datagram; 0 or the error. */
static int send_single(const struct zt_socket *s, const struct msghdr *to, uint8_t *data, size_t len) {
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

static void count_refused(struct zt_outbox *b, int error, uint64_t datagrams) {
    zt_count(b->c, error == EMSGSIZE ? ZT_C_drop_send_oversize : ZT_C_drop_send_error, datagrams);
}

/* The kernel would not segment message `i`: send its datagrams one by one, and remember if that works better. */
static void send_apart(struct zt_outbox *b, uint32_t i, int error) {
    uint8_t *data = b->iov[i].iov_base;
    size_t left = b->iov[i].iov_len;
    bool sent = false;
    while (left != 0) {
        size_t n = left < b->seg[i] ? left : b->seg[i];
        int refused = send_single(b->socket, &b->message[i].msg_hdr, data, n);
        if (refused == 0) {
            sent = true;
            zt_count(b->c, ZT_C_udp_send_datagrams, 1);
            zt_count(b->c, ZT_C_udp_send_bytes, n);
        } else {
            count_refused(b, refused, 1);
        }
        data += n;
        left -= n;
    }
    if (sent || error == EIO) { /* EIO: the device makes no checksums, at present */
        zt_count(b->c, ZT_C_udp_gso_refused, 1);
        b->socket->plain_until = b->now + GSO_PAUSE;
    }
}

/* A message that fails is dealt with by itself, and the rest goes on behind it. */
void zt_outbox_send(struct zt_outbox *b) {
    int tries = 0;
    for (uint32_t i = 0; i < b->count;) {
        int sent = sendmmsg(b->socket->fd, &b->message[i], b->count - i, MSG_DONTWAIT);
        if (sent > 0) {
            for (uint32_t end = i + (uint32_t)sent; i < end; i++) {
                count_sent(b, i);
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
            send_apart(b, i, error);
        } else {
            count_refused(b, error, b->seg[i] == 0 ? 1 : (b->iov[i].iov_len + b->seg[i] - 1) / b->seg[i]);
        }
        tries = 0;
        i++;
    }
    b->count = 0;
}

/* ---- add --------------------------------------------------------------------------------------------------------------------- */

/* The address as this socket wants it; its length, or 0 if the socket cannot reach it. */
static socklen_t to_name(union zt_name *n, const struct zt_endpoint *e, bool v6) {
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
        memcpy(ip, zt_mapped_prefix, sizeof zt_mapped_prefix);
        memcpy(ip + sizeof zt_mapped_prefix, e->ip, 4);
    } else {
        memcpy(ip, e->ip, 16);
    }
    return e->family == 4 || e->family == 6 ? sizeof n->v6 : 0;
}

void zt_outbox_add(struct zt_outbox *b, struct zt_socket *s, const struct zt_endpoint *to, uint8_t *data, uint32_t len, uint32_t seg) {
    if (b->count != 0 && (b->count == ZT_OUTBOX_MESSAGES || b->socket != s)) {
        zt_outbox_send(b);
    }
    uint32_t i = b->count;
    socklen_t name = to_name(&b->name[i], to, s->v6);
    if (name == 0) {
        zt_count(b->c, ZT_C_drop_no_binding, seg == 0 ? 1 : (len + seg - 1) / seg);
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

void zt_outbox_run(struct zt_outbox *b, struct zt_socket *s, const struct zt_endpoint *to, uint8_t *data, uint32_t len, uint32_t seg) {
    bool gso = (b->c->offload & ZT_OFFLOAD_UDP_GSO) != 0 && b->now >= s->plain_until && len <= LONGEST_MESSAGE;
    if (gso && len > seg) {
        zt_outbox_add(b, s, to, data, len, seg);
        return;
    }
    for (uint32_t at = 0; at < len; at += seg) {
        zt_outbox_add(b, s, to, data + at, len - at < seg ? len - at : seg, 0);
    }
}
