/* coalesce.c: see coalesce.h. */
#include "coalesce.h"

#include "segment.h"
#include "sum.h"

#define SUPER_FRAME (0xffffu + ZT_ETHER_LEN) /* longest super-frame: an IP length field is its bound */
#define REGION (ZT_REC_ALIGN + ((ZT_VNET_HDR + SUPER_FRAME + ZT_REC_ALIGN - 1) & ~(ZT_REC_ALIGN - 1)))
#define SINGLE_ROOM (ZT_REC_ALIGN + ((ZT_VNET_HDR + ZT_MACS_LEN + ZT_COALESCE_BODY_MAX + ZT_REC_ALIGN - 1) & ~(ZT_REC_ALIGN - 1)))
#define UDP_SEGMENTS 64u
#define BULK 1000u /* payload of a first segment that makes it worth to keep a region for the flow */

/* What a frame is to the coalescer. Offsets count from the start of the Ethernet frame, as in struct zt_super. */
struct candidate {
    const uint8_t *body;
    uint32_t n;
    uint32_t network;
    const uint8_t *macs;
    const uint8_t *ip;
    const uint8_t *l4;
    uint32_t data;  /* payload bytes */
    uint32_t sum;   /* pseudo-header and TCP/UDP header */
    uint16_t l4_at;
    uint16_t payload_at;
    bool flow;      /* TCP or UDP with ports: order matters against open flows */
    bool fragment;  /* an IP fragment: may belong to any flow */
    bool ipv6;
    bool udp;
    bool mergeable;
};

/* ---- classify --------------------------------------------------------------------------------------------------------------- */

static bool classify_ip(struct candidate *c, uint8_t *proto) {
    uint16_t type = zt_get16(c->body);
    uint32_t n = c->n - 2;
    c->ip = c->body + 2;
    if (type == ZT_ETHERTYPE_IPV4 && n >= ZT_IPV4_LEN && c->ip[0] == 0x45) {
        c->fragment = (zt_get16(c->ip + 6) & ZT_IPV4_FRAGMENT) != 0;
        *proto = c->ip[9];
        c->l4 = c->ip + ZT_IPV4_LEN;
        c->l4_at = ZT_ETHER_LEN + ZT_IPV4_LEN;
        c->mergeable = zt_get16(c->ip + 2) == n && zt_sum_valid(zt_sum(c->ip, ZT_IPV4_LEN, 0));
        return !c->fragment;
    }
    if (type == ZT_ETHERTYPE_IPV6 && n >= ZT_IPV6_LEN && c->ip[0] >> 4 == 6) {
        c->ipv6 = true;
        *proto = c->ip[6];
        c->l4 = c->ip + ZT_IPV6_LEN;
        c->l4_at = ZT_ETHER_LEN + ZT_IPV6_LEN;
        c->mergeable = zt_get16(c->ip + 4) + ZT_IPV6_LEN == n;
        return true;
    }
    /* IPv4 with options, or an IPv6 extension header, may hide a fragment or a segment of an open flow */
    c->fragment = type == ZT_ETHERTYPE_IPV4 || type == ZT_ETHERTYPE_IPV6;
    return false;
}

/* Only segments that segmentation reproduces: plain data, PSH and FIN as only special flags (CWR would move to the first). */
static bool mergeable_tcp(struct candidate *c, uint32_t n) {
    uint32_t header = n >= ZT_TCP_LEN ? (c->l4[12] >> 4) * 4u : 0;
    if (header < ZT_TCP_LEN || header >= n || (c->l4[12] & 0x0f) != 0) {
        return false;
    }
    c->data = n - header;
    c->payload_at = (uint16_t)(c->l4_at + header);
    return (c->l4[13] & ~(ZT_TCP_PSH | ZT_TCP_FIN | ZT_TCP_ECE)) == ZT_TCP_ACK;
}

static bool mergeable_udp(struct candidate *c, uint32_t n) {
    if (n <= ZT_UDP_LEN || zt_get16(c->l4 + 4) != n || zt_get16(c->l4 + 6) == 0) {
        return false;
    }
    c->data = n - ZT_UDP_LEN;
    c->payload_at = (uint16_t)(c->l4_at + ZT_UDP_LEN);
    return true;
}

