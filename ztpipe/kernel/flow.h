/* flow.h: one number per inner flow. Frames of one flow get the same number, so they take the same crypto worker and stay in order. */
#ifndef ZT_FLOW_H
#define ZT_FLOW_H

#include "net.h"
#include "table.h"

/* Addresses, protocol and ports; without ports for fragments and for what is neither TCP nor UDP. `ip` points at the IP header. */
static inline uint64_t zt_flow_ipv4(const uint8_t *ip, size_t n) {
    uint64_t addresses, ports = 0;
    memcpy(&addresses, ip + 12, sizeof addresses);
    size_t header = (ip[0] & 15u) * 4;
    if ((ip[9] == ZT_PROTO_TCP || ip[9] == ZT_PROTO_UDP) && (zt_get16(ip + 6) & ZT_IPV4_FRAGMENT) == 0 && n >= header + 4) {
        ports = zt_get32(ip + header);
    }
    return zt_mix64(addresses ^ zt_mix64(ports << 8 | ip[9]));
}

static inline uint64_t zt_flow_ipv6(const uint8_t *ip, size_t n) {
    uint64_t a[4], ports = 0;
    memcpy(a, ip + 8, sizeof a);
    if ((ip[6] == ZT_PROTO_TCP || ip[6] == ZT_PROTO_UDP) && n >= ZT_IPV6_LEN + 4) {
        ports = zt_get32(ip + ZT_IPV6_LEN);
    }
    return zt_mix64(a[0] ^ zt_mix64(a[1] ^ zt_mix64(a[2] ^ zt_mix64(a[3] ^ zt_mix64(ports << 8 | ip[6])))));
}

/* `body`: EtherType and payload, n >= 2. `seed`: tells apart what the body does not say (the MACs, the network). Never 0. */
static inline uint32_t zt_flow_hash(const uint8_t *body, size_t n, uint64_t seed) {
    uint16_t type = zt_get16(body);
    body += 2;
    n -= 2;
    for (unsigned i = 0; i < ZT_TAGS_MAX && zt_is_tag(type) && n >= ZT_TAG_LEN; i++) {
        type = zt_get16(body + 2);
        body += ZT_TAG_LEN;
        n -= ZT_TAG_LEN;
    }
    uint64_t h = zt_mix64(seed + type);
    if (type == ZT_ETHERTYPE_IPV4 && n >= ZT_IPV4_LEN) {
        h = zt_flow_ipv4(body, n);
    } else if (type == ZT_ETHERTYPE_IPV6 && n >= ZT_IPV6_LEN) {
        h = zt_flow_ipv6(body, n);
    }
    uint32_t folded = (uint32_t)(h ^ h >> 32);
    return folded == 0 ? 1 : folded;
}

#endif
