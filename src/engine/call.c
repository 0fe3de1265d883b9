/* call.c: how a call begins, travels, waits and ends. See call.h for the life and for who may touch
 * what.
 *
 * A call to a shard on its own core goes by mail too: one path, one order of events, and no
 * recursion from a caller's start into its own `done` after long work. Only refusals and answers
 * from the local catalog end inside *_start.
 *
 * A call may reach an owner that has not yet heard of the catalog in which home found the
 * collection (mail from core 0 to the two may arrive in any order): it waits there until the
 * catalog comes. */
#include "engine/call.h"

#include "base/assert.h"
#include "engine/catalog.h"
#include "engine/shard.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/no_libc_heap.h"

enum { BACKLOG_MAX = 8192 };

struct call_waiter { /* a thread that blocks in pdb_wait; on its stack */
    struct mail mail;
    struct pdb_call *call;
    void (*start)(struct pdb_call *call);
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool finished;
};

void pdb_call_init(struct pdb_call *call, struct pdb *db, struct arena *arena,
                   void (*done)(struct pdb_call *call))
{
    memset(call, 0, sizeof(*call));
    call->db = db;
    call->arena = arena;
    call->done = done;
}

/* ---- errors ---- */

int call_fail(struct pdb_call *call, int code, const char *format, ...)
{
    if (call->error.code != 0)
        return code;
    va_list args;
    va_start(args, format);
    (void)vsnprintf(call->error.text, sizeof(call->error.text), format, args);
    va_end(args);
    call->error.code = code;
    return code;
}

int call_fail_trail(struct pdb_call *call, int rc, const struct trail *trail)
{
    if (call->error.code == 0 && trail->http_status != 0)
        call->error.http_status = trail->http_status;
    return call_fail(call, rc, "%s", trail->len != 0 ? trail->text : pdb_error_text(rc));
}

int call_no_memory(struct pdb_call *call)
{
    return call_fail(call, PDB_RESOURCE_EXHAUSTED, "out of memory for this request");
}

int call_compile_filter(struct pdb_call *call, struct pdb_text document, const char *path,
                        struct filter **filter_out)
{
    const struct catalog_entry *entry = call_state(call)->entry;
    struct filter_options options = {
        .columns = entry->columns,
        .column_count = entry->config.column_count,
        .depth_max = call->db->options.filter_depth_max,
        .leaves_max = call->db->options.filter_leaves_max,
    };
    struct trail trail = {0};
    *filter_out = NULL;
    if (document.len == 0)
        return 0;
    if (doc_validate(document.ptr, document.len) < 0)
        return call_fail(call, PDB_INVALID_ARGUMENT, "%s: not a valid document", path);
    int rc = filter_compile(call->arena, document, &options, &trail, filter_out);
    if (rc >= 0)
        return rc;
    /* The compiler's messages begin with "filter", where the door's path belongs. */
    static const char prefix[] = "filter";
    const char *text = trail.text;
    if (strncmp(text, prefix, sizeof(prefix) - 1) == 0)
        return call_fail(call, rc, "%s%s", path, text + sizeof(prefix) - 1);
    return call_fail(call, rc, "%s: %s", path, trail.len != 0 ? text : pdb_error_text(rc));
}

bool call_stopped(struct pdb_call *call)
{
    struct call_state *s = call_state(call);
    if (s->cancelled) {
        (void)call_fail(call, PDB_CANCELLED, "cancelled by the caller");
        return true;
    }
    if (call->deadline_ns != 0 && s->here->r->now_ns >= call->deadline_ns) {
        (void)call_fail(call, PDB_DEADLINE_EXCEEDED,
                        "the deadline passed before the work was done");
        return true;
    }
    return false;
}

/* ---- beginning and ending, at home ---- */

static void finish(struct pdb_call *call)
{
    struct call_state *s = call_state(call);
    struct engine_core *core = s->home;
    if (s->catalog != NULL)
        catalog_let_go(core, s->catalog);
    s->catalog = NULL;
    call->took_us = (core->r->io->ops->now_ns(core->r->io) - s->started_ns) / 1000;
    ASSERT(core->calls_active > 0);
    core->calls_active--;
    if (!s->task.bulk)
        reactor_hurry(core->r);
    call->done(call);
    if (core->draining && core->calls_active == 0) {
        core->draining = false;
        engine_phase_done(core, 0, NULL);
    }
}

