/* record_read.c: get, scroll and count: checked at home, carried out by the shard in steps at one
 * version, copied into the call's arena there. */
#include "base/base64.h"
#include "base/text.h"
#include "base/utf8.h"
#include "engine/call.h"
#include "engine/catalog.h"
#include "engine/fetch.h"
#include "engine/validate.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/no_libc_heap.h"

enum { SCAN_ROWS = 512, CURSOR_BYTES_MAX = 1024 };

static void refuse(struct pdb_call *call, int rc)
{
    (void)call_fail(call, rc, "%s",
                    rc == PDB_RESOURCE_EXHAUSTED ? "out of memory for this request"
                                                 : pdb_error_text(rc));
    call_return(call);
}

/* ---- copies ---- */

static bool copy_vectors(struct arena *arena, const struct shard *shard, const struct pdb_row *row,
                         struct pdb_row *out)
{
    const void **vectors = arena_calloc(arena, shard->field_count, sizeof(void *));
    if (vectors == NULL)
        return false;
    for (uint32_t f = 0; f < shard->field_count; f++) {
        if (row->vectors == NULL || row->vectors[f] == NULL)
            continue;
        void *copy = arena_alloc(arena, shard->field_bytes[f]);
        if (copy == NULL)
            return false;
        memcpy(copy, row->vectors[f], shard->field_bytes[f]);
        vectors[f] = copy;
    }
    out->vectors = vectors;
    return true;
}

bool shard_copy_row(struct arena *arena, const struct shard *shard, const struct pdb_row *row,
                    unsigned include, struct pdb_row *out)
{
    *out = (struct pdb_row){.version = row->version};
    out->id = arena_copy_text(arena, row->id.ptr, row->id.len);
    if (out->id.ptr == NULL)
        return false;
    if ((include & PDB_INCLUDE_METADATA) != 0 && row->metadata.len != 0) {
        out->metadata = arena_copy_text(arena, row->metadata.ptr, row->metadata.len);
        if (out->metadata.ptr == NULL)
            return false;
    }
    if ((include & PDB_INCLUDE_TIMES) != 0) {
        out->created_at_us = row->created_at_us;
        out->updated_at_us = row->updated_at_us;
        out->expires_at_us = row->expires_at_us;
    }
    return (include & PDB_INCLUDE_VECTORS) == 0 || copy_vectors(arena, shard, row, out);
}

const struct pdb_field *shard_copy_fields(struct arena *arena, const struct catalog_entry *entry)
{
    struct pdb_field *fields = arena_array(arena, struct pdb_field, entry->config.field_count);
    if (fields == NULL)
        return NULL;
    for (uint32_t i = 0; i < entry->config.field_count; i++) {
        fields[i] = entry->config.fields[i];
        fields[i].name = arena_copy_text(arena, fields[i].name.ptr, fields[i].name.len);
        if (fields[i].name.ptr == NULL)
            return NULL;
    }
    return fields;
}

/* ---- get ---- */

struct get_work {
    struct shard_read read;
    struct pdb_row *rows;
    uint32_t next;
    bool asked; /* for the vectors of the next one, which are on disk */
    const void *vectors[PDB_FIELD_MAX];
    struct fetch fetch;
};

/* The reads of the next rows go to the disk together. */
static void ask_ahead(struct pdb_get *g, struct get_work *work, const struct shard_get *how)
{
    struct pdb_row row;
    work->asked = true;
    for (uint32_t i = work->next + 1; i < g->id_count && i < work->next + FETCH_READS_MAX; i++)
        (void)shard_get_row(call_state(&g->call)->shard, g->ids[i], how, &row);
}

/* False: it has ended with an error, or waits. */
static bool get_row(struct pdb_get *g, struct get_work *work)
{
    struct call_state *s = call_state(&g->call);
    struct pdb_text id = g->ids[work->next];
    struct pdb_row row, *out = &work->rows[work->next];
    bool vectors = (g->include & PDB_INCLUDE_VECTORS) != 0;
    struct shard_get how = {.version = work->read.version,
                            .now_us = s->now_us,
                            .vectors = vectors ? work->vectors : NULL,
                            .fetch = work->asked ? NULL : &work->fetch};
    switch (shard_get_row(s->shard, id, &how, &row)) {
    case VIEW_WAITING:
        ask_ahead(g, work, &how);
        return false;
    case VIEW_MISSING:
        *out = (struct pdb_row){.id = id};
        return true;
    case VIEW_DAMAGED:
        parts_tell_damage(s->shard, &g->call);
        return false;
    case VIEW_FOUND:
        break;
    }
    if (shard_copy_row(g->call.arena, s->shard, &row, g->include, out))
        return true;
    (void)call_no_memory(&g->call);
    return false;
}

