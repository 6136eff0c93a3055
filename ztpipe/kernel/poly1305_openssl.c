/* poly1305_openssl.c: Poly1305 by OpenSSL, whose assembler is faster than libsodium's on long messages but slower to begin. */
#include "poly1305_64_impl.h"
#include "salsa_x86_impl.h"

#if defined(__x86_64__) && defined(ZT_HAVE_POLY1305_64)
#include <openssl/evp.h>
#include <stdlib.h>

#define LONG_FROM 512 /* bytes */

static _Thread_local EVP_MAC_CTX *context;

static void must(int ok) {
    if (ok <= 0) {
        abort(); /* out of memory at first use, or an OpenSSL without Poly1305 */
    }
}

static void make_context(void) {
    EVP_MAC *mac = EVP_MAC_fetch(NULL, "POLY1305", NULL);
    must(mac != NULL);
    context = EVP_MAC_CTX_new(mac);
    EVP_MAC_free(mac);
    must(context != NULL);
}

void zt_poly1305_openssl(const uint8_t key[32], const uint8_t *data, size_t n, uint8_t tag[16]) {
    if (n < LONG_FROM) {
        struct poly p;
        poly_init(&p, key);
        poly_update(&p, data, n);
        poly_finish(&p, key, tag);
        return;
    }
    size_t written = 16;
    if (context == NULL) {
        make_context();
    }
    must(EVP_MAC_init(context, key, 32, NULL));
    must(EVP_MAC_update(context, data, n));
    must(EVP_MAC_final(context, tag, &written, 16));
}

#endif
