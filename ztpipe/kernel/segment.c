/* segment.c: see segment.h. */
#include "segment.h"

#include "sum.h"

/* ---- describe --------------------------------------------------------------------------------------------------------------- */

/* NEEDS_CSUM without segmentation: sum from csum_start to the end of the frame. */
static bool describe_csum(struct zt_super *s, const struct zt_vnet *v) {
    uint32_t at = (uint32_t)v->csum_start + v->csum_offset;
    if (v->csum_start < ZT_ETHER_LEN || at + 2 > s->len) {
        return false;
    }
    s->l4 = v->csum_start;
    s->csum_at = (uint16_t)at;
    s->kind = ZT_SUPER_CSUM;
    return true;
}

/* Find the IP header behind at most two VLAN tags, and check that it ends where the vnet header says that TCP or UDP starts. IPv6
 * extension headers in between are copied as they are. */
static bool describe_ip(struct zt_super *s, uint8_t proto) {
    s->l3 = ZT_ETHER_LEN;
    uint16_t type = zt_get16(s->frame + ZT_MACS_LEN);
    for (uint32_t i = 0; i < ZT_TAGS_MAX && zt_is_tag(type) && s->len >= s->l3 + ZT_TAG_LEN; i++) {
        type = zt_get16(s->frame + s->l3 + 2);
        s->l3 += ZT_TAG_LEN;
    }
    const uint8_t *ip = s->frame + s->l3;
    if (type == ZT_ETHERTYPE_IPV4) {
        uint32_t header = s->len >= s->l3 + ZT_IPV4_LEN ? (ip[0] & 15u) * 4 : 0;
        s->pseudo = header >= ZT_IPV4_LEN ? zt_sum_pseudo(ip + 12, 8, proto) : 0;
        return header >= ZT_IPV4_LEN && ip[0] >> 4 == 4 && ip[9] == proto && s->l3 + header == s->l4 &&
               (zt_get16(ip + 6) & ZT_IPV4_FRAGMENT) == 0;
    }
    if (type == ZT_ETHERTYPE_IPV6 && s->l4 >= s->l3 + ZT_IPV6_LEN && s->len >= s->l4 && ip[0] >> 4 == 6) {
        s->ipv6 = true;
        s->pseudo = zt_sum_pseudo(ip + 8, 32, proto);
        return s->l4 > s->l3 + ZT_IPV6_LEN || ip[6] == proto;
    }
    return false;
}

/* A super-frame: TCP or UDP payload to be cut every gso_size bytes. */
static bool describe_gso(struct zt_super *s, const struct zt_vnet *v) {
    uint8_t type = v->gso_type & (uint8_t)~ZT_VNET_GSO_ECN;
    bool udp = type == ZT_VNET_GSO_UDP_L4;
    if (!udp && type != ZT_VNET_GSO_TCPV4 && type != ZT_VNET_GSO_TCPV6) {
        return false;
    }
    s->kind = udp ? ZT_SUPER_UDP : ZT_SUPER_TCP;
    s->l4 = v->csum_start;
    uint32_t least = s->l4 + (udp ? ZT_UDP_LEN : ZT_TCP_LEN);
    if (v->gso_size == 0 || (v->flags & ZT_VNET_NEEDS_CSUM) == 0 || least > s->len || v->csum_offset != (udp ? 6 : 16) ||
        !describe_ip(s, udp ? ZT_PROTO_UDP : ZT_PROTO_TCP) || (!udp && s->ipv6 != (type == ZT_VNET_GSO_TCPV6))) {
        return false;
    }
    uint32_t header = udp ? ZT_UDP_LEN : (s->frame[s->l4 + 12] >> 4) * 4u;
    if (s->l4 + header < least || s->l4 + header > s->len) {
        return false;
    }
    s->payload = (uint16_t)(s->l4 + header);
    s->gso = v->gso_size;
    uint32_t total = s->len - s->payload;
    s->segments = total == 0 ? 1 : (total + s->gso - 1) / s->gso;
    /* no packet of ours may be longer than an IP length field */
    return s->payload - s->l3 + (total < s->gso ? total : s->gso) <= 0xffff;
}

