/* outbox.h: datagrams on their way out, gathered so that one sendmmsg takes many.
 *
 * A message is one datagram, or a run of equal ones for UDP_SEGMENT. The data stays where it is until zt_outbox_send. A message that the
 * kernel refuses never holds up the others; where it refuses to segment, its datagrams are sent one by one and the socket goes on without.
 */
#ifndef ZT_OUTBOX_H
#define ZT_OUTBOX_H

#include "stages.h"

#include <netinet/in.h>
#include <sys/socket.h>

#ifndef SOL_UDP
#define SOL_UDP 17
#endif
#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif

#define ZT_OUTBOX_MESSAGES 64u

union zt_control {
    struct cmsghdr align;
    uint8_t bytes[CMSG_SPACE(sizeof(int))];
};

union zt_name {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
};

struct zt_socket {
    int fd;
    uint32_t binding;
    bool v6;
    int64_t plain_until; /* no UDP_SEGMENT before this time */
    int32_t gathered;    /* grows with datagrams that GRO gathered, falls with those it did not; see udp.c */
};

#define ZT_SOCKETS 256u

/* The sockets of a peer worker. */
struct zt_sockets {
    uint32_t count;
    struct zt_socket at[ZT_SOCKETS];
};

/* The socket of a binding, or NULL. */
static inline struct zt_socket *zt_sockets_find(struct zt_sockets *s, uint32_t binding) {
    for (uint32_t i = 0; i < s->count; i++) {
        if (s->at[i].binding == binding) {
            return &s->at[i];
        }
    }
    return NULL;
}

struct zt_outbox {
    struct zt_context *c;
    struct zt_socket *socket; /* of all messages in it */
    uint32_t count;
    int64_t now;
    struct mmsghdr message[ZT_OUTBOX_MESSAGES];
    struct iovec iov[ZT_OUTBOX_MESSAGES];
    union zt_control control[ZT_OUTBOX_MESSAGES];
    union zt_name name[ZT_OUTBOX_MESSAGES];
    uint32_t seg[ZT_OUTBOX_MESSAGES]; /* 0: a single datagram */
};

/* The first 12 bytes of an IPv4-mapped IPv6 address. */
extern const uint8_t zt_mapped_prefix[12];

/* Add a message; seg 0: one datagram, else datagrams of seg bytes, at least two. Sends what is in the box if there is no room, or if it is for
 * another socket. */
void zt_outbox_add(struct zt_outbox *b, struct zt_socket *s, const struct zt_endpoint *to, uint8_t *data, uint32_t len, uint32_t seg);

/* Add datagrams that lie back to back, all of `seg` bytes (not 0) but the last: as one message where the socket's kernel segments. */
void zt_outbox_run(struct zt_outbox *b, struct zt_socket *s, const struct zt_endpoint *to, uint8_t *data, uint32_t len, uint32_t seg);

/* Send everything in it. */
void zt_outbox_send(struct zt_outbox *b);

#endif
