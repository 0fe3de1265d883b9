/* wal_ledger.c: who still needs which segment of a log.
 *
 * For each live segment the collections with a record in it, and the highest version of each:
 *
 *     segment 7:  A up to 40   B up to 12         a pin: one collection in one segment
 *     segment 8:  A up to 55                      A's pins: 7, 8; B's: 7
 *     segment 9:  -                               needed by nobody
 *
 * A release walks the collection's pins from the oldest on and takes those away whose version it
 * covers, so every pin is touched once in its life, whatever the number of segments and
 * collections. The oldest segment with a pin is where the log must begin.
 *
 * Versions of one collection grow along a log. Should they not (they do not have to, for this), a
 * release stops at the first pin that it does not cover: it keeps too much, never too little.
 *
 * Prepare may fail, note may not: the memory of the next pin is in hand before its record is
 * encoded. Pure: no I/O but the key of the hash. */
#include "base/assert.h"
#include "wal/wal_internal.h"

#include "base/no_libc_heap.h"

static struct wal_holding *holding_of(uint64_t value)
{
    return (struct wal_holding *)(uintptr_t)value;
}

static bool same_collection(const void *owner, uint64_t value, const void *key, size_t key_len)
{
    (void)owner;
    return memcmp(holding_of(value)->collection.bytes, key, key_len) == 0;
}

static uint64_t hash_of(const struct wal_ledger *l, const struct uuid *collection)
{
    return hash_bytes(&l->key, collection->bytes, sizeof(collection->bytes));
}

static struct wal_holding *find(const struct wal_ledger *l, const struct uuid *collection)
{
    uint64_t value;
    bool found = map_find(&l->map, hash_of(l, collection), collection->bytes,
                          sizeof(collection->bytes), &value);
    return found ? holding_of(value) : NULL;
}

void wal_ledger_init(struct wal_ledger *l, struct heap *heap, struct io *io)
{
    *l = (struct wal_ledger){.heap = heap};
    io->ops->random(io, &l->key, sizeof(l->key));
    list_init(&l->segments);
    list_init(&l->holdings);
    map_init(&l->map, heap, same_collection, NULL);
}

/* ---- segments ---- */

void wal_ledger_push(struct wal_ledger *l, struct wal_live *live)
{
    ASSERT(list_empty(&l->segments) || wal_ledger_newest(l)->seq < live->seq);
    list_init(&live->pins);
    list_push_back(&l->segments, &live->link);
    l->bytes += live->file_bytes;
}

struct wal_live *wal_ledger_oldest(const struct wal_ledger *l)
{
    return list_empty(&l->segments) ? NULL
                                    : container_of(l->segments.anchor.next, struct wal_live, link);
}

struct wal_live *wal_ledger_newest(const struct wal_ledger *l)
{
    return list_empty(&l->segments) ? NULL
                                    : container_of(l->segments.anchor.prev, struct wal_live, link);
}

void wal_ledger_resize(struct wal_ledger *l, struct wal_live *live, uint64_t file_bytes)
{
    l->bytes += file_bytes - live->file_bytes;
    live->file_bytes = file_bytes;
}

void wal_ledger_drop_oldest(struct wal_ledger *l)
{
    struct wal_live *live = wal_ledger_oldest(l);
    ASSERT(live != NULL && list_empty(&live->pins));
    list_remove(&live->link);
    l->bytes -= live->file_bytes;
    heap_free(l->heap, live);
}

/* ---- pins ---- */

bool wal_ledger_prepare(struct wal_ledger *l)
{
    if (l->spare_pin == NULL)
        l->spare_pin = heap_calloc(l->heap, 1, sizeof(*l->spare_pin));
    if (l->spare_holding == NULL)
        l->spare_holding = heap_calloc(l->heap, 1, sizeof(*l->spare_holding));
    return l->spare_pin != NULL && l->spare_holding != NULL && map_reserve(&l->map, 1) == 0;
}

static struct wal_holding *begin_holding(struct wal_ledger *l, const struct uuid *collection)
{
    struct wal_holding *holding = l->spare_holding;
    ASSERT(holding != NULL);
    l->spare_holding = NULL;
    holding->collection = *collection;
    list_init(&holding->pins);
    list_push_back(&l->holdings, &holding->link);
    (void)map_put(&l->map, hash_of(l, collection), collection->bytes, sizeof(collection->bytes),
                  (uint64_t)(uintptr_t)holding, NULL);
    return holding;
}

void wal_ledger_note(struct wal_ledger *l, struct wal_live *live, const struct uuid *collection,
                     uint64_t version)
{
    struct wal_holding *holding = find(l, collection);
    if (holding == NULL)
        holding = begin_holding(l, collection);
    struct wal_pin *pin = list_empty(&holding->pins)
                              ? NULL
                              : container_of(holding->pins.anchor.prev, struct wal_pin, link);
    if (pin == NULL || pin->live != live) {
        pin = l->spare_pin;
        ASSERT(pin != NULL);
        l->spare_pin = NULL;
        *pin = (struct wal_pin){.holding = holding, .live = live};
        list_push_back(&holding->pins, &pin->link);
        list_push_back(&live->pins, &pin->in_segment);
    }
    if (version > pin->version)
        pin->version = version;
}

static void drop_pin(struct wal_ledger *l, struct wal_pin *pin)
{
    list_remove(&pin->link);
    list_remove(&pin->in_segment);
    heap_free(l->heap, pin);
}

