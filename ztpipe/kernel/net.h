/* net.h: byte order, and the offsets of the headers that the stages touch. Nothing here allocates, and nothing checks lengths. */
#ifndef ZT_NET_H
#define ZT_NET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* ---- big-endian fields at any alignment ------------------------------------------------------------------------------- */

static inline uint16_t zt_get16(const uint8_t *p) {
    uint16_t v;
    memcpy(&v, p, sizeof v);
    return __builtin_bswap16(v);
}

static inline uint32_t zt_get32(const uint8_t *p) {
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return __builtin_bswap32(v);
}

static inline uint64_t zt_get40(const uint8_t *p) { return (uint64_t)p[0] << 32 | zt_get32(p + 1); }
static inline uint64_t zt_get48(const uint8_t *p) { return (uint64_t)zt_get16(p) << 32 | zt_get32(p + 2); }
static inline uint64_t zt_get64(const uint8_t *p) { return (uint64_t)zt_get32(p) << 32 | zt_get32(p + 4); }

static inline void zt_put16(uint8_t *p, uint16_t v) {
    v = __builtin_bswap16(v);
    memcpy(p, &v, sizeof v);
}

static inline void zt_put32(uint8_t *p, uint32_t v) {
    v = __builtin_bswap32(v);
    memcpy(p, &v, sizeof v);
}

static inline void zt_put40(uint8_t *p, uint64_t v) {
    p[0] = (uint8_t)(v >> 32);
    zt_put32(p + 1, (uint32_t)v);
}

static inline void zt_put48(uint8_t *p, uint64_t v) {
    zt_put16(p, (uint16_t)(v >> 32));
    zt_put32(p + 2, (uint32_t)v);
}

static inline void zt_put64(uint8_t *p, uint64_t v) {
    zt_put32(p, (uint32_t)(v >> 32));
    zt_put32(p + 4, (uint32_t)v);
}

/* ---- Ethernet, IP, TCP, UDP --------------------------------------------------------------------------------------------- */

#define ZT_MACS_LEN 12u /* destination and source; what follows (EtherType, payload) is the frame's "body" */
#define ZT_ETHER_LEN 14u
#define ZT_ETHERTYPE_IPV4 0x0800u
#define ZT_ETHERTYPE_IPV6 0x86ddu
#define ZT_ETHERTYPE_VLAN 0x8100u  /* 802.1Q */
#define ZT_ETHERTYPE_OUTER 0x88a8u /* 802.1ad */
#define ZT_TAGS_MAX 2u
#define ZT_TAG_LEN 4u

static inline bool zt_is_tag(uint16_t type) { return type == ZT_ETHERTYPE_VLAN || type == ZT_ETHERTYPE_OUTER; }

#define ZT_PROTO_TCP 6u
#define ZT_PROTO_UDP 17u
#define ZT_PROTO_ICMPV6 0x3au
#define ZT_IPV4_LEN 20u
#define ZT_IPV6_LEN 40u
#define ZT_TCP_LEN 20u
#define ZT_UDP_LEN 8u

#define ZT_IPV4_DF 0x4000u
#define ZT_IPV4_FRAGMENT 0x3fffu /* MF and the offset: not zero in every fragment */

#define ZT_TCP_FIN 0x01u
#define ZT_TCP_PSH 0x08u
#define ZT_TCP_ACK 0x10u
#define ZT_TCP_ECE 0x40u
#define ZT_TCP_CWR 0x80u

/* ---- VL1 packets (vl1-wire §4, §6.1, §9.7, §9.8) --------------------------------------------------------------------- */

