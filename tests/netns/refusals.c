/* refusals.c: an LD_PRELOAD library between a node and its kernel, which then refuses what another kernel, or this one in trouble, refuses.
 *
 * What it refuses at present are bytes in the file named by ZTPIPE_REFUSALS, which all processes of the node map before they shut themselves
 * in: by number as in refusals.py. Each refusal is counted behind them, and as the last batches that the kernel did segment.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

enum { UDP_SEGMENT_UNKNOWN, UDP_GRO_UNKNOWN, USO_UNKNOWN, GSO_EIO, SEND_ENOBUFS, TAP_EIO, TAP_ENOBUFS, SEGMENTED };

static struct {
    uint8_t now[16];
    uint32_t refused[16];
} *state;

static int (*real_setsockopt)(int, int, int, const void *, socklen_t);
static int (*real_ioctl)(int, unsigned long, void *);
static int (*real_sendmmsg)(int, struct mmsghdr *, unsigned, int);
static ssize_t (*real_sendmsg)(int, const struct msghdr *, int);
static ssize_t (*real_write)(int, const void *, size_t);

__attribute__((constructor)) static void start(void) {
    real_setsockopt = dlsym(RTLD_NEXT, "setsockopt");
    real_ioctl = dlsym(RTLD_NEXT, "ioctl");
    real_sendmmsg = dlsym(RTLD_NEXT, "sendmmsg");
    real_sendmsg = dlsym(RTLD_NEXT, "sendmsg");
    real_write = dlsym(RTLD_NEXT, "write");
    const char *name = getenv("ZTPIPE_REFUSALS");
    int fd = name == NULL ? -1 : open(name, O_RDWR | O_CLOEXEC);
    if (fd < 0) {
        return;
    }
    void *mapped = mmap(NULL, sizeof *state, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    state = mapped == MAP_FAILED ? NULL : mapped;
    close(fd);
}

static int refuse(int kind, int error) {
    if (state == NULL || __atomic_load_n(&state->now[kind], __ATOMIC_RELAXED) == 0) {
        return 0;
    }
    __atomic_fetch_add(&state->refused[kind], 1, __ATOMIC_RELAXED);
    errno = error;
    return 1;
}

int setsockopt(int fd, int level, int option, const void *value, socklen_t n) {
    if (level == 17 && ((option == 103 && refuse(UDP_SEGMENT_UNKNOWN, ENOPROTOOPT)) || (option == 104 && refuse(UDP_GRO_UNKNOWN, ENOPROTOOPT)))) {
        return -1;
    }
    return real_setsockopt(fd, level, option, value, n);
}

int ioctl(int fd, unsigned long request, ...) {
    va_list list;
    va_start(list, request);
    void *argument = va_arg(list, void *);
    va_end(list);
    if (request == 0x400454d0 /* TUNSETOFFLOAD */ && ((uintptr_t)argument & 0x60) != 0 && refuse(USO_UNKNOWN, EINVAL)) {
        return -1;
    }
    return real_ioctl(fd, request, argument);
}

static int refuse_message(const struct msghdr *m) {
    if (m->msg_namelen == 0) {
        return 0; /* not a datagram of the underlay */
    }
    return (m->msg_controllen != 0 && (refuse(UDP_SEGMENT_UNKNOWN, EINVAL) || refuse(GSO_EIO, EIO))) || refuse(SEND_ENOBUFS, ENOBUFS);
}

/* The kernel stops at the first message that it refuses. */
int sendmmsg(int fd, struct mmsghdr *m, unsigned n, int flags) {
    unsigned good = 0;
    while (good < n && !refuse_message(&m[good].msg_hdr)) {
        good++;
    }
    int sent = good == 0 && n != 0 ? -1 : real_sendmmsg(fd, m, good, flags);
    for (int i = 0; state != NULL && i < sent; i++) {
        __atomic_fetch_add(&state->refused[SEGMENTED], m[i].msg_hdr.msg_controllen != 0, __ATOMIC_RELAXED);
    }
    return sent;
}

ssize_t sendmsg(int fd, const struct msghdr *m, int flags) { return refuse_message(m) ? -1 : real_sendmsg(fd, m, flags); }

/* A frame behind a vnet header is told from other writes by that header. */
ssize_t write(int fd, const void *data, size_t n) {
    const uint8_t *p = data;
    uint8_t type = n >= 26 ? p[1] & 0x7f : 0xff;
    if (n >= 26 && p[0] <= 1 && (type == 0 || type == 1 || type == 4 || type == 5) && p[10] == 0 && p[11] == 0 &&
        ((type == 5 && refuse(USO_UNKNOWN, EINVAL)) || refuse(TAP_EIO, EIO) || refuse(TAP_ENOBUFS, ENOBUFS))) {
        return -1;
    }
    return real_write(fd, data, n);
}
