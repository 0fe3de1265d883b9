/* serve.c: wiring only: configuration, engine, doors, signals.
 *
 * Order of the start: configuration, log, ports bound (so that a port in use stops the start before
 * recovery), engine with recovery (one thread answers probes meanwhile), doors opened on every
 * reactor once all are recovered. The stop is the mirror image: doors drain within
 * server.shutdown_timeout_s, then, in what is left of it, the archive gets what it lacks, and the
 * engine syncs its logs and marks the stop as clean.
 *
 * Signals are blocked in all threads and taken here by sigwait: no handler runs anywhere. A second
 * SIGTERM or SIGINT during the drain ends it at once. Recovery asks between its steps whether one
 * waits: then it is given up, as if it had never begun, and that too is a stop in order. */
#include "server/serve.h"

#include "base/json.h"
#include "base/log.h"
#include "reactor/guest_h2o.h"
#include "server/config.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/no_libc_heap.h"

static int core_start(struct pdb *db, struct reactor *r, void *arg, struct pdb_error *error)
{
    return transport_core_start(arg, db, r, error);
}

static void core_stop(struct pdb *db, struct reactor *r, void *arg)
{
    transport_core_stop(arg, db, r);
}

static void progress(const struct pdb_progress *progress, void *arg)
{
    transport_starting_progress(arg, progress);
}

static void stop_signals(sigset_t *signals_out)
{
    (void)sigemptyset(signals_out);
    (void)sigaddset(signals_out, SIGTERM);
    (void)sigaddset(signals_out, SIGINT);
}

/* Any thread; the signal stays for whoever waits for it. */
static bool stop_waits(void *arg)
{
    sigset_t pending;
    (void)arg;
    return sigpending(&pending) == 0 &&
           (sigismember(&pending, SIGTERM) == 1 || sigismember(&pending, SIGINT) == 1);
}

static struct pdb_options engine_options(const struct config *c, struct transport *t)
{
    return (struct pdb_options){
        .data_dir = c->storage.data_dir,
        .cores = c->server.cores,
        .no_pin = !c->reactor.pin,
        .spin_us = c->reactor.spin_us,
        .memory_limit = c->storage.memory_limit,
        .io_engine = c->io.engine,
        .wal_dirs = c->wal.dirs.count != 0 ? c->wal.dirs.items : NULL,
        .wal_dir_count = c->wal.dirs.count,
        .wal_encoding = c->wal.encoding,
        .wal_io_mode = c->wal.io_mode,
        .wal_on_error = c->wal.on_error,
        .wal_segment_bytes = c->wal.segment_bytes,
        .wal_batch_window_us = c->wal.batch_window_us,
        .wal_period_ms = c->wal.period_ms,
        .wal_max_bytes = c->wal.max_bytes,
        .flush_rows = c->storage.flush_rows,
        .flush_bytes = c->storage.flush_bytes,
        .flush_age_s = c->storage.flush_age_s,
        .segments_max = c->storage.segments_max,
        .compaction_rate_bytes_per_s = c->storage.compaction_rate_bytes_per_s,
        .snapshot_interval_s = c->snapshots.interval_s,
        .snapshot_keep = c->snapshots.keep,
        .archive_url = c->archive.url,
        .archive_interval_s = c->archive.interval_s,
        .archive_base_interval_s = c->archive.base_interval_s,
        .archive_keep = c->archive.keep,
        .disk_min_free_bytes = c->disk.min_free_bytes != 0 ? c->disk.min_free_bytes : UINT64_MAX,
        .allow_unsafe_fs = c->wal.allow_unsafe_fs,
        .collections_max = c->limits.collections,
        .ttl_sweep_ms = c->ttl.sweep_ms,
        .ttl_grace_s_plus_one = c->ttl.grace_s + 1,
        .filter_depth_max = c->limits.filter_depth,
        .filter_leaves_max = c->limits.filter_leaves,
        .simd = getenv("PROXIMADB_SIMD"),
        .host = guest_h2o_host(),
        .core_start = core_start,
        .core_stop = core_stop,
        .progress = progress,
        .stop = stop_waits,
        .arg = t,
    };
}

static struct transport_options door_options(const struct config *c)
{
    return (struct transport_options){
        .listeners = c->listeners,
        .listener_count = c->listener_count,
        .tls_cert = c->tls.cert,
        .tls_key = c->tls.key,
        .insecure = c->server.insecure,
        .limits = &c->limits,
        .cors_origins = c->server.cors_origins.items,
        .cors_origin_count = c->server.cors_origins.count,
        .shutdown_timeout_s = c->server.shutdown_timeout_s,
    };
}

