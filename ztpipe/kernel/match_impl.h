/* match_impl.h: one match of a rule against one frame (vl2 §4.4, §4.5): a part of filter.c, which needs it inlined. Its twin is
 * ztpipe/rules/match.py with frameview.py: a change here is a change there. */
#ifndef ZT_MATCH_IMPL_H
#define ZT_MATCH_IMPL_H

#include "crypto.h"
#include "filter.h"
#include "net.h"
#include "policy_impl.h"

#define CHARACTERISTIC_INBOUND (1ull << 63)
#define CHARACTERISTIC_MULTICAST (1ull << 62)
#define CHARACTERISTIC_BROADCAST (1ull << 61)
#define CHARACTERISTIC_IP_AUTHENTICATED (1ull << 60)
#define CHARACTERISTIC_MAC_AUTHENTICATED (1ull << 59)

#define ETHERTYPE_ARP 0x0806u
#define PROTO_ICMP 1u
#define BROADCAST 0xffffffffffffull
#define NEIGHBOUR_SOLICITATION 0x87u
#define NEIGHBOUR_ADVERTISEMENT 0x88u

/* A frame, read once and asked often. */
struct zt_frame {
    const struct zt_situation *s;
    bool ipv4;           /* present, vl2 §4.4 */
    bool ipv6;
    bool walked;         /* the IPv6 extension headers end inside the frame */
    bool characterised;
    uint8_t protocol;    /* IPv4, or behind the IPv6 extension headers */
    uint32_t l4;         /* offset behind the IP headers, unchecked for IPv4 */
    uint64_t characteristics;
};

enum zt_answer { ZT_NO, ZT_YES, ZT_HARD_NO, ZT_HARD_YES, ZT_HARD_YES_SKIP_DROP };

static bool is_extension(uint8_t protocol) { return protocol == 0 || protocol == 43 || protocol == 60 || protocol == 135; }

static void walk(struct zt_frame *f) {
    const uint8_t *data = f->s->data;
    uint32_t at = ZT_IPV6_LEN, len = f->s->len;
    uint8_t protocol = data[6];
    while (at <= len) {
        if (!is_extension(protocol)) {
            f->walked = true;
            f->protocol = protocol;
            f->l4 = at;
            return;
        }
        if (at + 8 > len) {
            return;
        }
        protocol = data[at];
        at += data[at + 1] * 8u + 8u;
    }
}

static struct zt_frame zt_frame_look(const struct zt_situation *s) {
    struct zt_frame f = {.s = s};
    if (s->ethertype == ZT_ETHERTYPE_IPV4 && s->len >= ZT_IPV4_LEN) {
        f.ipv4 = true;
        f.protocol = s->data[9];
        f.l4 = 4u * (s->data[0] & 0x0f);
    } else if (s->ethertype == ZT_ETHERTYPE_IPV6 && s->len >= ZT_IPV6_LEN) {
        f.ipv6 = true;
        walk(&f);
    }
    return f;
}

static uint64_t tcp_flags(const struct zt_frame *f) {
    const uint8_t *data = f->s->data;
    bool there = f->ipv4 ? f->s->len > f->l4 + 13 : f->walked && f->s->len > f->l4 + 14;
    return there && f->protocol == ZT_PROTO_TCP ? data[f->l4 + 13] | (uint64_t)(data[f->l4 + 12] & 0x0f) << 8 : 0;
}

static bool owns_ip(const struct zt_frame *f, const uint8_t *ip, size_t length) {
    const struct zt_situation *s = f->s;
    uint8_t type = length == 4 ? ZT_THING_IPV4 : ZT_THING_IPV6;
    return zt_policy_owns(s->inbound ? s->remote : s->own, type, ip) || (s->inbound && length == 16 && zt_policy_owns(s->own, ZT_THING_EMULATED, ip));
}

static bool ip_authenticated(const struct zt_frame *f) {
    const uint8_t *data = f->s->data;
    if (f->ipv4) {
        return owns_ip(f, data + 12, 4);
    }
    if (f->ipv6) {
        uint8_t icmp = f->s->len >= 64 && data[6] == ZT_PROTO_ICMPV6 ? data[40] : 0;
        return icmp == NEIGHBOUR_SOLICITATION || owns_ip(f, data + (icmp == NEIGHBOUR_ADVERTISEMENT ? 48 : 8), 16);
    }
    return f->s->ethertype == ETHERTYPE_ARP && f->s->len >= 28 && owns_ip(f, data + 14, 4);
}