static void get_step(struct pdb_call *call)
{
    struct call_state *s = call_state(call);
    struct pdb_get *g = container_of(call, struct pdb_get, call);
    struct get_work *work = s->work;
    while (work->next < g->id_count && !call_stopped(call) && !shard_gone(s->shard, call)) {
        if (!get_row(g, work)) {
            if (work->fetch.pending != 0)
                return;
            break;
        }
        work->asked = false;
        if (++work->next % 16 == 0 && work->next < g->id_count && reactor_slice_over(s->here->r)) {
            call_again(call);
            return;
        }
    }
    shard_read_end(&work->read);
    if (call->error.code == 0)
        g->rows_out = work->rows;
    call_return(call);
}

static int check_as_of(struct pdb_call *call, uint64_t as_of)
{
    const struct shard *shard = call_state(call)->shard;
    uint64_t oldest = shard_oldest_version(shard);
    if (as_of > shard->version_visible)
        return call_fail(call, PDB_OUT_OF_RANGE,
                         "as_of: the collection's newest version is %" PRIu64 ", found %" PRIu64,
                         shard->version_visible, as_of);
    if (as_of < oldest)
        return call_fail(call, PDB_OUT_OF_RANGE,
                         "as_of: the oldest version that is still kept is %" PRIu64
                         ", found %" PRIu64 "; see version_retention",
                         oldest, as_of);
    return 0;
}

static void get_at_shard(struct pdb_call *call)
{
    struct call_state *s = call_state(call);
    struct get_work *work = s->work;
    const struct pdb_get *g = container_of(call, struct pdb_get, call);
    work->fetch.core = s->here;
    work->fetch.task = &s->task;
    if (!g->has_as_of) {
        shard_read_begin(s->shard, &work->read);
    } else if (check_as_of(call, g->as_of) < 0) {
        call_return(call);
        return;
    } else {
        shard_read_begin_at(s->shard, &work->read, g->as_of);
    }
    call_run(call, get_step);
}

void pdb_get_start(struct pdb_get *g)
{
    struct pdb_call *call = &g->call;
    struct trail trail = {0};
    if (!call_begin(call))
        return;
    int rc = call_resolve(call, g->collection);
    if (rc == 0 && (g->id_count < 1 || g->id_count > PDB_BATCH_RECORDS_MAX))
        rc = call_fail(call, PDB_INVALID_ARGUMENT, "ids: expected 1 to %d ids, found %u",
                       PDB_BATCH_RECORDS_MAX, g->id_count);
    for (uint32_t i = 0; rc == 0 && i < g->id_count; i++) {
        char path[32];
        (void)snprintf(path, sizeof(path), "ids[%u]", i);
        if ((rc = validate_id(g->ids[i], path, &trail)) < 0)
            (void)call_fail_trail(call, rc, &trail);
    }
    struct get_work *work = rc == 0 ? arena_new(call->arena, struct get_work) : NULL;
    if (work != NULL) {
        work->rows = arena_array(call->arena, struct pdb_row, g->id_count);
        g->fields_out = shard_copy_fields(call->arena, call_state(call)->entry);
        g->field_count_out = call_state(call)->entry->config.field_count;
    }
    if (work == NULL || work->rows == NULL || g->fields_out == NULL) {
        refuse(call, rc < 0 ? rc : PDB_RESOURCE_EXHAUSTED);
        return;
    }
    call_state(call)->work = work;
    call_send_to_shard(call, get_at_shard);
}

/* ---- count ---- */

struct count_work {
    struct filter *filter;
    struct shard_view view;
    struct view_cursor cursor;
    uint64_t count;
};