static void drop_holding(struct wal_ledger *l, struct wal_holding *holding)
{
    (void)map_remove(&l->map, hash_of(l, &holding->collection), holding->collection.bytes,
                     sizeof(holding->collection.bytes), NULL);
    list_remove(&holding->link);
    heap_free(l->heap, holding);
}

bool wal_ledger_release(struct wal_ledger *l, const struct uuid *collection, uint64_t version)
{
    struct wal_holding *holding = find(l, collection);
    bool any = false;
    if (holding == NULL)
        return false;
    while (!list_empty(&holding->pins)) {
        struct wal_pin *pin = container_of(holding->pins.anchor.next, struct wal_pin, link);
        if (pin->version > version)
            return any;
        drop_pin(l, pin);
        any = true;
    }
    drop_holding(l, holding);
    return any;
}

/* ---- asking ---- */

static const struct wal_pin *first_pin(const struct wal_ledger *l)
{
    list_each (link, &l->segments) {
        const struct wal_live *live = container_of(link, struct wal_live, link);
        if (!list_empty(&live->pins))
            return container_of(live->pins.anchor.next, struct wal_pin, in_segment);
    }
    return NULL;
}

uint64_t wal_ledger_held_from(const struct wal_ledger *l)
{
    const struct wal_pin *pin = first_pin(l);
    return pin != NULL ? pin->live->seq : UINT64_MAX;
}

bool wal_ledger_holder(const struct wal_ledger *l, struct uuid *collection_out,
                       uint64_t *version_out)
{
    const struct wal_pin *pin = first_pin(l);
    if (pin == NULL)
        return false;
    *collection_out = pin->holding->collection;
    *version_out = pin->version;
    return true;
}

void wal_ledger_collections(const struct wal_ledger *l,
                            void (*visit)(void *arg, const struct uuid *collection,
                                          uint64_t version),
                            void *arg)
{
    list_each (link, &l->holdings) {
        const struct wal_holding *holding = container_of(link, struct wal_holding, link);
        uint64_t version = 0;
        list_each (at, &holding->pins) {
            const struct wal_pin *pin = container_of(at, struct wal_pin, link);
            version = pin->version > version ? pin->version : version;
        }
        visit(arg, &holding->collection, version);
    }
}

void wal_ledger_segments(const struct wal_ledger *l, const char *dir,
                         void (*visit)(void *arg, const struct wal_segment_info *info), void *arg)
{
    list_each (link, &l->segments) {
        const struct wal_live *live = container_of(link, struct wal_live, link);
        char path[WAL_PATH_MAX];
        struct wal_segment_info info = {live->seq, live->file_bytes, live->used_bytes, path,
                                        live->closed};
        if (wal_segment_path(dir, live->seq, path) == 0)
            visit(arg, &info);
    }
}

/* ---- from a scan ---- */

static struct wal_live *add_segment(struct wal_ledger *l, const struct wal_scan_segment *s)
{
    struct wal_live *live = heap_calloc(l->heap, 1, sizeof(*live));
    if (live == NULL)
        return NULL;
    live->seq = s->seq;
    live->closed = true;
    wal_ledger_push(l, live);
    return live;
}

int wal_ledger_visit(void *arg, const struct wal_record_info *info)
{
    struct wal_ledger_scan *scan = arg;
    struct wal_ledger *l = scan->ledger;
    const struct wal_scan_log *log = &scan->scan->logs[info->place.log];
    if (info->type == WAL_RECORD_CLOSE)
        return 0;
    struct wal_live *live = wal_ledger_newest(l);
    uint32_t at =
        live != NULL ? (uint32_t)(live->seq - log->begin.seq) + 1 + log->first : log->first;
    for (; at <= info->place.segment; at++)
        if ((live = add_segment(l, &log->segments[at])) == NULL)
            return PDB_RESOURCE_EXHAUSTED;
    if (!wal_ledger_prepare(l))
        return PDB_RESOURCE_EXHAUSTED;
    live->records++;
    wal_ledger_note(l, live, &info->collection, info->version);
    return 0;
}

int wal_ledger_finish(struct wal_ledger *l, const struct wal_scan_log *log, uint32_t end,
                      uint64_t segment_bytes)
{
    struct wal_live *live = wal_ledger_newest(l);
    uint32_t at =
        live != NULL ? (uint32_t)(live->seq - log->begin.seq) + 1 + log->first : log->first;
    for (; at < end; at++)
        if (add_segment(l, &log->segments[at]) == NULL)
            return PDB_RESOURCE_EXHAUSTED;
    list_each (link, &l->segments) {
        live = container_of(link, struct wal_live, link);
        const struct wal_scan_segment *s = &log->segments[live->seq - log->begin.seq + log->first];
        wal_ledger_resize(l, live, s->file_bytes);
        live->first = s->first;
        live->used_bytes = s->valid_end;
        live->whole = s->size == segment_bytes && s->file_bytes == s->size;
    }
    return 0;
}

void wal_ledger_dispose(struct wal_ledger *l)
{
    struct list_link *link, *at;
    while ((link = list_pop_front(&l->holdings)) != NULL) {
        struct wal_holding *holding = container_of(link, struct wal_holding, link);
        while ((at = list_pop_front(&holding->pins)) != NULL)
            heap_free(l->heap, container_of(at, struct wal_pin, link));
        heap_free(l->heap, holding);
    }
    while ((link = list_pop_front(&l->segments)) != NULL)
        heap_free(l->heap, container_of(link, struct wal_live, link));
    heap_free(l->heap, l->spare_pin);
    heap_free(l->heap, l->spare_holding);
    map_dispose(&l->map);
}