static void classify(struct candidate *c, uint32_t offload) {
    uint8_t proto = 0;
    if (!classify_ip(c, &proto)) {
        c->mergeable = false;
        return;
    }
    uint32_t n = c->n - 2 - (c->l4_at - ZT_ETHER_LEN);
    c->udp = proto == ZT_PROTO_UDP;
    c->flow = (proto == ZT_PROTO_TCP || c->udp) && n >= 4;
    /* behind an IPv6 extension header there may be a segment of any flow */
    c->fragment = c->ipv6 && !c->flow && proto != 58;
    bool wanted = (offload & (c->udp ? ZT_OFFLOAD_TAP_USO : ZT_OFFLOAD_TAP_TSO)) != 0 && (offload & ZT_OFFLOAD_TAP_VNET) != 0;
    c->mergeable = c->mergeable && wanted && c->flow && (c->udp ? mergeable_udp(c, n) : mergeable_tcp(c, n));
    if (c->mergeable) {
        uint32_t length = c->payload_at - c->l4_at + c->data;
        c->sum = c->ipv6 ? zt_sum_pseudo(c->ip + 8, 32, proto) : zt_sum_pseudo(c->ip + 12, 8, proto);
        c->sum = zt_sum(c->l4, c->payload_at - c->l4_at, zt_sum_add(c->sum, zt_sum_length(length)));
    }
}

/* ---- open flows ------------------------------------------------------------------------------------------------------------- */

static uint8_t *flow_frame(const struct zt_flow *f) { return zt_rec_data(f->rec) + ZT_VNET_HDR; }

static bool is_last(const struct zt_flow *f) { return f->region == 0; }

/* Make the headers of a super-frame say what it has become. */
static void finish_headers(struct zt_flow *f) {
    uint8_t *frame = flow_frame(f), *ip = frame + ZT_ETHER_LEN, *l4 = frame + f->l4;
    uint32_t length = f->rec->len - ZT_VNET_HDR - f->l4; /* of the TCP or UDP part */
    struct zt_vnet v = {.flags = ZT_VNET_NEEDS_CSUM,
                        .gso_type = f->udp ? ZT_VNET_GSO_UDP_L4 : f->ipv6 ? ZT_VNET_GSO_TCPV6 : ZT_VNET_GSO_TCPV4,
                        .hdr_len = f->payload,
                        .gso_size = (uint16_t)f->gso,
                        .csum_start = f->l4,
                        .csum_offset = f->udp ? 6 : 16};
    memcpy(zt_rec_data(f->rec), &v, sizeof v);
    uint32_t pseudo;
    if (f->ipv6) {
        zt_put16(ip + 4, (uint16_t)length);
        pseudo = zt_sum_pseudo(ip + 8, 32, ip[6]);
    } else {
        zt_put16(ip + 2, (uint16_t)(length + ZT_IPV4_LEN));
        zt_put16(ip + 10, 0);
        zt_put16(ip + 10, (uint16_t)~zt_sum_fold(zt_sum(ip, ZT_IPV4_LEN, 0)));
        pseudo = zt_sum_pseudo(ip + 12, 8, ip[9]);
    }
    if (f->udp) {
        zt_put16(l4 + 4, (uint16_t)length);
    }
    zt_put16(l4 + v.csum_offset, zt_sum_fold(zt_sum_add(pseudo, zt_sum_length(length))));
}

/* Cover what a closed flow leaves unused of its region. */
static void fill_gap(struct zt_coalescer *k, const struct zt_flow *f) {
    uint32_t used = ZT_REC_ALIGN + zt_rec_align(f->rec->len);
    if (used == f->region) {
        return;
    }
    struct zt_rec *filler = (struct zt_rec *)(void *)((uint8_t *)f->rec + used);
    *filler = (struct zt_rec){.len = f->region - used - ZT_REC_ALIGN, .peer = ZT_NONE, .flags = ZT_REC_FILLER};
    k->w.nrec++;
}

static void close_flow(struct zt_coalescer *k, struct zt_flow *f) {
    if (f->segments > 1) {
        finish_headers(f);
    }
    zt_count(k->c, ZT_C_open_frames, 1);
    if (is_last(f)) {
        zt_writer_end(&k->w, f->rec);
    } else {
        fill_gap(k, f);
    }
    *f = k->flow[--k->count];
}

static void close_all(struct zt_coalescer *k) {
    while (k->count != 0) {
        close_flow(k, &k->flow[0]);
    }
}

