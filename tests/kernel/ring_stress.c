/* Stress for ring.h, the sleep protocol and the sequence locks of table.h; run by tests/shm/test_ring_stress.py.
 *
 *   ring_stress threads|processes SLOTS SEED   one producer and one consumer, stalling at random, sleeping by the protocol
 *   ring_stress kills SLOTS SEED               the same as processes that are killed at random moments and started again
 *   ring_stress tables SLOTS SEED              one writer, one reader of the same peer and key entries
 *
 * Exit status 0 and one line of figures, or 1 and what went wrong. -DMUTANT=1: the consumer sleeps without looking again; -DMUTANT=2: the
 * consumer releases a slot before it has read it; -DMUTANT=3: entries are read without the sequence lock. Each must be noticed.
 */
#include "context.h"
#include "table_write.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/wait.h>

#ifndef MUTANT
#define MUTANT 0
#endif

#define RING_SLOTS 4u
#define LOST_MS 3000 /* far longer than any stall: a sleep of this length is a lost wake-up */
#define MAX_WORDS 512u

enum { PRODUCER, CONSUMER };

struct shared {
    struct zt_bell bell[2];
    _Atomic uint32_t verified; /* slots that the consumer has verified */
    _Atomic uint32_t slept[2];
    _Atomic uint32_t failed;
};

static struct shared *shared;
static uint8_t *ring;
static size_t ring_size;
static int bell_fd[2];
static uint32_t total;
static uint32_t seed;

static uint32_t next_random(uint32_t *state) {
    *state ^= *state << 13;
    *state ^= *state >> 17;
    *state ^= *state << 5;
    return *state;
}

static void fail(const char *what, uint32_t at) {
    fprintf(stderr, "%s at slot %u\n", what, at);
    atomic_store(&shared->failed, 1);
}

/* Mostly nothing; sometimes a yield; seldom a nap of up to 200 us. */
static void stall(uint32_t *state) {
    uint32_t r = next_random(state) % 1024;
    if (r < 8) {
        struct timespec nap = {0, (long)(r * 25000)};
        nanosleep(&nap, NULL);
    } else if (r < 128) {
        sched_yield();
    }
}

/* The contents of slot i follow from i alone. Release order is what makes them visible: plain stores and loads, for TSan to check. */
static void fill(struct zt_slot *slot, uint32_t i) {
    uint32_t state = i * 2654435761u + 1, words = 1 + i % MAX_WORDS;
    uint32_t *data = (uint32_t *)(void *)(slot + 1);
    slot->nrec = i;
    slot->used = words;
    for (uint32_t w = 0; w < words; w++) {
        data[w] = next_random(&state);
    }
}

static bool verify(const struct zt_slot *slot, uint32_t i) {
    uint32_t state = i * 2654435761u + 1, words = 1 + i % MAX_WORDS;
    const uint32_t *data = (const uint32_t *)(const void *)(slot + 1);
    if (slot->nrec != i || slot->used != words) {
        return false;
    }
    for (uint32_t w = 0; w < words; w++) {
        if (data[w] != next_random(&state)) {
            return false;
        }
    }
    return true;
}

static struct zt_ring_set *attach(int role) {
    struct zt_ring_set *set = zt_ring_set_new();
    if (set == NULL || zt_ring_set_add(set, ring, ring_size, &shared->bell[!role], bell_fd[!role]) != 0) {
        abort();
    }
    return set;
}

/* Sleep as a worker does. `stage` is what it looks at again; `blocked` the ring set it waits for room in. */
static void doze(int role, const struct zt_stage *stage, struct zt_ring_set *blocked) {
    static _Thread_local uint32_t state;
    state = state != 0 ? state : seed | 1;
    stall(&state); /* the moment between the last look at the ring and going to sleep, made long */
    zt_bell_prepare(&shared->bell[role]);
    bool awake = stage != NULL ? zt_rings_pending(stage, 1) != 0 : !zt_rings_blocked(blocked);
    if (MUTANT == 1 && role == CONSUMER) {
        awake = false;
    }
    if (!awake) {
        struct pollfd p = {.fd = bell_fd[role], .events = POLLIN};
        atomic_fetch_add(&shared->slept[role], 1);
        if (poll(&p, 1, LOST_MS) == 0) {
            fail(role == CONSUMER ? "consumer: lost wake-up" : "producer: lost wake-up", atomic_load(&shared->verified));
        } else {
            uint64_t n;
            ssize_t ignored = read(bell_fd[role], &n, sizeof n);
            (void)ignored;
        }
    }
    zt_bell_awake(&shared->bell[role]);
}

