/* punt.c: the bounded buffer between a worker's stages and its Python loop. */
#include "stages.h"

#include <string.h>

#define ZT_PUNT_ALIGN 8u
_Static_assert(sizeof(struct zt_punt) == 48, "unpacked by ztpipe/ipc.py");

bool zt_punt_add_patient(struct zt_context *c, const struct zt_punt *head, const void *data, size_t len) {
    struct zt_punts *p = c->punts;
    size_t room = ZT_PUNT_BYTES - p->used;
    if (len > ZT_PUNT_BYTES || sizeof *head + len + ZT_PUNT_ALIGN > room) {
        zt_count(c, ZT_C_drop_punt_overflow, 1);
        return false;
    }
    struct zt_punt h = *head;
    h.len = (uint32_t)len;
    memcpy(p->data + p->used, &h, sizeof h);
    if (len != 0) {
        memcpy(p->data + p->used + sizeof h, data, len);
    }
    size_t padded = (len + ZT_PUNT_ALIGN - 1) & ~(size_t)(ZT_PUNT_ALIGN - 1);
    memset(p->data + p->used + sizeof h + len, 0, padded - len);
    p->used += (uint32_t)(sizeof h + padded);
    p->count++;
    return true;
}

bool zt_punt_add(struct zt_context *c, const struct zt_punt *head, const void *data, size_t len) {
    bool added = zt_punt_add_patient(c, head, data, len);
    c->punts->urgent += added;
    return added;
}
