/* policy_impl.h: the parts of a policy (filter.h), for those who have had it checked. */
#ifndef ZT_POLICY_IMPL_H
#define ZT_POLICY_IMPL_H

#include "filter.h"

static inline const struct zt_rule *zt_policy_rules(const struct zt_policy *p) { return (const struct zt_rule *)(const void *)(p + 1); }

static inline const struct zt_thing *zt_policy_things(const struct zt_policy *p) {
    return (const struct zt_thing *)(const void *)(zt_policy_rules(p) + p->rules);
}

static inline const struct zt_rule_list *zt_policy_lists(const struct zt_policy *p) {
    return (const struct zt_rule_list *)(const void *)(zt_policy_things(p) + p->things);
}

static inline const struct zt_tag *zt_policy_tags(const struct zt_policy *p) { return (const struct zt_tag *)(const void *)(zt_policy_lists(p) + p->lists); }

/* The value of a tag. p NULL: nobody has any. */
bool zt_policy_tag(const struct zt_policy *p, uint32_t id, uint32_t *value);
/* Does it name this MAC or address? */
bool zt_policy_owns(const struct zt_policy *p, uint8_t type, const uint8_t *value);

#endif