static void *produce(void *unused) {
    (void)unused;
    struct zt_ring_set *out = attach(PRODUCER);
    struct zt_ring *r = out->ring[0].ring;
    uint32_t state = seed | 1;
    uint32_t i;
    zt_bell_awake(&shared->bell[PRODUCER]);
    while ((i = atomic_load_explicit(&r->head, memory_order_relaxed)) < total && atomic_load(&shared->failed) == 0) {
        struct zt_slot *slot = zt_ring_reserve(&out->ring[0]);
        if (slot == NULL) {
            doze(PRODUCER, NULL, out);
            continue;
        }
        fill(slot, i);
        stall(&state);
        zt_ring_publish(&out->ring[0]);
    }
    zt_ring_set_free(out);
    return NULL;
}

static void *consume(void *unused) {
    (void)unused;
    struct zt_ring_set *in = attach(CONSUMER);
    struct zt_ring *r = in->ring[0].ring;
    struct zt_stage stage = {.in = in, .out = NULL};
    uint32_t state = seed * 7 | 1;
    uint32_t i;
    zt_bell_awake(&shared->bell[CONSUMER]);
    while ((i = atomic_load_explicit(&r->tail, memory_order_relaxed)) < total && atomic_load(&shared->failed) == 0) {
        const struct zt_slot *slot = zt_ring_peek(&in->ring[0]);
        if (slot == NULL) {
            doze(CONSUMER, &stage, NULL);
            continue;
        }
        if (MUTANT == 2) {
            zt_ring_release(&in->ring[0]);
            sched_yield();
        }
        if (!verify(slot, i)) {
            fail("slot does not hold what was put in", i);
        }
        atomic_store(&shared->verified, i + 1);
        stall(&state);
        if (MUTANT != 2) {
            zt_ring_release(&in->ring[0]);
        }
    }
    zt_ring_set_free(in);
    return NULL;
}

static pid_t start(void *(*role)(void *)) {
    pid_t pid = fork();
    if (pid == 0) {
        role(NULL);
        _exit(0);
    }
    return pid;
}

static void run_threads(void) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, produce, NULL) != 0) {
        abort();
    }
    consume(NULL);
    pthread_join(thread, NULL);
}

static void run_processes(void) {
    pid_t producer = start(produce), consumer = start(consume);
    waitpid(producer, NULL, 0);
    waitpid(consumer, NULL, 0);
}

/* Kill one of the two at a random moment, again and again; a successor goes on where the ring stands. */
static void run_kills(void) {
    void *(*role[2])(void *) = {produce, consume};
    pid_t pid[2] = {start(produce), start(consume)};
    uint32_t state = seed | 1, kills = 0;
    const struct zt_ring *r = (struct zt_ring *)(void *)ring;
    while (atomic_load(&r->tail) < total && atomic_load(&shared->failed) == 0) {
        struct timespec nap = {0, (long)(next_random(&state) % 3000000)};
        nanosleep(&nap, NULL);
        uint32_t victim = next_random(&state) & 1;
        kill(pid[victim], SIGKILL);
        waitpid(pid[victim], NULL, 0);
        pid[victim] = start(role[victim]);
        seed = next_random(&state);
        kills++;
    }
    waitpid(pid[0], NULL, 0);
    waitpid(pid[1], NULL, 0);
    printf("kills %u ", kills);
}

/* ---- tables ------------------------------------------------------------------------------------------------------------- */

static struct zt_tables *tables;
static struct zt_key_entry *keys;
static _Atomic uint32_t done;

#define PEERS 4u

/* Everything in an entry of generation n follows from n, so that a torn copy shows. */
static void *write_tables(void *unused) {
    (void)unused;
    uint32_t state = seed | 1;
    for (uint32_t n = 1; n <= total; n++) {
        uint64_t address = 1 + n % PEERS;
        struct zt_endpoint e = {.port = (uint16_t)n, .family = 6};
        uint8_t key[32];
        memset(e.ip, (int)(n & 0xff), sizeof e.ip);
        memset(key, (int)(n & 0xff), sizeof key);
        if (next_random(&state) % 8 == 0) {
            zt_peer_remove(tables, keys, address);
        } else {
            int64_t index = zt_peer_put(tables, address, 0, 3, (uint16_t)n, &e, (uint16_t)n);
            if (index < 0 || zt_key_put(tables, keys, (uint32_t)index, key, key, key) != 0) {
                abort();
            }
        }
    }
    atomic_store(&done, 1);
    return NULL;
}