static struct zt_flow *last_flow(struct zt_coalescer *k) {
    for (uint32_t i = 0; i < k->count; i++) {
        if (is_last(&k->flow[i])) {
            return &k->flow[i];
        }
    }
    return NULL;
}

/* Another record is to follow the growing one: keep a region for it if it is bulk and there is room, else close it. */
static void settle_last(struct zt_coalescer *k) {
    struct zt_flow *f = last_flow(k);
    if (f == NULL) {
        return;
    }
    if (f->gso >= BULK && zt_writer_left(&k->w) >= REGION + SINGLE_ROOM) {
        f->region = REGION;
        k->w.used += REGION;
        k->w.nrec++;
    } else {
        close_flow(k, f);
    }
}

/* The open flow with these addresses and ports, or NULL. */
static struct zt_flow *find_flow(struct zt_coalescer *k, const struct candidate *c) {
    for (uint32_t i = 0; i < k->count; i++) {
        struct zt_flow *f = &k->flow[i];
        const uint8_t *frame = flow_frame(f), *ip = frame + ZT_ETHER_LEN;
        if (f->udp == c->udp && f->ipv6 == c->ipv6 && f->l4 == c->l4_at && memcmp(frame + f->l4, c->l4, 4) == 0 &&
            memcmp(ip + (c->ipv6 ? 8 : 12), c->ip + (c->ipv6 ? 8 : 12), c->ipv6 ? 32 : 8) == 0) {
            return f;
        }
    }
    return NULL;
}

/* ---- joining ---------------------------------------------------------------------------------------------------------------- */

static bool same_ip(struct zt_flow *f, const uint8_t *ip, const uint8_t *next) {
    if (f->ipv6) {
        return memcmp(ip, next, 4) == 0 && memcmp(ip + 6, next + 6, 2) == 0;
    }
    if (memcmp(ip, next, 2) != 0 || memcmp(ip + 6, next + 6, 4) != 0) {
        return false;
    }
    uint16_t ahead = (uint16_t)(zt_get16(next + 4) - zt_get16(ip + 4));
    if (f->segments == 1) {
        /* an id that stands still is legal where it means nothing: datagrams that are never fragmented (RFC 6864) */
        f->id_step = ahead == 0 && (zt_get16(ip + 6) & ZT_IPV4_DF) != 0 ? 0 : 1;
    }
    return ahead == (uint16_t)(f->segments * f->id_step);
}

static bool same_tcp(const struct zt_flow *f, const uint8_t *tcp, const uint8_t *next) {
    uint32_t header = f->payload - f->l4;
    return zt_get32(next + 4) == zt_get32(tcp + 4) + f->segments * f->gso && memcmp(tcp + 8, next + 8, 5) == 0 &&
           ((tcp[13] ^ next[13]) & ZT_TCP_ECE) == 0 && memcmp(tcp + 14, next + 14, 2) == 0 && memcmp(tcp + 18, next + 18, header - 18) == 0;
}

/* Does the segment continue the flow's super-frame? Its checksum is still to be verified. */
static bool continues(struct zt_flow *f, const struct candidate *c) {
    const uint8_t *frame = flow_frame(f);
    uint32_t len = f->rec->len - ZT_VNET_HDR;
    return c->mergeable && f->payload == c->payload_at && c->data <= f->gso && len + c->data <= SUPER_FRAME &&
           (!f->udp || f->segments < UDP_SEGMENTS) && f->rec->network == c->network && memcmp(frame, c->macs, ZT_MACS_LEN) == 0 &&
           same_ip(f, frame + ZT_ETHER_LEN, c->ip) && (f->udp || same_tcp(f, frame + f->l4, c->l4));
}

static bool has_room(const struct zt_coalescer *k, const struct zt_flow *f, uint32_t n) {
    uint32_t room = is_last(f) ? zt_writer_left(&k->w) : f->region;
    return ZT_REC_ALIGN + zt_rec_align(f->rec->len + n) <= room;
}

/* Nothing may follow a short segment, a PSH or a FIN. */
static bool is_final(const struct zt_flow *f, const struct candidate *c) {
    return c->data < f->gso || (!c->udp && (c->l4[13] & (ZT_TCP_PSH | ZT_TCP_FIN)) != 0);
}

