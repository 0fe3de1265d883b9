/* health_service.c: grpc.health.v1.Health for the services "" (the server) and
 * "proximadb.v1.ProximaDB".
 *
 * Check answers from what the core knows (health.c refreshes it). A Watch stream stays open in the
 * core's list of watchers, and each gets one message a change; while the server drains it is ended,
 * because it would never end by itself. The request's deadline does not end a Watch: the client's
 * own does, by resetting the stream. */
#include "transport/health.h"

#include "base/container_of.h"
#include "transport/grpc/grpc_call.h"

#include "base/no_libc_heap.h"

#include "grpc_health_v1_health.pb-c.h"

struct watch {
    struct grpc_watcher watcher;
    bool known;   /* else its service is unknown, and stays so */
    bool serving; /* as told last */
};

/* HealthCheckResponse with field 1 of that status. */
static const struct pdb_text serving_message = {"\x08\x01", 2},
                             not_serving_message = {"\x08\x02", 2},
                             unknown_message = {"\x08\x03", 2};
_Static_assert(GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVING == 1 &&
                   GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__NOT_SERVING == 2 &&
                   GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVICE_UNKNOWN == 3,
               "the bytes above");

static bool serving(const struct transport_core *core)
{
    return core->ready && !core->draining && health_live(core);
}

/* False when the request is malformed, which is then answered. */
static bool read_service(struct exchange *x, struct pdb_text message, bool *known_out)
{
    struct trail trail = {0};
    const Grpc__Health__V1__HealthCheckRequest *m = protobuf_unpack(
        &grpc__health__v1__health_check_request__descriptor, message, &x->arena, &trail);
    if (m == NULL) {
        grpc_finish_trail(x, trail.code, &trail);
        return false;
    }
    *known_out = m->service[0] == '\0' || strcmp(m->service, "proximadb.v1.ProximaDB") == 0;
    return true;
}

void health_check(struct exchange *x, struct pdb_text message)
{
    bool known = false;
    if (!read_service(x, message, &known))
        return;
    if (!known) {
        grpc_finish_code(x, PDB_NOT_FOUND,
                         "unknown service: it must be empty or proximadb.v1.ProximaDB");
        return;
    }
    x->ops->grpc_send(x, serving(x->core) ? serving_message : not_serving_message);
    x->ops->grpc_finish(x, 0, (struct pdb_text){"", 0});
}

/* ---- watching ---- */

static void watch_gone(struct exchange *x)
{
    struct watch *w = x->handler;
    list_remove(&w->watcher.link);
    x->on_gone = NULL;
    grpc_finish_code(x, PDB_CANCELLED, "the client left");
}

static void tell(struct watch *w)
{
    struct exchange *x = w->watcher.x;
    x->ops->grpc_send(x, !w->known    ? unknown_message
                         : w->serving ? serving_message
                                      : not_serving_message);
}

static void end_when_draining(struct watch *w)
{
    struct exchange *x = w->watcher.x;
    if (!x->core->draining)
        return;
    list_remove(&w->watcher.link);
    x->on_gone = NULL;
    grpc_finish_code(x, PDB_UNAVAILABLE, "the server is stopping");
}

static void watch_news(struct grpc_watcher *watcher)
{
    struct watch *w = container_of(watcher, struct watch, watcher);
    bool now = serving(watcher->x->core), news = w->known && w->serving != now;
    w->serving = now;
    if (news)
        tell(w);
    end_when_draining(w);
}

void health_watch(struct exchange *x, struct pdb_text message)
{
    bool known = false;
    if (!read_service(x, message, &known))
        return;
    struct watch *w = arena_new(&x->arena, struct watch);
    if (w == NULL) {
        grpc_finish_code(x, PDB_RESOURCE_EXHAUSTED, "no memory for the stream");
        return;
    }
    w->watcher.x = x;
    w->watcher.news = watch_news;
    w->known = known;
    w->serving = serving(x->core);
    x->handler = w;
    x->on_gone = watch_gone;
    list_push_back(&x->core->watchers, &w->watcher.link);
    tell(w);
    end_when_draining(w);
}

void health_tell_watchers(struct transport_core *core)
{
    list_each_safe(link, following, &core->watchers)
    {
        struct grpc_watcher *w = container_of(link, struct grpc_watcher, link);
        w->news(w);
    }
}
