/* The archive of a simulated engine: half of the seeds have one, in memory that no crash of the
 * disk touches. In the end everything that STATE and the bases name has to be there. */
#include "engine_sim.h"

#include "engine/archive_format.h"
#include "engine/catalog.h"

#include <stdlib.h>

static bool is_there(struct sim *s, const char *key, uint64_t bytes, const uint32_t *crc)
{
    struct store_info info;
    if (store_head(s->archive, NULL, text_of(key), &info) < 0)
        return false;
    return (bytes == 0 || info.size == bytes) && (crc == NULL || info.crc32c == *crc);
}

static void check_state(struct sim *s, const void *bytes, size_t len)
{
    struct archive_state state;
    struct arena arena = {0};
    char key[ARCHIVE_KEY_SIZE];
    if (archive_state_decode(bytes, len, &arena, &state, NULL) < 0) {
        sim_wrong(s, "STATE cannot be read");
    } else {
        for (uint32_t i = 0; i < state.log_count; i++) {
            bool any = false, there;
            for (uint64_t seq = state.logs[i].first_seq; seq < state.logs[i].next_seq; seq++) {
                archive_wal_key(key, &state.identity, &state.logs[i].uuid, seq);
                there = is_there(s, key, 0, NULL);
                if (any && !there) /* a prune that was cut off may have taken the first ones */
                    sim_wrong(s, "the archive lacks a segment of a log");
                any = any || there;
            }
        }
        archive_catalog_key(key, &state.identity, state.catalog_next - 1);
        if (!is_there(s, key, 0, NULL))
            sim_wrong(s, "the archive lacks a catalog");
        s->sum->archived += state.range_count != 0;
    }
    arena_dispose(&arena);
}

static void check_base(struct sim *s, const void *bytes, size_t len)
{
    struct archive_base base;
    struct arena arena = {0};
    char key[ARCHIVE_KEY_SIZE];
    if (archive_base_decode(bytes, len, &arena, &base, NULL) < 0) {
        sim_wrong(s, "a BASE cannot be read");
    } else {
        for (uint32_t i = 0; i < base.image->part_count; i++) {
            const struct snapshot_part *part = &base.image->parts[i];
            for (uint32_t f = 0; f < part->file_count; f++) {
                archive_file_key(key, &base.identity, base.name, part, f);
                if (!is_there(s, key, part->files[f].bytes, &part->files[f].crc32c))
                    sim_wrong(s, "the archive lacks a file of a base");
            }
        }
        archive_base_dispose(&base);
        s->sum->bases++;
    }
    arena_dispose(&arena);
}

static int check_object(void *arg, const struct store_object *object)
{
    struct sim *s = arg;
    struct archive_parsed parsed;
    void *bytes = NULL;
    size_t len = 0;
    enum archive_object kind = archive_parse(object->key, &parsed);
    if (kind == ARCHIVE_OTHER)
        sim_wrong(s, "the archive has something that is not its own");
    if (kind != ARCHIVE_STATE && kind != ARCHIVE_BASE)
        return 0;
    if (store_get_all(s->archive, NULL, object->key, ARCHIVE_OBJECT_BYTES_MAX, NULL, &bytes, &len) <
        0)
        sim_wrong(s, "the archive cannot be read");
    else if (kind == ARCHIVE_STATE)
        check_state(s, bytes, len);
    else
        check_base(s, bytes, len);
    heap_free(NULL, bytes);
    return 0;
}

void sim_archive_begin(struct sim *s)
{
    struct trail trail = {0};
    if (sim_below(s, 2) == 0 &&
        store_open(TEXT_LIT("mem://archive"), NULL, &trail, &s->archive) < 0)
        abort();
}

void sim_archive_end(struct sim *s)
{
    const struct store_list_request request = {.visit = check_object, .arg = s};
    if (s->archive != NULL && store_list(s->archive, NULL, &request) < 0)
        sim_wrong(s, "the archive cannot be listed");
    store_close(s->archive);
    s->archive = NULL;
}
