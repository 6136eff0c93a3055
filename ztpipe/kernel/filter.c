/* filter.c: see filter.h. Its twin is ztpipe/rules/evaluate.py with match.py and frameview.py: a change here is a change there. */
#include "filter.h"

#include "crypto.h"
#include "net.h"
#include "policy_impl.h"

#include <time.h>

#define CHARACTERISTIC_INBOUND (1ull << 63)
#define CHARACTERISTIC_MULTICAST (1ull << 62)
#define CHARACTERISTIC_BROADCAST (1ull << 61)
#define CHARACTERISTIC_IP_AUTHENTICATED (1ull << 60)
#define CHARACTERISTIC_MAC_AUTHENTICATED (1ull << 59)

#define ETHERTYPE_ARP 0x0806u
#define PROTO_ICMP 1u
#define PROTO_ICMPV6 0x3au
#define BROADCAST 0xffffffffffffull
#define NEIGHBOUR_SOLICITATION 0x87u
#define NEIGHBOUR_ADVERTISEMENT 0x88u

/* ---- the frame: read once, asked often ----------------------------------------------------------------------------------- */

struct frame {
    const struct zt_situation *s;
    bool ipv4;           /* present, vl2 §4.4 */
    bool ipv6;
    bool walked;         /* the IPv6 extension headers end inside the frame */
    bool characterised;
    uint8_t protocol;    /* IPv4, or behind the IPv6 extension headers */
    uint32_t l4;         /* offset behind the IP headers, unchecked for IPv4 */
    uint64_t characteristics;
};

static bool is_extension(uint8_t protocol) { return protocol == 0 || protocol == 43 || protocol == 60 || protocol == 135; }

