/* tap.c: TAP queues, and what crypto workers have for them (stages.h). Reading from them: tap_pull.c. */
#include "tap_impl.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>

#define TAP_UDP_BULK (192u * 1024u) /* UDP written at once that a reader with a usual buffer can take */

struct zt_tap *zt_tap_new(struct zt_context *c, struct zt_ring_set *to_crypto, struct zt_ring_set *from_crypto) {
    struct zt_tap *t = calloc(1, sizeof *t);
    if (t == NULL) {
        return NULL;
    }
    t->c = c;
    t->share.price = ZT_SHARE_FRAMES;
    t->guard = zt_guard_new(c->tables);
    t->fanout = zt_fanout_new(c->tables);
    if (t->guard == NULL || t->fanout == NULL) {
        zt_tap_free(t);
        return NULL;
    }
    for (; t->outs < to_crypto->count; t->outs++) {
        t->out[t->outs].ring = &to_crypto->ring[t->outs];
    }
    for (; t->ins < from_crypto->count; t->ins++) {
        t->in[t->ins].ring = &from_crypto->ring[t->ins];
    }
    return t;
}

void zt_tap_free(struct zt_tap *t) {
    if (t != NULL) {
        zt_guard_free(t->guard);
        zt_fanout_free(t->fanout);
        free(t);
    }
}

int zt_tap_add(struct zt_tap *t, int fd, uint32_t network) {
    if (fd < 0 || zt_network_at(t->c->tables, network) == NULL) {
        return -EINVAL;
    }
    if (t->queues == TAP_QUEUES) {
        return -ENOSPC;
    }
    t->queue[t->queues++] = (struct tap_queue){.fd = fd, .network = network};
    return 0;
}

/* Every queue of the network goes; the descriptors are the caller's to close. */
int zt_tap_remove(struct zt_tap *t, uint32_t network) {
    uint32_t kept = 0;
    for (uint32_t i = 0; i < t->queues; i++) {
        if (t->queue[i].network != network) {
            t->queue[kept++] = t->queue[i];
        }
    }
    int removed = kept != t->queues;
    t->queues = kept;
    return removed ? 0 : -ENOENT;
}

/* ---- push ------------------------------------------------------------------------------------------------------------------- */

static bool write_all(struct zt_tap *t, int fd, const uint8_t *data, size_t len) {
    uint32_t skip = (t->c->offload & ZT_OFFLOAD_TAP_VNET) != 0 ? 0 : ZT_VNET_HDR;
    ssize_t put = write(fd, data + skip, len - skip);
    if (put != (ssize_t)(len - skip)) {
        return false;
    }
    zt_count(t->c, ZT_C_tap_write_frames, 1);
    zt_count(t->c, ZT_C_tap_write_bytes, len - ZT_VNET_HDR);
    return true;
}

/* The kernel did not take the super-frame, or the TAP has no vnet header: write what it stands for. */
static void write_segments(struct zt_tap *t, int fd, const struct zt_vnet *vnet, const uint8_t *frame, size_t len) {
    struct zt_super s;
    if (!zt_super_init(&s, vnet, frame, len)) {
        zt_count(t->c, ZT_C_drop_tap_bad_vnet, 1);
        return;
    }
    uint8_t *out = t->scratch + ZT_VNET_HDR;
    memset(t->scratch, 0, ZT_VNET_HDR);
    memcpy(out, frame, ZT_MACS_LEN);
    for (uint32_t i = 0; i < s.segments; i++) {
        zt_super_emit(&s, i, out + ZT_MACS_LEN);
        if (!write_all(t, fd, t->scratch, ZT_VNET_HDR + ZT_MACS_LEN + zt_super_size(&s, i))) {
            zt_count(t->c, ZT_C_drop_tap_write, 1);
        }
    }
}

static void push_record(struct zt_tap *t, struct zt_rec *rec) {
    const struct tap_queue *q = NULL;
    for (uint32_t i = 0; i < t->queues && q == NULL; i++) {
        q = t->queue[i].network == rec->network ? &t->queue[i] : NULL;
    }
    if (q == NULL) {
        zt_count(t->c, ZT_C_drop_tap_no_network, 1);
        return;
    }
    struct zt_vnet vnet;
    const uint8_t *data = zt_rec_data(rec);
    if (rec->len < ZT_VNET_HDR + ZT_ETHER_LEN) {
        zt_count(t->c, ZT_C_drop_tap_short, 1);
        return;
    }
    memcpy(&vnet, data, sizeof vnet);
    zt_share_unicast(&t->share, (data[ZT_VNET_HDR] & 1) == 0 ? 1 : 0);
    bool work = vnet.gso_type != ZT_VNET_GSO_NONE || (vnet.flags & ZT_VNET_NEEDS_CSUM) != 0;
    bool can = !work || (t->c->offload & ZT_OFFLOAD_TAP_VNET) != 0;
    if (can && write_all(t, q->fd, data, rec->len)) {
        return;
    }
    if (work && (!can || errno == EINVAL)) {
        write_segments(t, q->fd, &vnet, data + ZT_VNET_HDR, rec->len - ZT_VNET_HDR);
    } else {
        zt_count(t->c, ZT_C_drop_tap_write, 1);
    }
}

/* UDP does not slow down when its reader falls behind, it overflows the reader's buffer. So give the CPU away now and then. */
static void let_readers_run(struct zt_tap *t, struct zt_rec *rec) {
    if (rec->len < ZT_VNET_HDR || zt_rec_data(rec)[offsetof(struct zt_vnet, gso_type)] != ZT_VNET_GSO_UDP_L4) {
        return;
    }
    t->udp_written += rec->len;
    if (t->udp_written >= TAP_UDP_BULK) {
        t->udp_written = 0;
        sched_yield();
    }
}

int zt_tap_push(struct zt_tap *t, int budget) {
    int handled = 0;
    for (uint32_t i = 0; i < t->ins; i++) {
        struct zt_reader *r = &t->in[t->push_turn++ % t->ins];
        for (struct zt_rec *rec; handled < budget && (rec = zt_reader_record(r)) != NULL; zt_reader_next(r)) {
            if ((rec->flags & ZT_REC_FILLER) == 0) {
                push_record(t, rec);
                let_readers_run(t, rec);
                handled++;
            }
        }
    }
    return handled;
}