bool call_begin(struct pdb_call *call)
{
    struct reactor *r = reactor_here();
    ASSERT(r != NULL);
    struct engine_core *core = engine_here(r);
    struct call_state *s = call_state(call);
    s->home = s->here = core;
    s->started_ns = r->io->ops->now_ns(r->io);
    s->now_us = r->io->ops->realtime_us(r->io);
    core->calls_active++;
    if (core->closing || core->catalog == NULL) {
        (void)call_fail(call, PDB_UNAVAILABLE, "the database is closing");
        finish(call);
        return false;
    }
    if (call->deadline_ns != 0 && s->started_ns >= call->deadline_ns) {
        (void)call_fail(call, PDB_DEADLINE_EXCEEDED,
                        "the deadline passed before the work was done");
        finish(call);
        return false;
    }
    return true;
}

int call_resolve(struct pdb_call *call, struct pdb_text collection)
{
    struct call_state *s = call_state(call);
    const struct catalog_entry *entry = catalog_find(s->here->catalog, collection);
    if (entry == NULL)
        return call_fail(call, PDB_NOT_FOUND, "collection '%.*s' does not exist",
                         CALL_TEXT(collection));
    s->catalog = s->here->catalog;
    s->entry = entry;
    catalog_hold(s->here, s->catalog);
    return 0;
}

/* ---- steps ---- */

static void run_step(struct task *task)
{
    struct call_state *s = container_of(task, struct call_state, task);
    s->step(call_of(s));
}

void call_run(struct pdb_call *call, void (*step)(struct pdb_call *call))
{
    struct call_state *s = call_state(call);
    s->step = step;
    s->task.run = run_step;
    s->task.name = "call";
    task_queue(s->here->r, &s->task);
}

/* ---- travelling ---- */

static void arrives(struct reactor *here, struct mail *mail)
{
    struct call_state *s = container_of(mail, struct call_state, mail);
    s->here = engine_here(here);
    s->away = true;
    s->arrive(call_of(s));
}

bool call_send(struct pdb_call *call, unsigned to, void (*arrive)(struct pdb_call *call))
{
    struct call_state *s = call_state(call);
    s->arrive = arrive;
    if (!s->sent) {
        if (mail_backlog(s->here->r, to) > BACKLOG_MAX) {
            (void)call_fail(call, PDB_RESOURCE_EXHAUSTED,
                            "core %u has too many requests waiting; try again", to);
            finish(call);
            return false;
        }
        s->sent = true;
        s->owner = to;
    }
    s->mail.deliver = arrives;
    mail_post(s->here->r, to, &s->mail);
    return true;
}

static void enter_shard(struct pdb_call *call)
{
    struct call_state *s = call_state(call);
    if (s->shard != NULL) { /* it has been here and never left */
        s->resume(call);
        return;
    }
    s->shard = shard_find(s->here, &s->entry->uuid);
    const struct catalog_entry *entry = catalog_find(s->here->catalog, s->entry->config.name);
    if (s->shard == NULL && entry != NULL && uuid_equal(&entry->uuid, &s->entry->uuid) &&
        shard_open(s->here, entry, &s->shard) < 0) {
        (void)call_no_memory(call);
        if (s->visiting)
            s->resume(call);
        else
            call_return(call);
        return;
    }
    if (s->shard == NULL && s->visiting) {
        s->resume(call);
        return;
    }
    if (s->shard == NULL) {
        (void)call_fail(call, PDB_NOT_FOUND, "collection '%.*s' does not exist",
                        CALL_TEXT(s->entry->config.name));
        call_return(call);
        return;
    }
    s->shard->users++;
    s->resume(call);
}

static void arrive_at_owner(struct pdb_call *call)
{
    struct call_state *s = call_state(call);
    if (s->catalog->version > s->here->catalog->version)
        list_push_back(&s->here->awaiting_catalog, &s->link);
    else
        enter_shard(call);
}

void call_send_to_shard(struct pdb_call *call, void (*arrive)(struct pdb_call *call))
{
    struct call_state *s = call_state(call);
    s->resume = arrive;
    (void)call_send(call, catalog_owner(&s->entry->uuid, s->here->db->core_count), arrive_at_owner);
}

void call_visit_shard(struct pdb_call *call, const struct catalog_entry *entry,
                      void (*arrive)(struct pdb_call *call))
{
    struct call_state *s = call_state(call);
    ASSERT(s->shard == NULL && s->catalog != NULL);
    s->entry = entry;
    s->visiting = true;
    call_send_to_shard(call, arrive);
}