static void walk(struct frame *f) {
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

static struct frame look(const struct zt_situation *s) {
    struct frame f = {.s = s};
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

static uint64_t tcp_flags(const struct frame *f) {
    const uint8_t *data = f->s->data;
    bool there = f->ipv4 ? f->s->len > f->l4 + 13 : f->walked && f->s->len > f->l4 + 14;
    return there && f->protocol == ZT_PROTO_TCP ? data[f->l4 + 13] | (uint64_t)(data[f->l4 + 12] & 0x0f) << 8 : 0;
}

static bool owns_ip(const struct frame *f, const uint8_t *ip, size_t length) {
    const struct zt_situation *s = f->s;
    uint8_t type = length == 4 ? ZT_THING_IPV4 : ZT_THING_IPV6;
    return zt_policy_owns(s->inbound ? s->remote : s->own, type, ip) || (s->inbound && length == 16 && zt_policy_owns(s->own, ZT_THING_EMULATED, ip));
}

static bool ip_authenticated(const struct frame *f) {
    const uint8_t *data = f->s->data;
    if (f->ipv4) {
        return owns_ip(f, data + 12, 4);
    }
    if (f->ipv6) {
        uint8_t icmp = f->s->len >= 64 && data[6] == PROTO_ICMPV6 ? data[40] : 0;
        return icmp == NEIGHBOUR_SOLICITATION || owns_ip(f, data + (icmp == NEIGHBOUR_ADVERTISEMENT ? 48 : 8), 16);
    }
    return f->s->ethertype == ETHERTYPE_ARP && f->s->len >= 28 && owns_ip(f, data + 14, 4);
}

static uint64_t characteristics(struct frame *f) {
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

enum answer { NO, YES, HARD_NO, HARD_YES, HARD_YES_SKIP_DROP };

static enum answer soft(bool condition) { return condition ? YES : NO; }

static enum answer match_ipv4(const struct frame *f, const struct zt_rule *r, uint32_t at) {
    if (!f->ipv4) {
        return HARD_NO;
    }
    uint32_t mask = r->a == 0 ? 0 : 0xffffffffu << (32 - (r->a & 31)) % 32;
    return soft(r->a <= 32 && ((zt_get32(f->s->data + at) ^ r->b) & mask) == 0);
}

/* The rule's address is not masked on purpose: bits below its prefix never match. */
static enum answer match_ipv6(const struct frame *f, const struct zt_rule *r, uint32_t at) {
    if (!f->ipv6) {
        return HARD_NO;
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
static enum answer match_tos(const struct frame *f, const struct zt_rule *r) {
    const uint8_t *data = f->s->data;
    if (!f->ipv4 && !f->ipv6) {
        return HARD_NO;
    }
    uint8_t tos = f->ipv4 ? data[1] : (uint8_t)(data[0] << 4 | data[1] >> 4);
    tos &= (uint8_t)r->b;
    return soft((r->b >> 8 & 0xff) <= tos && tos <= (r->b >> 16 & 0xff));
}

static enum answer match_protocol(const struct frame *f, const struct zt_rule *r) {
    return f->ipv4 || f->walked ? soft(f->protocol == r->b) : HARD_NO;
}

/* b: type, code, flags in its three low bytes, the type lowest */
static enum answer match_icmp(const struct frame *f, const struct zt_rule *r) {
    const uint8_t *data = f->s->data;
    bool icmp = f->ipv4 ? f->protocol == PROTO_ICMP : f->walked && f->protocol == PROTO_ICMPV6;
    if (!icmp || f->s->len < f->l4 + 2 || data[f->l4] != (r->b & 0xff)) {
        return HARD_NO;
    }
    return (r->b >> 16 & 1) != 0 ? soft(data[f->l4 + 1] == (r->b >> 8 & 0xff)) : HARD_YES;
}

/* a: low, b: high */
static enum answer match_ports(const struct frame *f, const struct zt_rule *r, uint32_t at) {
    if (!f->ipv4 && !f->walked) {
        return HARD_NO;
    }
    bool has_ports = f->protocol == ZT_PROTO_TCP || f->protocol == ZT_PROTO_UDP || f->protocol == 132 || f->protocol == 136;
    if (!has_ports || f->s->len <= f->l4 + 4) {
        return NO;
    }
    uint32_t port = zt_get16(f->s->data + f->l4 + at);
    return soft(r->a <= port && port <= r->b && (f->ipv4 || port != 0)); /* over IPv6 port 0 never matches */
}

/* x: first, y: last, a: index, b: format */
static enum answer match_integer(const struct frame *f, const struct zt_rule *r) {
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

static enum answer match_random(const struct zt_rule *r) {
    uint32_t drawn;
    zt_random_bytes((uint8_t *)&drawn, sizeof drawn);
    return soft(drawn <= r->b);
}

/* b: tag, x: value. Strict at the receiver, lenient at the sender. */
static enum answer match_tags(const struct zt_situation *s, const struct zt_rule *r, bool super) {
    uint32_t mine, theirs, wanted = (uint32_t)r->x;
    if (!zt_policy_tag(s->own, r->b, &mine)) {
        return HARD_NO;
    }
    if (!zt_policy_tag(s->remote, r->b, &theirs)) {
        return s->inbound && !super ? HARD_NO : HARD_YES_SKIP_DROP;
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

static enum answer match_tag_of_side(const struct zt_situation *s, const struct zt_rule *r, bool super) {
    uint32_t held;
    bool about_remote = s->inbound == (r->op == ZT_RULE_TAG_SENDER);
    if (super) {
        return HARD_YES_SKIP_DROP;
    }
    if (zt_policy_tag(about_remote ? s->remote : s->own, r->b, &held)) {
        return soft(held == (uint32_t)r->x);
    }
    return about_remote && !s->inbound ? HARD_YES_SKIP_DROP : HARD_NO;
}

static enum answer match(struct frame *f, const struct zt_rule *r, bool super) {
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
        return HARD_NO; /* flat.py writes no others */
    }
}

/* ---- lists (vl2 §4.3) -------------------------------------------------------------------------------------------------------- */

struct run {
    bool matches;   /* the set so far */
    bool skip_drop;
    bool super;
};

static void take_match(struct run *run, struct frame *f, const struct zt_rule *r) {
    bool either = (r->flags & ZT_RULE_OR) != 0, result;
    if (!run->matches && !either) {
        return;
    }
    enum answer answer = match(f, r, run->super);
    run->skip_drop |= answer == HARD_YES_SKIP_DROP;
    if (answer == YES || answer == NO) {
        result = (answer == YES) != ((r->flags & ZT_RULE_NOT) != 0);
    } else {
        result = answer != HARD_NO;
    }
    run->matches = either ? run->matches || result : run->matches && result;
}

static bool is_targeted(const struct zt_rule *r) {
    return r->op == ZT_RULE_TEE || r->op == ZT_RULE_WATCH || r->op == ZT_RULE_REDIRECT;
}

/* x: target, b: most bytes of a copy, 0 = all. True: the list ends. */
static bool act_on_target(const struct frame *f, const struct zt_rule *r, struct zt_evaluation *e) {
    const struct zt_situation *s = f->s;
    if (r->x == (s->inbound ? s->peer : s->self)) {
        return false;
    }
    if (r->x == s->self) {
        e->verdict = ZT_VERDICT_SUPER_ACCEPT;
        return s->inbound;
    }
    if (r->x == (s->inbound ? s->self : s->peer)) {
        return false;
    }
    if (r->op == ZT_RULE_REDIRECT) {
        e->verdict = ZT_VERDICT_REDIRECT;
        e->redirect = r->x;
        return true;
    }
    e->copy_target = r->x;
    e->copy_length = r->b != 0 && r->b < s->len ? r->b : s->len;
    e->copy_watch = r->op == ZT_RULE_WATCH;
    return false;
}

/* An action whose set matches. True: the list ends with e->verdict. */
static bool act(struct run *run, const struct frame *f, const struct zt_rule *r, struct zt_evaluation *e) {
    switch (r->op) {
    case ZT_RULE_DROP:
        e->verdict = ZT_VERDICT_DROP;
        if (run->skip_drop) {
            run->skip_drop = false;
            return false;
        }
        return true;
    case ZT_RULE_ACCEPT:
        e->verdict = run->super ? ZT_VERDICT_SUPER_ACCEPT : ZT_VERDICT_ACCEPT;
        return true;
    case ZT_RULE_PRIORITY:
        e->verdict = ZT_VERDICT_ACCEPT;
        return true;
    case ZT_RULE_BREAK:
        e->verdict = ZT_VERDICT_NO_MATCH;
        return true;
    default:
        return is_targeted(r) && act_on_target(f, r, e);
    }
}

static struct zt_evaluation run_list(const struct zt_policy *policy, uint32_t list, struct frame *f) {
    const struct zt_rule *r = zt_policy_rules(policy) + zt_policy_lists(policy)[list].first, *end = r + zt_policy_lists(policy)[list].count;
    struct zt_evaluation e = {.verdict = ZT_VERDICT_NO_MATCH};
    struct run run = {.matches = true};
    for (; r < end; r++) {
        if (r->op >= ZT_RULE_FIRST_MATCH) {
            take_match(&run, f, r);
        } else if (run.matches) {
            if (act(&run, f, r, &e)) {
                return e;
            }
        } else {
            run.super |= f->s->inbound && is_targeted(r) && r->x == f->s->self;
            run.matches = true;
        }
    }
    e.verdict = ZT_VERDICT_NO_MATCH;
    return e;
}

struct zt_evaluation zt_filter_list(const struct zt_policy *policy, uint32_t list, const struct zt_situation *s) {
    struct frame f = look(s);
    return run_list(policy, list, &f);
}

/* Frames that rules cannot judge; twin: ztpipe/rules/strict.py. */
static bool unjudgeable(const struct frame *f) {
    const struct zt_situation *s = f->s;
    const uint8_t *data = s->data;
    if (s->ethertype == ZT_ETHERTYPE_IPV4) {
        if (!f->ipv4 || data[0] >> 4 != 4 || f->l4 < ZT_IPV4_LEN || f->l4 > s->len) {
            return true;
        }
        uint32_t fragment = zt_get16(data + 6);
        return (fragment & 0x1fff) != 0 || ((fragment & 0x2000) != 0 && s->len - f->l4 < 20);
    }
    if (s->ethertype != ZT_ETHERTYPE_IPV6) {
        return false;
    }
    if (!f->ipv6 || data[0] >> 4 != 6 || !f->walked || f->protocol == 44 || f->protocol == 51 || f->protocol == 139 ||
        f->protocol == 140) {
        return true;
    }
    /* neighbour discovery behind extension headers: ownership checks look at fixed places only */
    return f->protocol == PROTO_ICMPV6 && f->l4 != ZT_IPV6_LEN && f->l4 < s->len && data[f->l4] >= 133 && data[f->l4] <= 137;
}

static bool accepting(const struct zt_evaluation *e) { return e->verdict >= ZT_VERDICT_ACCEPT; }

enum zt_decision zt_filter(const struct zt_situation *s) {
    struct frame f = look(s);
    if (s->own->lists == 0) {
        return ZT_FILTER_DROP;
    }
    struct zt_evaluation base = run_list(s->own, 0, &f), deciding = base;
    if (base.verdict == ZT_VERDICT_NO_MATCH) {
        const struct zt_policy *holder = s->inbound ? s->remote : s->own;
        for (uint32_t i = s->inbound ? 0 : 1; holder != NULL && i < holder->lists && !accepting(&deciding); i++) {
            deciding = run_list(holder, i, &f);
        }
    }
    if (!accepting(&deciding)) {
        return ZT_FILTER_DROP;
    }
    if (s->inbound && (s->own->flags & ZT_POLICY_STRICT) != 0 && deciding.verdict != ZT_VERDICT_SUPER_ACCEPT && unjudgeable(&f)) {
        return ZT_FILTER_DROP;
    }
    bool copied = !s->no_copies && (deciding.copy_target != 0 || base.copy_target != 0);
    bool special = deciding.verdict == ZT_VERDICT_REDIRECT || copied;
    return special ? ZT_FILTER_PUNT : ZT_FILTER_PASS;
}

int64_t zt_filter_bench(const struct zt_situation *s, int times) {
    struct timespec from, to;
    volatile uint32_t sink = 0;
    clock_gettime(CLOCK_MONOTONIC, &from);
    for (int i = 0; i < times; i++) {
        sink += (uint32_t)zt_filter(s);
    }
    clock_gettime(CLOCK_MONOTONIC, &to);
    return (int64_t)(to.tv_sec - from.tv_sec) * 1000000000 + (to.tv_nsec - from.tv_nsec);
}
