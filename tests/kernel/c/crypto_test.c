/* Every cipher implementation on buffers of exactly the packet's size, at every alignment, against the portable one. */
#include "check.h"
#include "crypto.h"
#include "csum.h"

#include <sys/mman.h>
#include <unistd.h>

static uint64_t seed = 20240601;

/* Vector code may read beyond a buffer without a sanitizer noticing: a page that cannot be touched lies behind these. */
static uint8_t *page_end;

static void make_guarded_pages(void) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    uint8_t *p = mmap(NULL, 5 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(p != MAP_FAILED, "mmap");
    CHECK(mprotect(p, page, PROT_NONE) == 0 && mprotect(p + 4 * page, page, PROT_NONE) == 0, "mprotect");
    page_end = p + 4 * page;
}

static void compare_siv(const struct zt_crypto_impl *impl, size_t n, uint8_t flags) {
    zt_siv_key key;
    uint8_t k[64], out[16];
    uint8_t *a = page_end - n, *b = check_alloc(n), *plain = check_alloc(n);
    check_fill(&seed, k, sizeof(k));
    check_fill(&seed, plain, n);
    plain[18] = flags;
    zt_siv_key_init(&key, k, k + 32);
    memcpy(a, plain, n);
    memcpy(b, plain, n);
    impl->siv_seal(&key, a, n);
    zt_siv_seal_portable(&key, b, n);
    CHECK(memcmp(a, b, n) == 0, "%s: siv_seal of %zu", impl->name, n);
    zt_siv_peek(&key, a, n, out);
    size_t have = n - 27 < 16 ? n - 27 : 16;
    CHECK(memcmp(out, plain + 27, have) == 0, "%s: siv_peek of %zu", impl->name, n);
    CHECK(impl->siv_open(&key, b, n) == 1, "%s: siv_open of %zu", impl->name, n);
    CHECK(impl->siv_open(&key, a, n) == 1, "%s: siv_open of %zu", impl->name, n);
    CHECK(memcmp(a + 27, plain + 27, n - 27) == 0, "%s: siv_open of %zu: text", impl->name, n);
    zt_siv_seal_portable(&key, b, n);
    b[check_random(&seed) % n] ^= 0x80;
    CHECK(impl->siv_open(&key, b, n) == 0, "%s: forged siv of %zu", impl->name, n);
    free(b);
    free(plain);
}

static void compare_salsa(const struct zt_crypto_impl *impl, size_t n, uint8_t flags) {
    uint8_t key[32], out[16];
    uint8_t *a = page_end - n, *b = check_alloc(n), *plain = check_alloc(n);
    check_fill(&seed, key, sizeof(key));
    check_fill(&seed, plain, n);
    plain[18] = flags;
    memcpy(a, plain, n);
    memcpy(b, plain, n);
    zt_salsa_seal_with(impl, key, a, n);
    zt_salsa_seal_portable(key, b, n);
    CHECK(memcmp(a, b, n) == 0, "%s: salsa_seal of %zu, flags %02x", impl->name, n, flags);
    zt_salsa_peek(key, b, n, out);
    size_t have = n - 27 < 16 ? n - 27 : 16;
    CHECK(memcmp(out, plain + 27, have) == 0, "%s: salsa_peek of %zu", impl->name, n);
    CHECK(zt_salsa_open_with(impl, key, a, n) == 1, "%s: salsa_open of %zu", impl->name, n);
    CHECK(memcmp(a + 27, plain + 27, n - 27) == 0, "%s: salsa_open of %zu: text", impl->name, n);
    b[27 + check_random(&seed) % (n - 27)] ^= 1;
    CHECK(zt_salsa_open_with(impl, key, b, n) == 0, "%s: forged salsa of %zu", impl->name, n);
    free(b);
    free(plain);
}

static void short_packets(const struct zt_crypto_impl *impl) {
    zt_siv_key key;
    uint8_t k[64] = {0}, out[16];
    zt_siv_key_init(&key, k, k + 32);
    for (size_t n = 0; n < ZT_PACKET_MIN; n++) {
        uint8_t *p = check_alloc(n);
        memset(p, 0, n);
        CHECK(impl->siv_open(&key, p, n) == 0, "%s: siv_open of %zu", impl->name, n);
        if (n < 19) { /* the callers of these look at the flags first */
            CHECK(zt_salsa_open_with(impl, k, p, n) == 0, "%s: salsa_open of %zu", impl->name, n);
        }
        zt_siv_peek(&key, p, n, out);
        zt_salsa_peek(k, p, n, out);
        free(p);
    }
}

static void compare_csum(const struct zt_csum_impl *impl, size_t n) {
    uint8_t *data = page_end - n, *copy = check_alloc(n);
    check_fill(&seed, data, n);
    uint16_t expected = zt_csum_fold(zt_csum_partial_portable(data, n, 7));
    CHECK(zt_csum_fold(impl->partial(data, n, 7)) == expected, "%s: sum of %zu", impl->name, n);
    CHECK(zt_csum_fold(impl->copy(copy, data, n, 7)) == expected, "%s: copy and sum of %zu", impl->name, n);
    CHECK(memcmp(copy, data, n) == 0, "%s: copy of %zu", impl->name, n);
    free(copy);
}

int main(void) {
    make_guarded_pages();
    for (int i = 0; i < zt_crypto_impl_count(); i++) {
        const struct zt_crypto_impl *impl = zt_crypto_impl_get(i);
        for (size_t n = ZT_PACKET_MIN; n <= ZT_PACKET_MAX; n += n < 1300 ? 1 : 37) {
            compare_siv(impl, n, n % 2 ? 0x18 : 0x58);
            compare_salsa(impl, n, n % 3 ? 0x88 : 0x00);
        }
        short_packets(impl);
        printf("%s: ok\n", impl->name);
    }
    for (int i = 0; i < zt_csum_impl_count(); i++) {
        for (size_t n = 0; n <= 3000; n += n < 300 ? 1 : 13) {
            compare_csum(zt_csum_impl_get(i), n);
        }
        printf("checksum %s: ok\n", zt_csum_impl_get(i)->name);
    }
    return 0;
}
