/* confine.c: see confine.h. */
#include "confine.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <linux/securebits.h>
#include <sched.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

/* ---- capabilities --------------------------------------------------------------------------------------------------------- */

int zt_capabilities_carry(void) { return prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) == 0 ? 0 : -errno; }

int zt_capabilities_keep(uint64_t keep) {
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
    struct __user_cap_data_struct set[2];
    if (syscall(SYS_capget, &head, set) != 0) {
        return -errno;
    }
    for (int i = 0; i < 2; i++) {
        set[i].effective = set[i].permitted; /* after a change of user there is none effective */
    }
    if (syscall(SYS_capset, &head, set) != 0) {
        return -errno;
    }
    /* The bounding set and the secure bits need CAP_SETPCAP; who lacks it has little to bound, and no_new_privs holds without. */
    for (int cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++) {
        if (!(keep >> cap & 1)) {
            (void)prctl(PR_CAPBSET_DROP, cap, 0, 0, 0);
        }
    }
    (void)prctl(PR_SET_SECUREBITS, SECBIT_NOROOT | SECBIT_NOROOT_LOCKED, 0, 0, 0);
    (void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    for (int i = 0; i < 2; i++) {
        uint32_t kept = (uint32_t)(keep >> 32 * i) & set[i].permitted;
        set[i] = (struct __user_cap_data_struct){.effective = kept, .permitted = kept, .inheritable = 0};
    }
    if (syscall(SYS_capset, &head, set) != 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
        return -errno;
    }
    return 0;
}

/* ---- system calls --------------------------------------------------------------------------------------------------------- */

#if defined __x86_64__
#define ARCH AUDIT_ARCH_X86_64
#elif defined __aarch64__
#define ARCH AUDIT_ARCH_AARCH64
#endif

#ifdef ARCH

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define ALLOW BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)
#define REFUSE(code) BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (code))
/* Skip `n` instructions unless the loaded word is `value`. */
#define UNLESS(value, n) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (value), 0, (n))
#define UNLESS_ANY(bits, n) BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, (bits), 0, (n))
/* Without a look at its arguments: the kernel remembers the answer for such a call and does not run the filter. */
#define MAY(call) UNLESS(SYS_##call, 1), ALLOW
/* The low half of an argument; both architectures are little-endian. */
#define ARGUMENT(i) LOAD(args[i])

static const struct sock_filter filter[] = {
    LOAD(arch), UNLESS(ARCH, 1), BPF_JUMP(BPF_JMP | BPF_JA, 1, 0, 0), REFUSE(EPERM),
    LOAD(nr),
    /* the loop */
    MAY(read), MAY(write), MAY(readv), MAY(writev), MAY(recvmmsg), MAY(sendmmsg), MAY(recvmsg), MAY(sendmsg), MAY(recvfrom),
    MAY(sendto), MAY(epoll_pwait), MAY(ppoll), MAY(futex), MAY(sched_yield), MAY(clock_gettime), MAY(clock_nanosleep),
    MAY(nanosleep), MAY(getppid), MAY(getpid), MAY(gettid),
#ifdef SYS_epoll_wait
    MAY(epoll_wait), MAY(poll), MAY(select),
#endif
    /* descriptors that come and go */
    MAY(epoll_ctl), MAY(epoll_create1), MAY(eventfd2), MAY(close), MAY(fcntl), MAY(fstat), MAY(lseek), MAY(dup), MAY(getsockopt),
    MAY(setsockopt), MAY(getsockname), MAY(getpeername), MAY(shutdown), MAY(connect), MAY(newfstatat), MAY(pread64), MAY(getdents64),
    MAY(readlinkat), MAY(faccessat), MAY(getcwd),
#ifdef SYS_open
    MAY(stat), MAY(lstat), MAY(readlink), MAY(access),
#endif
#ifdef SYS_statx
    MAY(statx),
#endif
    /* memory, threads, signals, the end */
    MAY(brk), MAY(munmap), MAY(mremap), MAY(madvise), MAY(rt_sigaction), MAY(rt_sigprocmask), MAY(rt_sigreturn), MAY(sigaltstack),
    MAY(set_robust_list), MAY(sched_getaffinity), MAY(sched_getparam), MAY(sched_getscheduler), MAY(sched_setscheduler), MAY(restart_syscall), MAY(tgkill),
    MAY(getrandom), MAY(getuid), MAY(geteuid), MAY(getgid), MAY(getegid), MAY(sysinfo), MAY(uname), MAY(getrusage), MAY(prlimit64),
    MAY(exit), MAY(exit_group), MAY(membarrier), MAY(clock_getres), MAY(gettimeofday),
#ifdef SYS_rseq
    MAY(rseq),
#endif
    /* files: to read them, since Python imports late */
    UNLESS(SYS_openat, 4), ARGUMENT(2), UNLESS_ANY(O_ACCMODE | O_CREAT | O_TRUNC, 1), REFUSE(EPERM), ALLOW,
    /* memory that can be executed: none that is not there yet */
    UNLESS(SYS_mmap, 4), ARGUMENT(2), UNLESS_ANY(PROT_EXEC, 1), REFUSE(EPERM), ALLOW,
    UNLESS(SYS_mprotect, 4), ARGUMENT(2), UNLESS_ANY(PROT_EXEC, 1), REFUSE(EPERM), ALLOW,
    /* sockets: those that lead to control */
    UNLESS(SYS_socket, 4), ARGUMENT(0), UNLESS(AF_UNIX, 1), ALLOW, REFUSE(EPERM),
    UNLESS(SYS_socketpair, 4), ARGUMENT(0), UNLESS(AF_UNIX, 1), ALLOW, REFUSE(EPERM),
    /* descriptor flags */
    UNLESS(SYS_ioctl, 6), ARGUMENT(1), UNLESS(FIONBIO, 1), ALLOW, UNLESS(FIOCLEX, 1), ALLOW, REFUSE(ENOTTY),
    /* names of threads */
    UNLESS(SYS_prctl, 4), ARGUMENT(0), UNLESS(PR_SET_NAME, 1), ALLOW, REFUSE(EINVAL),
    /* threads, never processes; the arguments of clone3 cannot be seen, and the C library then takes clone */
    UNLESS(SYS_clone, 4), ARGUMENT(0), UNLESS_ANY(CLONE_THREAD, 1), ALLOW, REFUSE(EPERM),
#ifdef SYS_clone3
    UNLESS(SYS_clone3, 1), REFUSE(ENOSYS),
#endif
    REFUSE(EPERM),
};

int zt_system_calls_of_a_worker(void) {
    struct sock_fprog program = {.len = sizeof filter / sizeof *filter, .filter = (struct sock_filter *)(uintptr_t)filter};
    /* SPEC_ALLOW: without it, kernels before 5.16 make every turn of the loop slower against attacks from within our own process. */
    return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_SPEC_ALLOW, &program) == 0 ? 0 : -errno;
}

#else

int zt_system_calls_of_a_worker(void) { return -ENOSYS; }

#endif