static int visit_count(void *arg, uint64_t key)
{
    (void)key;
    ((struct count_work *)arg)->count++;
    return 0;
}

static void count_step(struct pdb_call *call)
{
    struct call_state *s = call_state(call);
    struct count_work *work = s->work;
    bool complete = false;
    while (!complete && !call_stopped(call) && !shard_gone(s->shard, call)) {
        complete =
            view_scan_step(&work->view, &work->cursor, work->filter, SCAN_ROWS, visit_count, work);
        if (!complete && reactor_slice_over(s->here->r)) {
            call_again(call);
            return;
        }
    }
    view_close(&work->view);
    container_of(call, struct pdb_count, call)->count_out = work->count;
    call_return(call);
}

static void count_at_shard(struct pdb_call *call)
{
    struct call_state *s = call_state(call);
    struct count_work *work = s->work;
    if (view_open(call, &work->view) < 0)
        call_return(call);
    else
        call_run(call, count_step);
}

void pdb_count_start(struct pdb_count *c)
{
    struct pdb_call *call = &c->call;
    if (!call_begin(call))
        return;
    struct count_work *work = arena_new(call->arena, struct count_work);
    int rc = work != NULL ? call_resolve(call, c->collection) : PDB_RESOURCE_EXHAUSTED;
    if (rc == 0)
        rc = call_compile_filter(call, c->filter, "filter", &work->filter);
    if (rc < 0) {
        refuse(call, rc);
        return;
    }
    call_state(call)->work = work;
    call_send_to_shard(call, count_at_shard);
}

/* ---- scroll ---- */

/* The cursor is base64 of "1" and the last id: opaque, safe in every door's text, and good after a
 * restart. */
struct scroll_work {
    struct filter *filter;
    struct shard_view view;
    struct view_scroll scroll;
    struct pdb_row *rows;
    uint32_t copied;
    bool scanned;
    uint32_t fetched; /* rows whose vectors were asked for, where they are on disk */
    const void *vectors[PDB_FIELD_MAX];
    struct fetch fetch;
};

static int decode_cursor(struct pdb_scroll *c, struct pdb_text *after_out)
{
    if (c->cursor.len == 0) {
        *after_out = (struct pdb_text){NULL, 0};
        return 0;
    }
    char *bytes = c->cursor.len <= CURSOR_BYTES_MAX
                      ? arena_alloc(c->call.arena, base64_decoded_max(c->cursor.len))
                      : NULL;
    size_t len = 0, bad;
    if (bytes == NULL || base64_decode(c->cursor.ptr, c->cursor.len, true, bytes, &len, &bad) < 0 ||
        len < 2 || len > PDB_ID_BYTES_MAX + 1 || bytes[0] != '1' ||
        utf8_invalid_at(bytes + 1, len - 1) != len - 1)
        return call_fail(&c->call, PDB_INVALID_ARGUMENT,
                         "cursor: not one that a scroll of this server has returned");
    *after_out = (struct pdb_text){bytes + 1, len - 1};
    return 0;
}

static int encode_cursor(struct pdb_scroll *c, struct pdb_text last_id)
{
    char bytes[PDB_ID_BYTES_MAX + 1] = "1";
    memcpy(bytes + 1, last_id.ptr, last_id.len);
    size_t len = base64_encoded_len(last_id.len + 1);
    char *text = arena_alloc(c->call.arena, len + 1);
    if (text == NULL)
        return call_no_memory(&c->call);
    base64_encode(bytes, last_id.len + 1, text);
    for (size_t i = 0; i < len; i++) /* the URL alphabet */
        text[i] = (char)(text[i] == '+' ? '-' : text[i] == '/' ? '_' : text[i]);
    c->next_cursor_out = (struct pdb_text){text, len};
    return 0;
}

static void scroll_over(struct pdb_scroll *c, struct scroll_work *work)
{
    struct pdb_call *call = &c->call;
    view_close(&work->view);
    if (call->error.code == 0 && work->scroll.count > c->limit &&
        encode_cursor(c, work->rows[c->limit - 1].id) < 0)
        (void)call_no_memory(call);
    if (call->error.code == 0) {
        c->rows_out = work->rows;
        c->row_count_out = work->copied;
    }
    call_return(call);
}