void call_catalog_arrived(struct engine_core *core)
{
    list_each_safe(link, following, &core->awaiting_catalog)
    {
        struct call_state *s = container_of(link, struct call_state, link);
        if (s->catalog->version > core->catalog->version)
            continue;
        list_remove(link);
        enter_shard(call_of(s));
    }
}

static void comes_home(struct reactor *here, struct mail *mail)
{
    struct call_state *s = container_of(mail, struct call_state, mail);
    s->here = engine_here(here);
    s->returned = true;
    if (!s->cancel_under_way)
        finish(call_of(s));
}

void call_return(struct pdb_call *call)
{
    struct call_state *s = call_state(call);
    if (s->shard != NULL) {
        struct shard *shard = s->shard;
        s->shard = NULL;
        shard_leave(shard);
    }
    if (!s->sent) {
        finish(call);
        return;
    }
    s->away = false;
    s->mail.deliver = comes_home;
    mail_post(s->here->r, s->home->id, &s->mail);
}

/* ---- cancelling ---- */

static void cancel_back(struct reactor *here, struct mail *mail)
{
    (void)here;
    struct call_state *s = container_of(mail, struct call_state, cancel_mail);
    s->cancel_under_way = false;
    if (s->returned)
        finish(call_of(s));
}

static void cancel_arrives(struct reactor *here, struct mail *mail)
{
    struct call_state *s = container_of(mail, struct call_state, cancel_mail);
    if (s->away)
        s->cancelled = true;
    unsigned home = mail->from;
    mail->deliver = cancel_back;
    mail_post(here, home, mail);
}

void pdb_call_cancel(struct pdb_call *call)
{
    struct call_state *s = call_state(call);
    if (s->home == NULL || s->returned || s->touring || s->cancel_under_way)
        return;
    if (!s->sent) {
        s->cancelled = true;
        return;
    }
    s->cancel_under_way = true;
    s->cancel_mail.deliver = cancel_arrives;
    mail_post(s->home->r, s->owner, &s->cancel_mail);
}

/* ---- threads outside ---- */

static void waiter_done(struct pdb_call *call)
{
    struct call_waiter *waiter = call_state(call)->waiter;
    (void)pthread_mutex_lock(&waiter->lock);
    waiter->finished = true;
    (void)pthread_cond_signal(&waiter->changed);
    (void)pthread_mutex_unlock(&waiter->lock);
}

static void waiter_arrives(struct reactor *here, struct mail *mail)
{
    (void)here;
    struct call_waiter *waiter = container_of(mail, struct call_waiter, mail);
    waiter->start(waiter->call);
}

int pdb_wait(struct pdb_call *call, void (*start)(struct pdb_call *call))
{
    struct pdb *db = call->db;
    ASSERT(reactor_here() == NULL || db->sim != NULL);
    struct call_waiter waiter = {.call = call, .start = start, .mail.deliver = waiter_arrives};
    (void)pthread_mutex_init(&waiter.lock, NULL);
    (void)pthread_cond_init(&waiter.changed, NULL);
    call_state(call)->waiter = &waiter;
    call->done = waiter_done;
    /* A thread keeps its core, so that it reads its own writes from the same one. */
    unsigned core = db->sim != NULL ? 0 : (unsigned)((unsigned long)gettid() % db->core_count);
    mail_post_external(db->group, core, &waiter.mail);
    if (db->sim != NULL) {
        while (!waiter.finished)
            engine_pump(db);
    } else {
        (void)pthread_mutex_lock(&waiter.lock);
        while (!waiter.finished)
            (void)pthread_cond_wait(&waiter.changed, &waiter.lock);
        (void)pthread_mutex_unlock(&waiter.lock);
    }
    (void)pthread_cond_destroy(&waiter.changed);
    (void)pthread_mutex_destroy(&waiter.lock);
    return call->error.code;
}

struct arena *pdb_arena_new(size_t bytes_max)
{
    struct arena *arena = heap_alloc(NULL, sizeof(*arena));
    if (arena != NULL)
        arena_init(arena, bytes_max);
    return arena;
}

void pdb_arena_reset(struct arena *arena)
{
    arena_reset(arena);
}

void pdb_arena_free(struct arena *arena)
{
    if (arena == NULL)
        return;
    arena_dispose(arena);
    heap_free(NULL, arena);
}
