/* tap_uring.c: what reading and writing TAP frames costs by read and write, and by io_uring in batches. Needs root.
 *
 *     cc -O2 -D_GNU_SOURCE tests/bench/tap_uring.c -o build/tap_uring && build/tap_uring
 *
 * Works on a TAP in a network namespace of its own. Frames are queued beforehand, so that only the transfer is timed; the best of ROUNDS.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <linux/io_uring.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { FRAMES = 480, BATCH = 32, ROUNDS = 60, BUFFER = 2048 };

static uint8_t buffer[BATCH][BUFFER];

static void must(int ok, const char *what) {
    if (!ok) {
        perror(what);
        exit(1);
    }
}

static double nanoseconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e9 + t.tv_nsec;
}

/* ---- the ring -------------------------------------------------------------------------------------------------------------- */

static struct {
    int fd;
    _Atomic unsigned *sq_tail, *cq_head, *cq_tail;
    unsigned sq_mask, cq_mask, *array;
    struct io_uring_sqe *sqe;
    struct io_uring_cqe *cqe;
} ring;

static void ring_make(void) {
    struct io_uring_params p = {.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN};
    ring.fd = (int)syscall(SYS_io_uring_setup, BATCH, &p);
    must(ring.fd >= 0, "io_uring_setup");
    size_t sq = p.sq_off.array + p.sq_entries * sizeof(unsigned), cq = p.cq_off.cqes + p.cq_entries * sizeof(struct io_uring_cqe);
    uint8_t *at = mmap(NULL, sq > cq ? sq : cq, PROT_READ | PROT_WRITE, MAP_SHARED, ring.fd, IORING_OFF_SQ_RING);
    ring.sqe = mmap(NULL, p.sq_entries * sizeof *ring.sqe, PROT_READ | PROT_WRITE, MAP_SHARED, ring.fd, IORING_OFF_SQES);
    must(at != MAP_FAILED && (void *)ring.sqe != MAP_FAILED && (p.features & IORING_FEAT_SINGLE_MMAP) != 0, "mmap");
    ring.sq_tail = (void *)(at + p.sq_off.tail);
    ring.cq_head = (void *)(at + p.cq_off.head);
    ring.cq_tail = (void *)(at + p.cq_off.tail);
    ring.sq_mask = *(unsigned *)(void *)(at + p.sq_off.ring_mask);
    ring.cq_mask = *(unsigned *)(void *)(at + p.cq_off.ring_mask);
    ring.array = (void *)(at + p.sq_off.array);
    ring.cqe = (void *)(at + p.cq_off.cqes);
}

/* One batch of reads or writes on `fd` in one system call; how many succeeded. */
static int ring_batch(int fd, int opcode, unsigned length) {
    unsigned tail = *ring.sq_tail;
    for (unsigned i = 0; i < BATCH; i++, tail++) {
        ring.sqe[tail & ring.sq_mask] = (struct io_uring_sqe){
            .opcode = (uint8_t)opcode, .fd = fd, .addr = (uint64_t)(uintptr_t)buffer[i], .len = length, .off = (uint64_t)-1};
        ring.array[tail & ring.sq_mask] = tail & ring.sq_mask;
    }
    atomic_store_explicit(ring.sq_tail, tail, memory_order_release);
    must(syscall(SYS_io_uring_enter, ring.fd, BATCH, BATCH, IORING_ENTER_GETEVENTS, NULL, 0) >= 0, "io_uring_enter");
    int good = 0;
    unsigned head = *ring.cq_head, end = atomic_load_explicit(ring.cq_tail, memory_order_acquire);
    for (; head != end; head++) {
        good += ring.cqe[head & ring.cq_mask].res > 0;
    }
    atomic_store_explicit(ring.cq_head, head, memory_order_release);
    return good;
}

/* ---- the device ------------------------------------------------------------------------------------------------------------- */

static int device(int *in) {
    must(unshare(CLONE_NEWNET) == 0, "unshare (root?)");
    struct ifreq r = {.ifr_name = "tap0", .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
    int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK), size = 12, s = socket(AF_INET, SOCK_DGRAM, 0);
    must(fd >= 0 && ioctl(fd, TUNSETIFF, &r) == 0 && ioctl(fd, TUNSETVNETHDRSZ, &size) == 0, "tap");
    r.ifr_flags = IFF_UP | IFF_NOARP;
    must(ioctl(s, SIOCSIFFLAGS, &r) == 0, "up");
    close(s);
    *in = socket(AF_PACKET, SOCK_RAW, 0);
    struct sockaddr_ll a = {.sll_family = AF_PACKET, .sll_ifindex = (int)if_nametoindex("tap0")};
    must(bind(*in, (struct sockaddr *)&a, sizeof a) == 0, "bind");
    return fd;
}

static void queue_frames(int in, unsigned payload) {
    uint8_t frame[1600] = {[0] = 2, [6] = 2, [12] = 0x88, [13] = 0xb5}; /* a local experimental EtherType */
    for (int i = 0; i < FRAMES; i++) {
        must(send(in, frame, 14 + payload, 0) > 0, "send");
    }
}

static void measure(int fd, int in, unsigned payload) {
    double best[4] = {1e9, 1e9, 1e9, 1e9};
    unsigned length = 12 + 14 + payload;
    for (int round = 0; round < ROUNDS; round++) {
        int got = 0;
        double began;
        queue_frames(in, payload);
        began = nanoseconds();
        while (read(fd, buffer[got % BATCH], BUFFER) > 0) {
            got++;
        }
        double one = (nanoseconds() - began) / (got + 1);
        best[0] = one < best[0] ? one : best[0];

        queue_frames(in, payload);
        int batches = 0;
        for (began = nanoseconds(), got = 0; batches * BATCH < FRAMES; batches++) {
            got += ring_batch(fd, IORING_OP_READ, BUFFER);
        }
        one = (nanoseconds() - began) / (got > 0 ? got : 1);
        best[1] = one < best[1] ? one : best[1];

        memset(buffer, 0, sizeof buffer);
        for (int i = 0; i < BATCH; i++) {
            memcpy(buffer[i] + 12, "\2\0\0\0\0\1\2\0\0\0\0\2\x88\xb5", 14);
        }
        began = nanoseconds();
        for (int i = 0; i < FRAMES; i++) {
            must(write(fd, buffer[i % BATCH], length) == (ssize_t)length, "write");
        }
        one = (nanoseconds() - began) / FRAMES;
        best[2] = one < best[2] ? one : best[2];

        began = nanoseconds();
        for (int i = 0; i < FRAMES; i += BATCH) {
            must(ring_batch(fd, IORING_OP_WRITE, length) == BATCH, "write by ring");
        }
        one = (nanoseconds() - began) / FRAMES;
        best[3] = one < best[3] ? one : best[3];
        while (read(fd, buffer[0], BUFFER) > 0) {
        }
    }
    printf("%5u byte frames, ns each: read %.0f, io_uring %.0f; write %.0f, io_uring %.0f\n", 14 + payload, best[0], best[1], best[2],
           best[3]);
}

int main(void) {
    int in, fd = device(&in);
    ring_make();
    measure(fd, in, 50);
    measure(fd, in, 1400);
    return 0;
}