/* The next rows' vectors, as many as are read at once; false: they have to come first. */
static bool fetch_next(struct pdb_scroll *c, struct scroll_work *work)
{
    if (work->copied < work->fetched)
        return true;
    for (; work->fetched < work->scroll.count && work->fetched < c->limit &&
           work->fetched < work->copied + FETCH_READS_MAX;
         work->fetched++)
        (void)view_fetch(&work->view, work->scroll.keys[work->fetched], &work->fetch);
    return work->fetch.pending == 0;
}

/* False: it has ended with an error, or waits. */
static bool copy_next(struct pdb_scroll *c, struct scroll_work *work)
{
    struct pdb_row row;
    bool vectors = (c->include & PDB_INCLUDE_VECTORS) != 0;
    if (vectors && !fetch_next(c, work))
        return false;
    if (!view_row(&work->view, work->scroll.keys[work->copied], &row,
                  vectors ? work->vectors : NULL)) {
        (void)view_check(&work->view, &c->call);
        return false;
    }
    if (!shard_copy_row(c->call.arena, call_state(&c->call)->shard, &row, c->include,
                        &work->rows[work->copied])) {
        (void)call_no_memory(&c->call);
        return false;
    }
    work->copied++;
    return true;
}

static void scroll_step(struct pdb_call *call)
{
    struct call_state *s = call_state(call);
    struct pdb_scroll *c = container_of(call, struct pdb_scroll, call);
    struct scroll_work *work = s->work;
    while (!call_stopped(call) && !shard_gone(s->shard, call)) {
        if (!work->scanned) {
            work->scanned = view_scroll_step(&work->scroll, SCAN_ROWS);
        } else if (work->copied == c->limit || work->copied == work->scroll.count) {
            break;
        } else if (!copy_next(c, work)) {
            if (work->fetch.pending != 0)
                return;
            break;
        }
        if (reactor_slice_over(s->here->r)) {
            call_again(call);
            return;
        }
    }
    scroll_over(c, work);
}

static void scroll_at_shard(struct pdb_call *call)
{
    struct call_state *s = call_state(call);
    struct scroll_work *work = s->work;
    work->fetch.core = s->here;
    work->fetch.task = &s->task;
    if (view_open(call, &work->view) < 0) {
        call_return(call);
        return;
    }
    if (view_scroll_begin(&work->scroll, &work->view, call->arena) < 0) {
        view_close(&work->view);
        refuse(call, PDB_RESOURCE_EXHAUSTED);
        return;
    }
    call_run(call, scroll_step);
}

static int scroll_check(struct pdb_scroll *c, struct scroll_work *work)
{
    struct pdb_call *call = &c->call;
    int rc = call_resolve(call, c->collection);
    if (rc < 0)
        return rc;
    if (c->limit < 1 || c->limit > PDB_K_MAX)
        return call_fail(call, PDB_INVALID_ARGUMENT, "limit: expected 1 to %d, found %u", PDB_K_MAX,
                         c->limit);
    if ((rc = decode_cursor(c, &work->scroll.after)) < 0 ||
        (rc = call_compile_filter(call, c->filter, "filter", &work->filter)) < 0)
        return rc;
    work->scroll.filter = work->filter;
    work->scroll.limit = (size_t)c->limit + 1; /* one more tells whether there is a next page */
    work->rows = arena_array(call->arena, struct pdb_row, c->limit);
    c->fields_out = shard_copy_fields(call->arena, call_state(call)->entry);
    c->field_count_out = call_state(call)->entry->config.field_count;
    if (work->rows == NULL || c->fields_out == NULL)
        return call_no_memory(call);
    return 0;
}

void pdb_scroll_start(struct pdb_scroll *c)
{
    struct pdb_call *call = &c->call;
    if (!call_begin(call))
        return;
    c->next_cursor_out = (struct pdb_text){NULL, 0};
    struct scroll_work *work = arena_new(call->arena, struct scroll_work);
    int rc = work != NULL ? scroll_check(c, work) : PDB_RESOURCE_EXHAUSTED;
    if (rc < 0) {
        refuse(call, rc);
        return;
    }
    call_state(call)->work = work;
    call_send_to_shard(call, scroll_at_shard);
}
