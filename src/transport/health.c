/* health.c: what /livez, /readyz and grpc.health.v1 say, kept fresh by two probes a second.
 *
 * Core 0 asks the engine for its stats (which needs an answer of every core) and mails the verdict
 * to every core's transport; each answers health requests from memory. If a core hangs, the verdict
 * stops coming: after ten seconds without one every core says "not live". Two seconds, as it once
 * was, is what a busy machine may leave a process without a processor, and whoever restarts it for
 * that gives the machine a recovery on top. Watch streams are told when the verdict changes. */
#include "transport/health.h"

#include "transport/connection.h"

#include "base/no_libc_heap.h"

static const uint64_t probe_every_ns = 500000000u, stale_after_ns = 10000000000u;

struct health_probe {
    struct pdb_stats stats;
    struct arena arena;
    struct timer timer;
    struct transport_core *core;
    struct heap *heap;
    bool running, stopping;
};

struct health_news {
    struct mail mail;
    struct transport *transport;
    struct heap *heap; /* of core 0: freed there */
    bool ready;
    const char *reason;
    struct pdb_progress progress;
};

bool health_live(const struct transport_core *core)
{
    return core->reactor->now_ns - core->priv->health_seen_ns < stale_after_ns;
}

static void free_news(struct reactor *here, struct mail *mail)
{
    (void)here;
    struct health_news *news = container_of(mail, struct health_news, mail);
    heap_free(news->heap, news);
}

static void learn(struct transport_core *core, bool ready, const char *reason,
                  const struct pdb_progress *progress)
{
    bool changed = core->ready != ready;
    core->ready = ready;
    core->not_ready_reason = reason;
    core->progress = *progress;
    core->priv->health_seen_ns = core->reactor->now_ns;
    if (changed)
        health_tell_watchers(core);
}

static void on_news(struct reactor *here, struct mail *mail)
{
    struct health_news *news = container_of(mail, struct health_news, mail);
    struct transport_core *core = news->transport->cores[here->id];
    if (core != NULL)
        learn(core, news->ready, news->reason, &news->progress);
    mail->deliver = free_news;
    mail_post(here, 0, mail);
}

static void spread(struct health_probe *probe, bool ready, const char *reason)
{
    const struct pdb_progress *progress = &probe->stats.progress_out;
    struct reactor *r = probe->core->reactor;
    learn(probe->core, ready, reason, progress);
    for (unsigned to = 1; to < r->count; to++) {
        struct health_news *news = heap_calloc(&r->heap, 1, sizeof(*news));
        if (news == NULL)
            continue; /* the next probe tells it */
        *news = (struct health_news){.mail.deliver = on_news,
                                     .transport = probe->core->transport,
                                     .heap = &r->heap,
                                     .ready = ready,
                                     .reason = reason,
                                     .progress = *progress};
        mail_post(r, to, &news->mail);
    }
}

static void schedule(struct health_probe *probe)
{
    (void)timer_set(probe->core->reactor, &probe->timer,
                    probe->core->reactor->now_ns + probe_every_ns);
}

static void on_stats(struct pdb_call *call)
{
    struct health_probe *probe = container_of(call, struct health_probe, stats.call);
    probe->running = false;
    if (probe->stopping) {
        struct heap *heap = probe->heap; /* the doors' core may be gone by now */
        arena_dispose(&probe->arena);
        heap_free(heap, probe);
        return;
    }
    const struct pdb_stats *s = &probe->stats;
    const char *reason = s->call.error.code != 0 ? "the engine does not answer"
                         : s->poisoned_out       ? "a write-ahead log has failed and refuses writes"
                         : s->disk_full_out      ? "the disk is full"
                         : probe->core->draining ? "the server is stopping"
                                                 : NULL;
    spread(probe, reason == NULL, reason);
    arena_reset(&probe->arena);
    schedule(probe);
}

static void on_timer(struct timer *timer)
{
    struct health_probe *probe = container_of(timer, struct health_probe, timer);
    probe->running = true;
    pdb_call_init(&probe->stats.call, probe->core->db, &probe->arena, on_stats);
    probe->stats.want_metrics = false;
    pdb_stats_start(&probe->stats);
}

int health_start(struct transport_core *core)
{
    core->ready = true;
    core->priv->health_seen_ns = core->reactor->now_ns;
    if (core->reactor->id != 0)
        return 0;
    struct health_probe *probe = heap_calloc(&core->reactor->heap, 1, sizeof(*probe));
    if (probe == NULL)
        return PDB_RESOURCE_EXHAUSTED;
    arena_init(&probe->arena, 0);
    probe->core = core;
    probe->heap = &core->reactor->heap;
    probe->timer.fire = on_timer;
    core->priv->probe = probe;
    schedule(probe);
    return 0;
}

void health_stop(struct transport_core *core)
{
    struct health_probe *probe = core->priv->probe;
    if (probe == NULL)
        return;
    core->priv->probe = NULL;
    timer_cancel(core->reactor, &probe->timer);
    probe->stopping = true;
    if (!probe->running) {
        arena_dispose(&probe->arena);
        heap_free(&core->reactor->heap, probe);
    }
}