static uint64_t characteristics(struct zt_frame *f) {
    const struct zt_situation *s = f->s;
    if (!f->characterised) {
        uint8_t mac[6];
        zt_put48(mac, s->mac_source);
        f->characteristics = tcp_flags(f) | (s->inbound ? CHARACTERISTIC_INBOUND : 0) |
                             (s->mac_dest >> 40 & 1 ? CHARACTERISTIC_MULTICAST : 0) |
                             (s->mac_dest == BROADCAST ? CHARACTERISTIC_BROADCAST : 0) |
                             (ip_authenticated(f) ? CHARACTERISTIC_IP_AUTHENTICATED : 0) |
                             (zt_policy_owns(s->inbound ? s->remote : s->own, ZT_THING_MAC, mac) ? CHARACTERISTIC_MAC_AUTHENTICATED : 0);
        f->characterised = true;
    }
    return f->characteristics;
}

/* ---- matches (vl2 §4.4, §4.5) ---------------------------------------------------------------------------------------------- */

static enum zt_answer soft(bool condition) { return condition ? ZT_YES : ZT_NO; }

static enum zt_answer match_ipv4(const struct zt_frame *f, const struct zt_rule *r, uint32_t at) {
    if (!f->ipv4) {
        return ZT_HARD_NO;
    }
    uint32_t mask = r->a == 0 ? 0 : 0xffffffffu << (32 - (r->a & 31)) % 32;
    return soft(r->a <= 32 && ((zt_get32(f->s->data + at) ^ r->b) & mask) == 0);
}

/* The rule's address is not masked on purpose: bits below its prefix never match. */
static enum zt_answer match_ipv6(const struct zt_frame *f, const struct zt_rule *r, uint32_t at) {
    if (!f->ipv6) {
        return ZT_HARD_NO;
    }
    uint8_t rule[16];
    memcpy(rule, &r->x, 8);
    memcpy(rule + 8, &r->y, 8);
    uint32_t bits = r->a;
    uint64_t high = bits == 0 ? 0 : bits >= 64 ? ~0ull : ~0ull << (64 - bits);
    uint64_t low = bits <= 64 ? 0 : bits >= 128 ? ~0ull : ~0ull << (128 - bits);
    const uint8_t *ip = f->s->data + at;
    return soft(bits <= 128 && (zt_get64(ip) & high) == zt_get64(rule) && (zt_get64(ip + 8) & low) == zt_get64(rule + 8));
}

/* b: mask, low, high in its three low bytes, the mask lowest */
static enum zt_answer match_tos(const struct zt_frame *f, const struct zt_rule *r) {
    const uint8_t *data = f->s->data;
    if (!f->ipv4 && !f->ipv6) {
        return ZT_HARD_NO;
    }
    uint8_t tos = f->ipv4 ? data[1] : (uint8_t)(data[0] << 4 | data[1] >> 4);
    tos &= (uint8_t)r->b;
    return soft((r->b >> 8 & 0xff) <= tos && tos <= (r->b >> 16 & 0xff));
}

static enum zt_answer match_protocol(const struct zt_frame *f, const struct zt_rule *r) {
    return f->ipv4 || f->walked ? soft(f->protocol == r->b) : ZT_HARD_NO;
}

/* b: type, code, flags in its three low bytes, the type lowest */
static enum zt_answer match_icmp(const struct zt_frame *f, const struct zt_rule *r) {
    const uint8_t *data = f->s->data;
    bool icmp = f->ipv4 ? f->protocol == PROTO_ICMP : f->walked && f->protocol == ZT_PROTO_ICMPV6;
    if (!icmp || f->s->len < f->l4 + 2 || data[f->l4] != (r->b & 0xff)) {
        return ZT_HARD_NO;
    }
    return (r->b >> 16 & 1) != 0 ? soft(data[f->l4 + 1] == (r->b >> 8 & 0xff)) : ZT_HARD_YES;
}

/* a: low, b: high */
static enum zt_answer match_ports(const struct zt_frame *f, const struct zt_rule *r, uint32_t at) {
    if (!f->ipv4 && !f->walked) {
        return ZT_HARD_NO;
    }
    bool has_ports = f->protocol == ZT_PROTO_TCP || f->protocol == ZT_PROTO_UDP || f->protocol == 132 || f->protocol == 136;
    if (!has_ports || f->s->len <= f->l4 + 4) {
        return ZT_NO;
    }
    uint32_t port = zt_get16(f->s->data + f->l4 + at);
    return soft(r->a <= port && port <= r->b && (f->ipv4 || port != 0)); /* over IPv6 port 0 never matches */
}

/* x: first, y: last, a: index, b: format */
static enum zt_answer match_integer(const struct zt_frame *f, const struct zt_rule *r) {
    uint32_t bits = (r->b & 63) + 1, size = (bits + 7) / 8;
    bool little = (r->b & 0x80) != 0;
    uint32_t at = little ? r->a : r->a + 8u - size;
    uint64_t integer = 0;
    if (at + size <= f->s->len) {
        const uint8_t *p = f->s->data + at;
        for (uint32_t i = 0; i < size; i++) {
            integer = integer << 8 | p[little ? size - 1 - i : i];
        }
        if (little) {
            integer >>= 8 * size - bits;
        } else if (bits < 64) {
            integer &= (1ull << bits) - 1;
        }
    }
    return soft(r->x <= integer && integer <= r->y);
}

