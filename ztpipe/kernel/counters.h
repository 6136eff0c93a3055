/* counters.h: every counter once: name and meaning. A frame or packet that enters a worker ends in exactly one `in ... out` pair or one drop.
 * Python reads the names from the kernel (zt_counter_name), so this list is the only one. */
#ifndef ZT_COUNTERS_H
#define ZT_COUNTERS_H

#define ZT_COUNTER_LIST(X)                                                                                          \
    /* tap stage */                                                                                                 \
    X(tap_read_frames, "frames or super-frames read from TAPs")                                                     \
    X(tap_read_bytes, "bytes read from TAPs, without the vnet header")                                              \
    X(tap_write_frames, "frames or super-frames written to TAPs")                                                   \
    X(tap_write_bytes, "bytes written to TAPs, without the vnet header")                                            \
    X(tap_punted, "frames punted to the slow path")                                                                 \
    X(tap_multicasts, "frames or super-frames for groups, repeated without the slow path")                          \
    X(tap_copies, "recipients of those")                                                                            \
    X(tap_bridged, "frames or super-frames from or to MACs behind bridges, without the slow path")                  \
    /* crypto stage */                                                                                              \
    X(seal_frames, "frames or super-frames taken to be sealed")                                                     \
    X(seal_packets, "VL1 packets sealed")                                                                           \
    X(open_datagrams, "datagrams taken to be opened")                                                               \
    X(open_joined, "datagrams that became part of a packet, whose end is counted once")                               \
    X(open_packets, "VL1 packets opened and accepted")                                                              \
    X(open_frames, "frames or super-frames handed to the tap stage")                                                \
    X(open_multicasts, "MULTICAST_FRAMEs among those accepted")                                                     \
    X(open_bridged, "EXT_FRAMEs among those accepted")                                                              \
    X(open_replicated, "MULTICAST_FRAMEs of others, repeated to their groups without the slow path")                \
    X(open_copies, "recipients of those")                                                                           \
    X(open_punted, "datagrams or packets punted to the slow path")                                                  \
    /* peer stage */                                                                                                \
    X(udp_receive_datagrams, "datagrams received")                                                                  \
    X(udp_receive_bytes, "UDP payload bytes received")                                                              \
    X(udp_send_datagrams, "datagrams sent")                                                                         \
    X(udp_send_bytes, "UDP payload bytes sent")                                                                     \
    X(udp_punted, "datagrams punted to the slow path by the peer stage")                                            \
    X(relay_datagrams, "datagrams for others, forwarded without the slow path")                                     \
    X(relay_bytes, "UDP payload bytes of those")                                                                    \
    X(udp_gso_refused, "batches that the kernel would not segment, sent one by one")                                \
    /* loop */                                                                                                      \
    X(turns, "turns of the worker's loop")                                                                          \
    X(sleeps, "times the worker slept")                                                                             \
    X(bells, "times it was woken by a bell")                                                                        \
    X(beats, "signs of life, about one a second")                                                                   \
    X(ring_full, "times a stage had to wait for a slot")                                                            \
    /* drops: name = drop reason */                                                                                 \
    X(drop_tap_short, "frame shorter than an Ethernet header")                                                      \
    X(drop_tap_bad_vnet, "vnet header that does not fit its frame")                                                 \
    X(drop_tap_no_network, "network gone")                                                                          \
    X(drop_outbound_filter, "the network's rules do not let the frame out")                                         \
    X(drop_inbound_filter, "the network's rules do not let the frame in")                                           \
    X(drop_tap_write, "TAP refused a write")                                                                        \
    X(drop_tap_oversize, "frame longer than the network's MTU")                                                     \
    X(drop_punt_overflow, "slow path busy: punt buffer full")                                                       \
    X(drop_recipient_filter, "copy for one recipient of a group that the network's rules do not let out")           \
    X(drop_no_recipients, "frame for a group that nobody is in")                                                    \
    X(drop_group_share, "more frames for groups than they may have beside busy unicast")                              \
    X(drop_no_room, "copy for a group that found no room on its way out")                                            \
    X(drop_group_budget, "more frames for groups without an entry than the slow path has time for")                 \
    X(drop_address_budget, "more ARP requests and neighbour solicitations than the slow path has time for")         \
    X(drop_unknown_budget, "more frames for unknown destinations than the slow path has time for")                  \
    X(drop_no_session, "peer left the table between stages")                                                        \
    X(drop_short_datagram, "datagram shorter than a VL1 header")                                                    \
    X(drop_truncated_datagram, "datagram longer than the buffer")                                                   \
    X(drop_bad_fragment, "fragment numbers out of range")                                                           \
    X(drop_fragment_expired, "reassembly given up")                                                                 \
    X(drop_fragment_duplicate, "duplicate fragment")                                                                \
    X(drop_oversize_packet, "reassembled packet longer than allowed")                                               \
    X(drop_bad_mac, "authentication failed")                                                                        \
    X(drop_replayed, "authentic, and a copy of a packet seen before")                                                \
    X(drop_stranger_rate, "too many packets of unknown senders from one prefix, or of one unknown sender")           \
    X(drop_stranger_budget, "more packets of unknown senders than the slow path has time for")                       \
    X(drop_foreign_budget, "more packets for others, or of unsealed suites, than the slow path has time for")        \
    X(drop_bad_frame, "FRAME or EXT_FRAME too short or malformed")                                                  \
    X(drop_bad_frame_mac, "EXT_FRAME with a source or destination MAC that is not allowed")                         \
    X(drop_own_source, "packet to be relayed that claims to be from us")                                            \
    X(drop_source_is_destination, "packet to be relayed to its own sender")                                         \
    X(drop_relay_too_many_hops, "packet or fragment that was relayed three times already")                          \
    X(drop_send_error, "the kernel refused a datagram")                                                             \
    X(drop_send_oversize, "datagram longer than the way to its remote takes")                                       \
    X(drop_no_binding, "local socket gone")

enum zt_counter {
#define ZT_COUNTER_ENUM(name, text) ZT_C_##name,
    ZT_COUNTER_LIST(ZT_COUNTER_ENUM)
#undef ZT_COUNTER_ENUM
        ZT_COUNTERS
};

#define ZT_COUNTER_BLOCK 128 /* u64 slots per process, room to grow */
_Static_assert(ZT_COUNTERS <= ZT_COUNTER_BLOCK, "counter block too small");

#endif
