/* tap_impl.h: what tap.c and tap_pull.c share. */
#ifndef ZT_TAP_IMPL_H
#define ZT_TAP_IMPL_H

#include "bridged.h"
#include "fanout.h"
#include "segment.h"
#include "share.h"
#include "slots.h"
#include "strangers.h"

#define TAP_QUEUES 256u
#define TAP_FRAME (0xffffu + ZT_ETHER_LEN + ZT_TAGS_MAX * ZT_TAG_LEN) /* the longest super-frame, with its tags */
#define TAP_ROUTES 64u         /* power of two */

struct tap_queue {
    int fd;
    uint32_t network;
    bool known; /* view is valid */
    struct zt_network_view view;
};

/* Destination MAC -> peer, as of `epoch`. */
struct tap_route {
    bool used;
    uint32_t network;
    bool stranger; /* nothing is known of such a member */
    bool bridged;  /* behind the peer, which is a bridge, until send_until */
    uint64_t mac;
    uint32_t peer;
    int64_t send_until;
    struct zt_pair pair; /* for rules */
};

struct zt_tap {
    struct zt_context *c;
    struct zt_writer out[ZT_MAX_RINGS];
    struct zt_reader in[ZT_MAX_RINGS];
    uint32_t outs, ins;
    uint32_t guess;     /* ring that the last frame took */
    uint32_t pull_turn; /* queue to read next */
    uint32_t push_turn; /* ring to read next */
    uint32_t udp_written; /* bytes since the CPU was given away */
    uint32_t queues;
    uint32_t epoch;
    struct zt_guard *guard;
    struct zt_fanout *fanout;
    struct zt_bridged bridged;
    struct zt_share share; /* of frames for groups */
    struct zt_bucket group_punts;
    struct zt_bucket address_punts;
    struct zt_bucket unknown_punts;
    struct zt_bucket flooded_punts;
    struct tap_queue queue[TAP_QUEUES];
    struct tap_route route[TAP_ROUTES];
    uint8_t scratch[ZT_VNET_HDR + TAP_FRAME];
};

#endif
