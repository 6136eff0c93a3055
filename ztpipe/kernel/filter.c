/* filter.c: see filter.h. Its twin is ztpipe/rules/evaluate.py: a change here is a change there. */
#include "filter.h"

#include "match_impl.h"

#include <time.h>

/* ---- lists (vl2 §4.3) -------------------------------------------------------------------------------------------------------- */

struct run {
    bool matches;   /* the set so far */
    bool skip_drop;
    bool super;
};

static void take_match(struct run *run, struct zt_frame *f, const struct zt_rule *r) {
    bool either = (r->flags & ZT_RULE_OR) != 0, result;
    if (!run->matches && !either) {
        return;
    }
    enum zt_answer answer = zt_match(f, r, run->super);
    run->skip_drop |= answer == ZT_HARD_YES_SKIP_DROP;
    if (answer == ZT_YES || answer == ZT_NO) {
        result = (answer == ZT_YES) != ((r->flags & ZT_RULE_NOT) != 0);
    } else {
        result = answer != ZT_HARD_NO;
    }
    run->matches = either ? run->matches || result : run->matches && result;
}

static bool is_targeted(const struct zt_rule *r) {
    return r->op == ZT_RULE_TEE || r->op == ZT_RULE_WATCH || r->op == ZT_RULE_REDIRECT;
}

/* x: target, b: most bytes of a copy, 0 = all. True: the list ends. */
static bool act_on_target(const struct zt_frame *f, const struct zt_rule *r, struct zt_evaluation *e) {
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
static bool act(struct run *run, const struct zt_frame *f, const struct zt_rule *r, struct zt_evaluation *e) {
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

static struct zt_evaluation run_list(const struct zt_policy *policy, uint32_t list, struct zt_frame *f) {
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
    struct zt_frame f = zt_frame_look(s);
    return run_list(policy, list, &f);
}

/* Frames that rules cannot judge; twin: ztpipe/rules/strict.py. */
static bool unjudgeable(const struct zt_frame *f) {
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
    return f->protocol == ZT_PROTO_ICMPV6 && f->l4 != ZT_IPV6_LEN && f->l4 < s->len && data[f->l4] >= 133 && data[f->l4] <= 137;
}

static bool accepting(const struct zt_evaluation *e) { return e->verdict >= ZT_VERDICT_ACCEPT; }

enum zt_decision zt_filter(const struct zt_situation *s) {
    struct zt_frame f = zt_frame_look(s);
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