static bool whole(const uint8_t *bytes, size_t n) {
    for (size_t i = 1; i < n; i++) {
        if (bytes[i] != bytes[0]) {
            return false;
        }
    }
    return true;
}

static bool read_peer(uint32_t index, struct zt_peer_view *v) {
#if MUTANT == 3
    struct zt_peer_entry e;
    for (size_t w = 0; w < sizeof e / sizeof(zt_word); w++) {
        ((zt_word *)(void *)&e)[w] = __atomic_load_n((zt_word *)(void *)zt_peer_at(tables, index) + w, __ATOMIC_RELAXED);
    }
    *v = (struct zt_peer_view){.address = e.address, .remote = e.remote, .binding = e.binding, .mtu = e.mtu};
    return e.flags & ZT_ENTRY_USED;
#else
    return zt_peer_read(tables, index, v);
#endif
}

static void read_tables(void) {
    uint32_t reads = 0, hits = 0, state = seed * 3 | 1;
    while (atomic_load(&done) == 0 && atomic_load(&shared->failed) == 0) {
        uint64_t address = 1 + next_random(&state) % PEERS;
        struct zt_peer_view p;
        struct zt_key_view k;
        uint32_t index = zt_peer_find(tables, address);
        reads++;
        if (index != ZT_NONE && read_peer(index, &p)) {
            hits++;
            if (p.remote.port != p.mtu || p.binding != p.mtu || p.remote.ip[0] != (p.mtu & 0xff) ||
                !whole(p.remote.ip, sizeof p.remote.ip) || p.address != 1 + p.mtu % PEERS) {
                fail("torn peer entry", p.mtu);
            }
        }
        if (index != ZT_NONE && zt_key_read(keys, index, &k) &&
            (!whole(k.salsa, 32) || !whole(k.k0, 32) || !whole(k.k1, 32) || k.salsa[0] != k.k0[0] || k.k0[0] != k.k1[0])) {
            fail("torn key entry", k.generation);
        }
        zt_stamp_peer(tables, index, reads);
    }
    printf("reads %u hits %u ", reads, hits);
}

static void run_tables(void) {
    size_t size = zt_tables_size(1, PEERS * 2, 4, 4, 0);
    pthread_t thread;
    tables = aligned_alloc(64, size);
    keys = aligned_alloc(64, zt_keys_size(PEERS * 2));
    memset(tables, 0, size);
    memset(keys, 0, zt_keys_size(PEERS * 2));
    if (zt_tables_init(tables, size, 1, PEERS * 2, 4, 4, 0, 0, 0) != 0 || pthread_create(&thread, NULL, write_tables, NULL) != 0) {
        abort();
    }
    read_tables();
    pthread_join(thread, NULL);
    free(tables);
    free(keys);
}

static void *map(size_t size) {
    void *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED) {
        abort();
    }
    return at;
}

int main(int argc, char **argv) {
    if (argc != 4) {
        return 2;
    }
    total = (uint32_t)atoi(argv[2]);
    seed = (uint32_t)atoi(argv[3]);
    shared = map(sizeof *shared);
    ring_size = zt_ring_size(RING_SLOTS);
    ring = map(ring_size);
    bell_fd[0] = eventfd(0, EFD_NONBLOCK);
    bell_fd[1] = eventfd(0, EFD_NONBLOCK);
    if (zt_ring_init(ring, ring_size, RING_SLOTS, 0, 1) != 0) {
        return 2;
    }
    if (strcmp(argv[1], "tables") == 0) {
        run_tables();
    } else {
        if (strcmp(argv[1], "threads") == 0) {
            run_threads();
        } else if (strcmp(argv[1], "processes") == 0) {
            run_processes();
        } else {
            run_kills();
        }
        if (atomic_load(&shared->verified) != total) {
            fail("ended early", atomic_load(&shared->verified));
        }
    }
    printf("slots %u slept %u %u\n", total, atomic_load(&shared->slept[0]), atomic_load(&shared->slept[1]));
    return (int)atomic_load(&shared->failed);
}
