/* The rules engine in C (filter.h). */
#define ZT_POLICY_MAGIC ...
#define ZT_POLICY_MAX ...
#define ZT_POLICY_HEADERS ...
#define ZT_POLICY_BODY ...
#define ZT_POLICY_TARGETS ...
static const int ZT_RULE_NOTHING;
static const int ZT_RULE_CONSTANT;
struct zt_policy;
struct zt_situation {
    const struct zt_policy *own;
    const struct zt_policy *remote;
    const uint8_t *data;
    uint32_t len;
    uint16_t ethertype;
    bool inbound;
    bool no_copies;
    uint64_t self;
    uint64_t peer;
    uint64_t mac_source;
    uint64_t mac_dest;
};
struct zt_evaluation {
    uint32_t verdict;
    uint32_t copy_length;
    uint64_t redirect;
    uint64_t copy_target;
    bool copy_watch;
};
int zt_policy_check(const void *at, size_t size);
struct zt_evaluation zt_filter_list(const struct zt_policy *policy, uint32_t list, const struct zt_situation *s);
enum zt_decision { ZT_FILTER_PASS, ZT_FILTER_DROP, ZT_FILTER_PUNT, ... };
enum zt_decision zt_filter(const struct zt_situation *s);
int64_t zt_filter_bench(const struct zt_situation *s, int times);
