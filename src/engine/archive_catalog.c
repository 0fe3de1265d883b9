/* archive_catalog.c: versions of the catalog, one after the other, into the store. A version is put
 * when it is durable; from then on it never changes, but a later one moves it into
 * catalog/archive/, so a put looks in both places. Those that are not stored yet stay there
 * (catalog_save.c asks archive_catalog_from). */
#include "engine/archive_internal.h"

#include "engine/catalog.h"
#include "os/failpoint.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/no_libc_heap.h"

static void put_done(struct archive_put *put)
{
    struct archive_master *m = container_of(put, struct archive_master, catalogs.put);
    struct archive_catalogs *c = &m->catalogs;
    struct engine_core *core = m->core;
    if (put->rc < 0) {
        if (!m->stopped) {
            archive_failed(core, &c->health, &put->trail);
            (void)timer_set(core->r, &c->retry, archive_retry_ns(core, &c->health));
        }
    } else {
        FAILPOINT("archive.catalog");
        archive_works(core, &c->health);
        c->next++;
        archive_catalogs_kick(m);
    }
    archive_tick_catalog(m);
    archive_core_moved(core->archive);
}

static void retry_fires(struct timer *timer)
{
    archive_catalogs_kick(container_of(timer, struct archive_master, catalogs.retry));
}

void archive_catalogs_kick(struct archive_master *m)
{
    struct archive_catalogs *c = &m->catalogs;
    struct engine_core *core = m->core;
    if (!m->loaded || m->stopped || c->put.busy || c->retry.slot != 0 ||
        c->next > catalog_newest(core->master)->version)
        return;
    struct archive_put *put = &c->put;
    const char *data_dir = core->db->options.data_dir;
    archive_catalog_key(put->key, &core->db->archive_identity, c->next);
    (void)snprintf(put->path, sizeof(put->path), "%.1000s/catalog/%" PRIu64 ".catalog", data_dir,
                   c->next);
    (void)snprintf(put->path_other, sizeof(put->path_other),
                   "%.1000s/catalog/archive/%" PRIu64 ".catalog", data_dir, c->next);
    put->len = UINT64_MAX;
    put->look_first = c->health.failures != 0 || c->next < c->look_until;
    put->done = put_done;
    archive_put_start(core, ARCHIVE_WORKER_LOGS, put);
}

/* ---- the beginning ---- */

struct found {
    uint64_t *versions; /* heap */
    size_t count, capacity;
    bool failed;
};

static void see_name(void *arg, const char *name)
{
    struct found *found = arg;
    char *end = NULL;
    unsigned long long version = strtoull(name, &end, 10);
    if (end == name || strcmp(end, ".catalog") != 0 || found->failed)
        return;
    if (found->count == found->capacity) {
        size_t capacity = 2 * found->capacity + 64;
        uint64_t *versions = heap_realloc(NULL, found->versions, capacity * sizeof(*versions));
        found->failed = versions == NULL;
        if (found->failed)
            return;
        found->versions = versions;
        found->capacity = capacity;
    }
    found->versions[found->count++] = version;
}

static int by_version(const void *a, const void *b)
{
    const uint64_t *left = a, *right = b;
    return *left < *right ? -1 : *left > *right;
}

/* The first version from which on all are there. Without memory only the newest counts: then there
 * is a gap, which a base fills. */
static uint64_t first_local(struct engine_core *core, uint64_t newest)
{
    char dir[SNAPSHOT_PATH_MAX];
    struct found found = {0};
    uint64_t first = newest;
    (void)snprintf(dir, sizeof(dir), "%.1000s/catalog/archive", core->db->options.data_dir);
    (void)core->r->io->ops->list_dir(core->r->io, dir, see_name, &found);
    (void)snprintf(dir, sizeof(dir), "%.1000s/catalog", core->db->options.data_dir);
    (void)core->r->io->ops->list_dir(core->r->io, dir, see_name, &found);
    if (found.count > 1)
        qsort(found.versions, found.count, sizeof(found.versions[0]), by_version);
    for (size_t i = found.count; i-- != 0 && found.versions[i] >= first - 1;)
        first = found.versions[i] == first - 1 ? first - 1 : first;
    heap_free(NULL, found.versions);
    return first;
}

void archive_catalogs_look(struct archive_master *m)
{
    struct archive_catalogs *c = &m->catalogs;
    c->health.what = "versions of the catalog";
    c->retry.fire = retry_fires;
    c->first = c->next = first_local(m->core, catalog_newest(m->core->master)->version);
}

enum archive_begun archive_catalogs_begin(struct archive_master *m,
                                          const struct archive_state *known, uint64_t behind)
{
    struct archive_catalogs *c = &m->catalogs;
    uint64_t newest = catalog_newest(m->core->master)->version;
    if (known == NULL || known->catalog_next == 0 || behind < c->first) {
        bool gap = known != NULL && known->catalog_next != 0;
        c->first = c->next = newest;
        return gap ? ARCHIVE_GAP : ARCHIVE_GOES_ON;
    }
    if (behind > newest + 1)
        return ARCHIVE_CONFLICT;
    c->next = known->catalog_next > c->first ? known->catalog_next : c->first;
    c->first = known->catalog_first;
    c->look_until = behind;
    return ARCHIVE_GOES_ON;
}

void archive_catalogs_stop(struct archive_master *m)
{
    timer_cancel(m->core->r, &m->catalogs.retry);
    archive_put_cancel(&m->catalogs.put);
}

uint64_t archive_catalog_from(const struct engine_core *core)
{
    const struct archive_master *m = archive_master(core);
    return m != NULL ? m->catalogs.next : UINT64_MAX;
}

void archive_catalog_saved(struct engine_core *core)
{
    struct archive_master *m = archive_master(core);
    if (m != NULL)
        archive_catalogs_kick(m);
}
