/* archive_list.c: what archives there are under a URL, for people who look for a moment to go back
 * to. What cannot be read is told as such; the rest is told all the same. */
#include "engine/archive_restore.h"

#include <stdio.h>
#include <string.h>

#include "base/no_libc_heap.h"

struct listing {
    const struct pdb_archive_list *list;
    struct store *store;
    struct trail *trail;
    struct arena arena; /* of one identity */
};

static bool is_of_this_archive(int rc)
{
    return rc == PDB_DATA_LOSS || rc == PDB_NOT_FOUND || rc == PDB_FAILED_PRECONDITION;
}

static int list_base(struct listing *l, const struct uuid *identity, const char *name,
                     struct pdb_archive_base *out, struct trail *trail)
{
    struct archive_base base;
    struct trail why = {0};
    *out = (struct pdb_archive_base){.name = name};
    int rc = restore_read_base(l->store, identity, name, &l->arena, &base, &why);
    if (is_of_this_archive(rc)) {
        out->problem = arena_copy_text(&l->arena, why.text, why.len).ptr;
        return out->problem != NULL ? 0 : PDB_RESOURCE_EXHAUSTED;
    }
    if (rc < 0)
        return trail_add(trail, rc, "%s", why.text);
    out->begun_us = base.begun_us;
    out->ended_us = base.ended_us;
    out->collections = base.image->part_count;
    for (uint32_t i = 0; i < base.image->part_count; i++)
        out->bytes += snapshot_part_bytes(&base.image->parts[i]);
    archive_base_dispose(&base);
    return 0;
}

static int list_bases(struct listing *l, const struct uuid *identity, struct pdb_archive_info *info,
                      struct trail *trail)
{
    char(*names)[ARCHIVE_NAME_SIZE] = NULL;
    uint32_t count = 0;
    int rc = restore_base_names(l->store, identity, &l->arena, &names, &count, trail);
    if (rc < 0)
        return rc;
    struct pdb_archive_base *bases = arena_array(&l->arena, struct pdb_archive_base, count);
    if (bases == NULL)
        return PDB_RESOURCE_EXHAUSTED;
    for (uint32_t i = 0; i < count; i++)
        if ((rc = list_base(l, identity, names[i], &bases[i], trail)) < 0)
            return rc;
    info->bases = bases;
    info->base_count = count;
    return 0;
}

static int list_state(struct listing *l, const struct archive_state *state,
                      struct pdb_archive_info *info)
{
    struct pdb_archive_range *ranges =
        arena_array(&l->arena, struct pdb_archive_range, state->range_count);
    struct pdb_archive_log *logs = arena_array(&l->arena, struct pdb_archive_log, state->log_count);
    if (ranges == NULL || logs == NULL)
        return PDB_RESOURCE_EXHAUSTED;
    for (uint32_t i = 0; i < state->range_count; i++)
        ranges[i] = (struct pdb_archive_range){state->ranges[i].from_us, state->ranges[i].to_us};
    for (uint32_t i = 0; i < state->log_count; i++) {
        const struct archive_log *log = &state->logs[i];
        logs[i] = (struct pdb_archive_log){
            .first_segment = log->first_seq, .next_segment = log->next_seq, .ended = log->ended};
        uuid_format(&log->uuid, logs[i].uuid);
    }
    info->written_at_us = state->written_at_us;
    info->ranges = ranges;
    info->range_count = state->range_count;
    info->logs = logs;
    info->log_count = state->log_count;
    return 0;
}

static int list_identity(void *arg, const struct uuid *identity)
{
    struct listing *l = arg;
    struct pdb_archive_info info = {.written_at_us = 0};
    struct archive_state state;
    struct trail why = {0};
    arena_reset(&l->arena);
    uuid_format(identity, info.identity);
    int rc = restore_read_state(l->store, identity, &l->arena, &state, &why);
    if (is_of_this_archive(rc)) {
        info.problem = why.text;
        l->list->visit(l->list->arg, &info);
        return 0;
    }
    if (rc == 0)
        rc = list_state(l, &state, &info);
    if (rc == 0)
        rc = list_bases(l, identity, &info, &why);
    if (rc < 0)
        return trail_add(l->trail, rc, "%s", why.len != 0 ? why.text : "archive: out of memory");
    l->list->visit(l->list->arg, &info);
    return 0;
}

int pdb_archive_list(const struct pdb_archive_list *list, struct pdb_error *error)
{
    struct trail trail = {0};
    struct listing l = {.list = list, .trail = &trail};
    arena_init(&l.arena, 0);
    int rc = store_open(text_of(list->url), NULL, &trail, &l.store);
    if (rc == 0)
        rc = restore_each_identity(l.store, list_identity, &l, &trail);
    store_close(l.store);
    arena_dispose(&l.arena);
    if (error != NULL) {
        *error = (struct pdb_error){.code = rc};
        (void)snprintf(error->text, sizeof(error->text), "%s", trail.text);
    }
    return rc;
}
