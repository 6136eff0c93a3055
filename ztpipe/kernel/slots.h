/* slots.h: writing and reading records in ring slots, for the stages.
 *
 * A writer keeps the slot it has reserved until it is full or the call ends; nothing of it is visible to the consumer before
 * zt_writer_flush. A reader walks the oldest published slot and remembers where it stands, so a stage can stop in the middle when its output
 * is full and go on in the next call. Both check every bound: what lies in a slot was written by another process.
 */
#ifndef ZT_SLOTS_H
#define ZT_SLOTS_H

#include "stages.h"

#include <string.h>

static inline uint32_t zt_rec_align(uint32_t n) { return (n + ZT_REC_ALIGN - 1) & ~(ZT_REC_ALIGN - 1); }

static inline uint8_t *zt_rec_data(struct zt_rec *r) { return (uint8_t *)r + ZT_REC_ALIGN; }

/* ---- producer --------------------------------------------------------------------------------------------------------------- */

struct zt_writer {
    struct zt_ring_ref *ring;
    struct zt_slot *slot; /* reserved, not published; NULL: none */
    uint32_t used;
    uint32_t nrec;
};

/* Publish what has been written. */
static inline void zt_writer_flush(struct zt_writer *w) {
    if (w->slot != NULL && w->nrec != 0) {
        w->slot->nrec = w->nrec;
        w->slot->used = w->used;
        zt_ring_publish(w->ring);
    }
    w->slot = NULL;
}

static inline uint32_t zt_writer_left(const struct zt_writer *w) { return w->slot == NULL ? 0 : ZT_SLOT_BYTES - w->used; }

/* Make room for records of `need` bytes, headers and alignment included (need <= ZT_SLOT_BYTES - ZT_REC_ALIGN), publishing the slot in hand
 * if it cannot take them. False: the ring is full; the consumer will ring our bell. */
static inline bool zt_writer_room(struct zt_context *c, struct zt_writer *w, uint32_t need) {
    if (zt_writer_left(w) >= need) {
        return true;
    }
    zt_writer_flush(w);
    w->slot = zt_ring_reserve(w->ring);
    w->used = ZT_REC_ALIGN;
    w->nrec = 0;
    if (w->slot == NULL) {
        zt_count(c, ZT_C_ring_full, 1);
    }
    return w->slot != NULL;
}

/* The place of the next record; the caller has made room. */
static inline struct zt_rec *zt_writer_at(const struct zt_writer *w) { return (struct zt_rec *)(void *)((uint8_t *)w->slot + w->used); }

/* The same with its header zeroed, to be filled in before zt_writer_end. */
static inline struct zt_rec *zt_writer_begin(struct zt_writer *w) {
    struct zt_rec *r = zt_writer_at(w);
    memset(r, 0, sizeof *r);
    return r;
}

static inline void zt_writer_end(struct zt_writer *w, const struct zt_rec *r) {
    w->used += ZT_REC_ALIGN + zt_rec_align(r->len);
    w->nrec++;
}

/* ---- consumer --------------------------------------------------------------------------------------------------------------- */

struct zt_reader {
    struct zt_ring_ref *ring;
    struct zt_slot *slot; /* being read; NULL: none */
    uint32_t at;          /* offset of the current record */
    uint32_t index;       /* its number */
    uint32_t part;        /* the stage's own position inside it: segment or datagram number */
};

static inline struct zt_rec *zt_reader_at(const struct zt_reader *r) {
    return (struct zt_rec *)(void *)((uint8_t *)r->slot + r->at);
}

/* Is there a whole record where the reader stands? */
static inline bool zt_reader_valid(const struct zt_reader *r) {
    return r->index < r->slot->nrec && r->at <= ZT_SLOT_BYTES - ZT_REC_ALIGN &&
           zt_reader_at(r)->len <= ZT_SLOT_BYTES - ZT_REC_ALIGN - r->at;
}

/* The current record, or NULL when the ring is empty. Slots that have been read to their end are released on the way. */
static inline struct zt_rec *zt_reader_record(struct zt_reader *r) {
    for (;;) {
        if (r->slot == NULL) {
            r->slot = zt_ring_peek(r->ring);
            r->at = ZT_REC_ALIGN;
            r->index = 0;
            r->part = 0;
            if (r->slot == NULL) {
                return NULL;
            }
        }
        if (zt_reader_valid(r)) {
            return zt_reader_at(r);
        }
        r->slot = NULL;
        zt_ring_release(r->ring);
    }
}

/* Done with the current record. */
static inline void zt_reader_next(struct zt_reader *r) {
    r->at += ZT_REC_ALIGN + zt_rec_align(zt_reader_at(r)->len);
    r->index++;
    r->part = 0;
}

#endif