#define ZT_PACKET_HEADER 28u /* up to and including the verb */
#define ZT_PACKET_LONGEST 10024u
#define ZT_FRAGMENT_HEADER 16u
#define ZT_BEACON_LENGTH 13u /* of the LAN beacons of old nodes (vl1-wire §4.5) */
#define ZT_FRAGMENTS_MAX 7u
#define ZT_FRAGMENT_INDICATOR 0xffu
#define ZT_FRAGMENT_HOPS 15u
#define ZT_P_ID 0u
#define ZT_P_DESTINATION 8u
#define ZT_P_SOURCE 13u
#define ZT_P_FLAGS 18u
#define ZT_P_VERB 27u
#define ZT_FLAG_FRAGMENTED 0x40u
#define ZT_FLAGS_SALSA 0x88u /* suite 1 with its historic "encrypted" bit */
#define ZT_FLAGS_SIV 0x18u   /* suite 3 */
#define ZT_HOPS 0x07u
#define ZT_SUITE_NONE 0u /* Poly1305 over the clear text */
#define ZT_SUITE_SALSA 1u
#define ZT_SUITE_SIV 3u
#define ZT_VERB_MASK 0x1fu
#define ZT_VERB_HELLO 0x01u
#define ZT_VERB_FRAME 0x06u
#define ZT_VERB_EXT_FRAME 0x07u
#define ZT_VERB_MULTICAST_FRAME 0x0eu
#define ZT_VERB_COMPRESSED 0x80u
#define ZT_FRAME_NWID 28u
#define ZT_FRAME_BODY 36u /* FRAME: EtherType and payload, exactly an Ethernet frame without its MACs */
#define ZT_EXT_FLAGS 36u
#define ZT_EXT_MACS 37u /* EXT_FRAME without a certificate: a complete Ethernet frame */
#define ZT_EXT_BODY 49u
#define ZT_MULTICAST_FLAGS 36u
#define ZT_MULTICAST_BODY 47u /* without gather limit and source MAC: EtherType and payload */
#define ZT_MULTICAST_COM 1u /* a certificate follows */
#define ZT_MULTICAST_GATHER 2u
#define ZT_MULTICAST_SOURCE 4u
#define ZT_MULTICAST_REPLICATE 8u

static inline uint8_t zt_suite(const uint8_t *packet) { return packet[ZT_P_FLAGS] >> 3 & 7; }

/* The MAC of a node on a network, and back (vl1-wire §1.3). */
static inline uint64_t zt_mac_fold(uint64_t low40, uint64_t nwid) {
    return low40 ^ (nwid >> 8 & 0xff) << 32 ^ (nwid >> 16 & 0xff) << 24 ^ (nwid >> 24 & 0xff) << 16 ^ (nwid >> 32 & 0xff) << 8 ^
           (nwid >> 40 & 0xff);
}

static inline uint8_t zt_mac_first(uint64_t nwid) {
    uint8_t first = (uint8_t)((nwid & 0xfe) | 0x02);
    return first == 0x52 ? 0x32 : first;
}

static inline uint64_t zt_mac_of(uint64_t address, uint64_t nwid) {
    return (uint64_t)zt_mac_first(nwid) << 40 | zt_mac_fold(address, nwid);
}

static inline uint64_t zt_address_of_mac(uint64_t mac, uint64_t nwid) { return zt_mac_fold(mac & 0xffffffffffu, nwid); }

/* ---- the vnet header (virtio 1.2 §5.1.6; struct virtio_net_hdr_mrg_rxbuf) --------------------------------------------- */

/* Fields in the machine's byte order, as the TUN driver uses without TUNSETVNETLE/BE. */
struct zt_vnet {
    uint8_t flags;
    uint8_t gso_type;
    uint16_t hdr_len;
    uint16_t gso_size;
    uint16_t csum_start; /* from the first byte of the Ethernet header */
    uint16_t csum_offset;
    uint16_t num_buffers;
};
_Static_assert(sizeof(struct zt_vnet) == 12, "what TUNSETVNETHDRSZ was set to");

#define ZT_VNET_NEEDS_CSUM 1u
#define ZT_VNET_DATA_VALID 2u
#define ZT_VNET_GSO_NONE 0u
#define ZT_VNET_GSO_TCPV4 1u
#define ZT_VNET_GSO_TCPV6 4u
#define ZT_VNET_GSO_UDP_L4 5u
#define ZT_VNET_GSO_ECN 0x80u

#endif