/* For people at a terminal and for scripts: one line per listener, then three lines to try. */
static void greet(const struct config *c, const struct transport *t, const struct pdb *db)
{
    const struct pdb_facts *facts = pdb_facts(db);
    const char *scheme = c->tls.cert != NULL ? "https" : "http";
    printf("ProximaDB %s, %u core%s, %s, data in %s\n", facts->version, facts->cores,
           facts->cores == 1 ? "" : "s", facts->simd, facts->data_dir);
    for (size_t i = 0; i < c->listener_count; i++) {
        bool v6 = strchr(c->listeners[i].address, ':') != NULL;
        printf("listening on %s://%s%s%s:%u (REST and gRPC)\n", scheme, v6 ? "[" : "",
               c->listeners[i].address, v6 ? "]" : "", transport_port(t, i));
    }
    unsigned port = c->listener_count != 0 ? transport_port(t, 0) : 0;
    const char *verify = c->tls.cert != NULL ? "-k " : "";
    printf("\ntry:\n"
           "  curl %s%s://localhost:%u/v1/collections -H 'content-type: application/json' -d "
           "'{\"name\":\"demo\",\"dimension\":3,\"metric\":\"cosine\"}'\n"
           "  curl %s-X PUT %s://localhost:%u/v1/collections/demo/vectors -H 'content-type: "
           "application/json' -d "
           "'{\"vectors\":[{\"id\":\"a\",\"vector\":[1,0,0]},{\"id\":\"b\",\"vector\":[0,1,0]}]}'\n"
           "  curl %s%s://localhost:%u/v1/collections/demo/search -H 'content-type: "
           "application/json' -d '{\"vector\":[0.9,0.1,0],\"k\":2}'\n\n",
           verify, scheme, port, verify, scheme, port, verify, scheme, port);
    (void)fflush(stdout);
}

/* Returns how long it took. */
static unsigned stop_doors(struct transport *t, unsigned timeout_s, const sigset_t *signals,
                           bool *forced)
{
    transport_drain(t);
    struct timespec now = {0};
    unsigned waited_ms = 0;
    while (!transport_wait_drained(t, 50)) {
        waited_ms += 50;
        if (waited_ms >= timeout_s * 1000 || sigtimedwait(signals, NULL, &now) > 0) {
            *forced = true;
            LOG_WARN("server", "requests were still under way when the stop was forced");
            break;
        }
    }
    return waited_ms;
}

static int run(const struct config *c, const sigset_t *signals)
{
    struct transport *t = NULL;
    struct pdb *db = NULL;
    struct pdb_error error = {0};
    struct transport_options doors = door_options(c);
    struct pdb_options engine = engine_options(c, NULL);
    unsigned cores = 0;
    if (pdb_core_count(&engine, &cores) != 0 || transport_new(&doors, cores, &t, &error) != 0) {
        LOG_ERROR("server", "%s", error.text);
        return EXIT_START;
    }
    engine.arg = t;
    engine.cores = cores;
    if (transport_starting(t) != 0)
        LOG_WARN("server", "no memory to answer probes before the data is recovered");
    int rc = pdb_open(&engine, &db, &error);
    if (rc != 0) {
        if (rc == PDB_CANCELLED)
            LOG_INFO("server", "stopped by a signal before recovery was over");
        else
            LOG_ERROR("server", "%s", error.text);
        transport_free(t);
        return rc == PDB_CANCELLED ? 0 : EXIT_START;
    }
    greet(c, t, db);
    LOG_INFO("server", "ready");
    int signal_number = 0;
    while (sigwait(signals, &signal_number) != 0)
        continue;
    LOG_INFO("server", "stopping on signal %d", signal_number);
    bool forced = false;
    unsigned limit_ms = c->server.shutdown_timeout_s * 1000;
    unsigned took_ms = stop_doors(t, c->server.shutdown_timeout_s, signals, &forced);
    pdb_close_within(db, !forced && took_ms < limit_ms ? limit_ms - took_ms : 0);
    transport_free(t);
    LOG_INFO("server", "stopped");
    return forced ? EXIT_FORCED : 0;
}

static int print_config(const struct config *c, struct arena *arena)
{
    struct buffer out;
    buffer_init_arena(&out, arena, 0);
    config_print(c, &out);
    if (out.failed || fwrite(out.ptr, 1, out.len, stdout) != out.len || fflush(stdout) != 0)
        return EXIT_START;
    return 0;
}

static int serve_configured(const struct config *c)
{
    sigset_t signals;
    stop_signals(&signals);
    (void)pthread_sigmask(SIG_BLOCK, &signals, NULL);
    (void)signal(SIGPIPE, SIG_IGN);
    const struct log_options log = {
        .level = c->log.level, .json = c->log.format == CONFIG_LOG_JSON, .path = c->log.file};
    if (log_start(&log) != 0) {
        fprintf(stderr, "proximadb: cannot write the log to %s\n",
                c->log.file != NULL ? c->log.file : "stderr");
        return EXIT_START;
    }
    if (c->server.insecure && c->exposed)
        LOG_WARN("server", "server.insecure = true: other machines can read and change everything "
                           "without signing in");
    int code = run(c, &signals);
    log_stop();
    return code;
}

int serve(size_t argument_count, const char *const *arguments)
{
    struct arena arena;
    struct trail trail = {0};
    struct config config;
    const struct config_start start = {arguments, argument_count, (const char *const *)environ};
    arena_init(&arena, 0);
    int code;
    if (config_load(&start, &arena, &trail, &config) != 0) {
        fprintf(stderr, "proximadb: %s\n", trail.text);
        code = EXIT_USAGE;
    } else if (config.print) {
        code = print_config(&config, &arena);
    } else {
        code = serve_configured(&config);
    }
    arena_dispose(&arena);
    return code;
}