static enum zt_answer match_random(const struct zt_rule *r) {
    uint32_t drawn;
    zt_random_bytes((uint8_t *)&drawn, sizeof drawn);
    return soft(drawn <= r->b);
}

/* b: tag, x: value. Strict at the receiver, lenient at the sender. */
static enum zt_answer match_tags(const struct zt_situation *s, const struct zt_rule *r, bool super) {
    uint32_t mine, theirs, wanted = (uint32_t)r->x;
    if (!zt_policy_tag(s->own, r->b, &mine)) {
        return ZT_HARD_NO;
    }
    if (!zt_policy_tag(s->remote, r->b, &theirs)) {
        return s->inbound && !super ? ZT_HARD_NO : ZT_HARD_YES_SKIP_DROP;
    }
    switch (r->op) {
    case ZT_RULE_TAGS_DIFFERENCE:
        return soft((mine > theirs ? mine - theirs : theirs - mine) <= wanted);
    case ZT_RULE_TAGS_AND:
        return soft((mine & theirs) == wanted);
    case ZT_RULE_TAGS_OR:
        return soft((mine | theirs) == wanted);
    case ZT_RULE_TAGS_XOR:
        return soft((mine ^ theirs) == wanted);
    default:
        return soft(mine == wanted && theirs == wanted);
    }
}

static enum zt_answer match_tag_of_side(const struct zt_situation *s, const struct zt_rule *r, bool super) {
    uint32_t held;
    bool about_remote = s->inbound == (r->op == ZT_RULE_TAG_SENDER);
    if (super) {
        return ZT_HARD_YES_SKIP_DROP;
    }
    if (zt_policy_tag(about_remote ? s->remote : s->own, r->b, &held)) {
        return soft(held == (uint32_t)r->x);
    }
    return about_remote && !s->inbound ? ZT_HARD_YES_SKIP_DROP : ZT_HARD_NO;
}

static enum zt_answer zt_match(struct zt_frame *f, const struct zt_rule *r, bool super) {
    const struct zt_situation *s = f->s;
    switch (r->op) {
    case ZT_RULE_CONSTANT:
        return soft(r->a != 0);
    case ZT_RULE_ZT_SOURCE:
        return soft((s->inbound ? s->peer : s->self) == r->x);
    case ZT_RULE_ZT_DEST:
        return soft((s->inbound ? s->self : s->peer) == r->x);
    case ZT_RULE_MAC_SOURCE:
        return soft(s->mac_source == r->x);
    case ZT_RULE_MAC_DEST:
        return soft(s->mac_dest == r->x);
    case ZT_RULE_IPV4_SOURCE:
        return match_ipv4(f, r, 12);
    case ZT_RULE_IPV4_DEST:
        return match_ipv4(f, r, 16);
    case ZT_RULE_IPV6_SOURCE:
        return match_ipv6(f, r, 8);
    case ZT_RULE_IPV6_DEST:
        return match_ipv6(f, r, 24);
    case ZT_RULE_IP_TOS:
        return match_tos(f, r);
    case ZT_RULE_IP_PROTOCOL:
        return match_protocol(f, r);
    case ZT_RULE_ETHERTYPE:
        return soft(s->ethertype == r->b);
    case ZT_RULE_ICMP:
        return match_icmp(f, r);
    case ZT_RULE_SOURCE_PORTS:
        return match_ports(f, r, 0);
    case ZT_RULE_DEST_PORTS:
        return match_ports(f, r, 2);
    case ZT_RULE_CHARACTERISTICS:
        return soft((characteristics(f) & r->x) != 0);
    case ZT_RULE_FRAME_SIZE:
        return soft(r->a <= s->len && s->len <= r->b);
    case ZT_RULE_RANDOM:
        return match_random(r);
    case ZT_RULE_TAG_SENDER:
    case ZT_RULE_TAG_RECEIVER:
        return match_tag_of_side(s, r, super);
    case ZT_RULE_INTEGER_RANGE:
        return match_integer(f, r);
    case ZT_RULE_TAGS_DIFFERENCE:
    case ZT_RULE_TAGS_AND:
    case ZT_RULE_TAGS_OR:
    case ZT_RULE_TAGS_XOR:
    case ZT_RULE_TAGS_EQUAL:
        return match_tags(s, r, super);
    default:
        return ZT_HARD_NO; /* flat.py writes no others */
    }
}

#endif
