/* filter.h: the rules of a network applied to one frame (vl2 §4), in the flat form that ztpipe/rules/flat.py writes.
 *
 * A policy is one piece of memory without pointers: a header, then rules, owned things, lists of rules and tags. There are two kinds:
 *   ours      list 0 = base rules, the others = our capabilities by ascending ID; our tags; what our certificates of ownership name
 *   a member's  lists = its capabilities in force; its tags in force; what its certificates in force name
 * A policy is checked once (zt_policy_check), when it comes from shared memory; evaluation then trusts it. No allocation, no system call.
 */
#ifndef ZT_FILTER_H
#define ZT_FILTER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ZT_POLICY_MAGIC 0x5a545046u
#define ZT_POLICY_MAX (128u * 1024u) /* bytes of one policy */

/* zt_policy.flags: what may make the segments of one super-frame fare differently, and what C leaves to the slow path. */
#define ZT_POLICY_HEADERS 1u /* asks for the frame's length or its TCP flags */
#define ZT_POLICY_BODY 2u    /* asks for any byte, or for a random number */
#define ZT_POLICY_TARGETS 4u /* may copy or redirect: a frame that is must be punted */
#define ZT_POLICY_STRICT 8u  /* ours: inbound frames that rules cannot judge are dropped */

/* Codes of zt_rule.op. Actions and matches have the numbers of vl2 §4.1; ZT_RULE_CONSTANT stands for matches that do not depend on the
 * frame (VLAN fields, unknown types): soft answer `a`. ZT_RULE_NOTHING stands for unknown actions. */
enum zt_rule_op {
    ZT_RULE_DROP = 0,
    ZT_RULE_ACCEPT = 1,
    ZT_RULE_TEE = 2,
    ZT_RULE_WATCH = 3,
    ZT_RULE_REDIRECT = 4,
    ZT_RULE_BREAK = 5,
    ZT_RULE_PRIORITY = 6,
    ZT_RULE_NOTHING = 7,
    ZT_RULE_FIRST_MATCH = 16,
    ZT_RULE_CONSTANT = 16,
    ZT_RULE_ZT_SOURCE = 24,
    ZT_RULE_ZT_DEST = 25,
    ZT_RULE_MAC_SOURCE = 29,
    ZT_RULE_MAC_DEST = 30,
    ZT_RULE_IPV4_SOURCE = 31,
    ZT_RULE_IPV4_DEST = 32,
    ZT_RULE_IPV6_SOURCE = 33,
    ZT_RULE_IPV6_DEST = 34,
    ZT_RULE_IP_TOS = 35,
    ZT_RULE_IP_PROTOCOL = 36,
    ZT_RULE_ETHERTYPE = 37,
    ZT_RULE_ICMP = 38,
    ZT_RULE_SOURCE_PORTS = 39,
    ZT_RULE_DEST_PORTS = 40,
    ZT_RULE_CHARACTERISTICS = 41,
    ZT_RULE_FRAME_SIZE = 42,
    ZT_RULE_RANDOM = 43,
    ZT_RULE_TAGS_DIFFERENCE = 44,
    ZT_RULE_TAGS_AND = 45,
    ZT_RULE_TAGS_OR = 46,
    ZT_RULE_TAGS_XOR = 47,
    ZT_RULE_TAGS_EQUAL = 48,
    ZT_RULE_TAG_SENDER = 49,
    ZT_RULE_TAG_RECEIVER = 50,
    ZT_RULE_INTEGER_RANGE = 51,
};

#define ZT_RULE_NOT 0x80u
#define ZT_RULE_OR 0x40u

/* Which operand holds what, by op, is in flat.py and filter.c. Numbers are in the machine's order; IPv6 addresses are the bytes of x, y. */
struct zt_rule {
    uint8_t op;
    uint8_t flags; /* ZT_RULE_NOT, ZT_RULE_OR */
    uint16_t a;
    uint32_t b;
    uint64_t x;
    uint64_t y;
};

enum zt_thing_type {
    ZT_THING_MAC = 1,
    ZT_THING_IPV4 = 2,
    ZT_THING_IPV6 = 3,
    ZT_THING_EMULATED = 4, /* in our policy: an IPv6 prefix whose addresses count as authenticated inbound (vl2 §4.4) */
};

struct zt_thing {
    uint8_t type;
    uint8_t length; /* bytes of value that count, at most 16 */
    uint8_t reserved[6];
    uint8_t value[16];
};

struct zt_rule_list {
    uint32_t first;
    uint32_t count;
};

struct zt_tag {
    uint32_t id; /* ascending, each once */
    uint32_t value;
};

struct zt_policy {
    uint32_t magic;
    uint32_t size; /* of everything */
    uint32_t flags;
    uint32_t rules;
    uint16_t things;
    uint16_t lists;
    uint16_t tags;
    uint16_t reserved[5];
    /* then: struct zt_rule[rules], struct zt_thing[things], struct zt_rule_list[lists], struct zt_tag[tags] */
};
_Static_assert(sizeof(struct zt_rule) == 24 && sizeof(struct zt_thing) == 24 && sizeof(struct zt_policy) == 32, "as flat.py packs them");

/* 0, or -EPROTO: not a policy, or its parts do not fit `size` bytes at `at` (8-byte aligned). */
int zt_policy_check(const void *at, size_t size);

/* A frame on its way. Addresses are 40-bit, MACs 48-bit numbers; data is the payload behind the EtherType. */
struct zt_situation {
    const struct zt_policy *own;
    const struct zt_policy *remote; /* NULL: nothing is known of the other side */
    const uint8_t *data;
    uint32_t len;
    uint16_t ethertype;
    bool inbound;
    bool no_copies; /* copies that rules want are not looked at */
    uint64_t self;
    uint64_t peer;
    uint64_t mac_source;
    uint64_t mac_dest;
};

enum zt_verdict { ZT_VERDICT_NO_MATCH, ZT_VERDICT_DROP, ZT_VERDICT_ACCEPT, ZT_VERDICT_SUPER_ACCEPT, ZT_VERDICT_REDIRECT };

/* The outcome of one list. copy_target 0: no copy is wanted. */
struct zt_evaluation {
    uint32_t verdict;
    uint32_t copy_length;
    uint64_t redirect;
    uint64_t copy_target;
    bool copy_watch;
};

/* List `list` of `policy` (ours, or a capability of either side) over one frame (vl2 §4.3). `list` < policy->lists. */
struct zt_evaluation zt_filter_list(const struct zt_policy *policy, uint32_t list, const struct zt_situation *s);

enum zt_decision { ZT_FILTER_PASS, ZT_FILTER_DROP, ZT_FILTER_PUNT };

/* Base rules, then capabilities (vl2 §4.6, §4.7). PUNT: the frame passes, but has to be copied or redirected. */
enum zt_decision zt_filter(const struct zt_situation *s);

/* ns that `times` decisions about one frame take. */
int64_t zt_filter_bench(const struct zt_situation *s, int times);

#endif