bool zt_super_init(struct zt_super *s, const struct zt_vnet *vnet, const uint8_t *frame, size_t len) {
    *s = (struct zt_super){.frame = frame, .len = (uint32_t)len, .segments = 1, .kind = ZT_SUPER_PLAIN};
    if (len < ZT_ETHER_LEN || len > 0xffffu + ZT_ETHER_LEN + ZT_TAGS_MAX * ZT_TAG_LEN) {
        return false;
    }
    if (vnet == NULL) {
        return true;
    }
    if (vnet->gso_type != ZT_VNET_GSO_NONE) {
        return describe_gso(s, vnet);
    }
    return (vnet->flags & ZT_VNET_NEEDS_CSUM) == 0 || describe_csum(s, vnet);
}

/* ---- emit -------------------------------------------------------------------------------------------------------------------- */

static void emit_csum(const struct zt_super *s, uint8_t *body) {
    uint32_t before = s->l4 - ZT_MACS_LEN;
    memcpy(body, s->frame + ZT_MACS_LEN, before);
    /* the field itself holds the pseudo-header's sum: it is part of the sum */
    uint32_t sum = zt_copy_sum(body + before, s->frame + s->l4, s->len - s->l4, 0);
    zt_put16(body + s->csum_at - ZT_MACS_LEN, zt_sum_finish(sum));
}

static void emit_ip(const struct zt_super *s, uint32_t i, uint8_t *ip, uint32_t length) {
    if (s->ipv6) {
        zt_put16(ip + 4, (uint16_t)(length - ZT_IPV6_LEN));
        return;
    }
    zt_put16(ip + 2, (uint16_t)length);
    zt_put16(ip + 4, (uint16_t)(zt_get16(ip + 4) + i));
    zt_put16(ip + 10, 0);
    zt_put16(ip + 10, (uint16_t)~zt_sum_fold(zt_sum(ip, (ip[0] & 15u) * 4, 0)));
}

static void emit_tcp(const struct zt_super *s, uint32_t i, uint8_t *tcp) {
    zt_put32(tcp + 4, zt_get32(tcp + 4) + i * s->gso);
    if (i + 1 != s->segments) {
        tcp[13] &= (uint8_t)~(ZT_TCP_FIN | ZT_TCP_PSH);
    }
    if (i != 0) {
        tcp[13] &= (uint8_t)~ZT_TCP_CWR;
    }
}

static void emit_gso(const struct zt_super *s, uint32_t i, uint8_t *body) {
    uint32_t head = s->payload - ZT_MACS_LEN, size = zt_super_size(s, i), data = size - head;
    uint8_t *ip = body + s->l3 - ZT_MACS_LEN, *l4 = body + s->l4 - ZT_MACS_LEN;
    memcpy(body, s->frame + ZT_MACS_LEN, head);
    uint32_t sum = zt_copy_sum(body + head, s->frame + s->payload + (size_t)i * s->gso, data, s->pseudo);
    uint32_t l4_length = s->payload - s->l4 + data;
    emit_ip(s, i, ip, s->l4 - s->l3 + l4_length);
    uint8_t *field;
    if (s->kind == ZT_SUPER_TCP) {
        emit_tcp(s, i, l4);
        field = l4 + 16;
    } else {
        zt_put16(l4 + 4, (uint16_t)l4_length);
        field = l4 + 6;
    }
    zt_put16(field, 0);
    zt_put16(field, zt_sum_finish(zt_sum(l4, s->payload - s->l4, zt_sum_add(sum, zt_sum_length(l4_length)))));
}

void zt_super_emit(const struct zt_super *s, uint32_t i, uint8_t *body) {
    if (s->kind == ZT_SUPER_PLAIN) {
        memcpy(body, s->frame + ZT_MACS_LEN, s->len - ZT_MACS_LEN);
    } else if (s->kind == ZT_SUPER_CSUM) {
        emit_csum(s, body);
    } else {
        emit_gso(s, i, body);
    }
}