/* Append the payload if the segment fits and is undamaged. */
static bool join(struct zt_coalescer *k, struct zt_flow *f, const struct candidate *c) {
    if (!continues(f, c) || !has_room(k, f, c->data)) {
        return false;
    }
    const uint8_t *data = c->body + c->payload_at - ZT_MACS_LEN;
    if (!zt_sum_valid(zt_copy_sum(zt_rec_data(f->rec) + f->rec->len, data, c->data, c->sum))) {
        return false; /* written beyond the end of the record: harmless */
    }
    f->rec->len += c->data;
    f->segments++;
    f->serial = ++k->serial;
    if (!f->udp) {
        flow_frame(f)[f->l4 + 13] |= c->l4[13] & (ZT_TCP_PSH | ZT_TCP_FIN);
    }
    if (is_final(f, c)) {
        close_flow(k, f);
    }
    return true;
}

/* A super-frame that begins near the slot's end would have to be written in two: begin it in the next slot, if there is one. */
static void turn_the_page(struct zt_coalescer *k, const struct candidate *c) {
    if (c->mergeable && c->data >= BULK && k->count == 0 && k->w.nrec != 0 && zt_writer_left(&k->w) < REGION + SINGLE_ROOM &&
        zt_ring_spare(k->w.ring)) {
        zt_writer_flush(&k->w);
        zt_writer_room(k->c, &k->w, REGION); /* which cannot fail: nobody else fills this ring */
    }
}

/* Write a frame as a record of its own; a mergeable and undamaged one becomes an open flow. */
static void start(struct zt_coalescer *k, uint32_t flow, const struct candidate *c) {
    settle_last(k);
    if (c->mergeable && k->count == ZT_COALESCE_FLOWS) {
        struct zt_flow *oldest = &k->flow[0];
        for (uint32_t i = 1; i < k->count; i++) {
            oldest = k->flow[i].serial < oldest->serial ? &k->flow[i] : oldest;
        }
        close_flow(k, oldest);
    }
    turn_the_page(k, c);
    struct zt_rec *rec = zt_writer_begin(&k->w);
    uint8_t *data = zt_rec_data(rec), *body = data + ZT_VNET_HDR + ZT_MACS_LEN;
    rec->len = ZT_VNET_HDR + ZT_MACS_LEN + c->n;
    rec->network = (uint16_t)c->network;
    rec->flow = flow;
    rec->peer = ZT_NONE;
    memset(data, 0, ZT_VNET_HDR);
    memcpy(data + ZT_VNET_HDR, c->macs, ZT_MACS_LEN);
    if (c->mergeable) {
        uint32_t head = c->payload_at - ZT_MACS_LEN;
        memcpy(body, c->body, head);
        struct zt_flow f = {.rec = rec, .segments = 1, .gso = c->data, .serial = ++k->serial, .payload = c->payload_at,
                            .l4 = c->l4_at, .ipv6 = c->ipv6, .udp = c->udp};
        if (zt_sum_valid(zt_copy_sum(body + head, c->body + head, c->data, c->sum)) && !is_final(&f, c)) {
            k->flow[k->count++] = f;
            return;
        }
    } else {
        memcpy(body, c->body, c->n);
    }
    zt_count(k->c, ZT_C_open_frames, 1);
    zt_writer_end(&k->w, rec);
}

/* ---- interface -------------------------------------------------------------------------------------------------------------- */

void zt_coalescer_flush(struct zt_coalescer *k) {
    close_all(k);
    zt_writer_flush(&k->w);
}

bool zt_coalescer_room(struct zt_coalescer *k) {
    const struct zt_flow *f = last_flow(k);
    uint32_t growing = f == NULL ? 0 : ZT_REC_ALIGN + zt_rec_align(f->rec->len);
    if (k->w.slot != NULL && zt_writer_left(&k->w) >= growing + SINGLE_ROOM) {
        return true;
    }
    close_all(k);
    return zt_writer_room(k->c, &k->w, SINGLE_ROOM);
}

void zt_coalescer_add(struct zt_coalescer *k, uint32_t network, uint32_t flow, const uint8_t macs[12], const uint8_t *body, size_t n) {
    struct candidate c = {.body = body, .n = (uint32_t)n, .network = network, .macs = macs};
    classify(&c, k->c->offload);
    if (c.flow) {
        struct zt_flow *f = find_flow(k, &c);
        if (f != NULL && join(k, f, &c)) {
            return;
        }
        if (f != NULL) {
            close_flow(k, f); /* what follows in this flow must come after it */
        }
    } else if (c.fragment) {
        close_all(k);
    }
    start(k, flow, &c);
}
