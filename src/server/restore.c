/* restore.c: `proximadb restore`: a data directory as it was at a moment, out of an archive. The
 * work is libproximadb's (include/proximadb/archive.h); here are its command line, progress, and
 * the list of moments.
 *
 * A moment is a time, a record of a log or a version of a collection; without one it is the last
 * that the archive has. A signal ends the work at its next step: nothing is left then. */
#include "server/restore.h"

#include "base/clock.h"
#include "base/heap.h"
#include "server/serve.h"
#include "server/transfer.h"

#include <inttypes.h>
#include <proximadb/archive.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/no_libc_heap.h"

static const char usage[] =
    "proximadb restore --from URL --data-dir NEW [--archive ID] [--to-time TIME]\n"
    "                 [--to-lsn [LOG:]N] [--to-version COLLECTION:N] [--cores N] [--quiet]\n"
    "       proximadb restore --from URL --list\n"
    "TIME: 2026-01-31T12:00:00Z, with any offset, or microseconds since 1970\n";

enum { CORES_MAX = 1024, TEXT_MAX = 512 };

struct restore_run {
    struct pdb_archive_restore request;
    const char *to_time, *to_lsn, *to_version;
    uint64_t cores;
    bool list, quiet;
    char text[TEXT_MAX]; /* what stands before the last colon of a target */
    struct transfer_progress progress;
};

/* ---- command line ---- */

static bool take_number(const char *text, uint64_t *number_out)
{
    char *end = NULL;
    size_t len = strspn(text, "0123456789");
    if (len == 0 || len > 19 || text[len] != '\0')
        return false;
    *number_out = strtoull(text, &end, 10);
    return true;
}

static int take_time(struct restore_run *run, struct trail *trail)
{
    uint64_t us;
    run->request.target = PDB_ARCHIVE_TIME;
    if (take_number(run->to_time, &us) && us <= INT64_MAX) {
        run->request.time_us = (int64_t)us;
        return 0;
    }
    if (clock_parse(run->to_time, strlen(run->to_time), &run->request.time_us) == 0)
        return 0;
    return trail_add(trail, PDB_INVALID_ARGUMENT,
                     "--to-time: '%s' is not a time such as 2026-01-31T12:00:00Z", run->to_time);
}

/* "NAME:NUMBER"; names have no colon. */
static bool split(struct restore_run *run, const char *text, const char **name_out,
                  uint64_t *number_out)
{
    const char *colon = strrchr(text, ':');
    *name_out = NULL;
    if (colon == NULL)
        return take_number(text, number_out);
    int len = snprintf(run->text, sizeof(run->text), "%.*s", (int)(colon - text), text);
    *name_out = run->text;
    return len > 0 && (size_t)len < sizeof(run->text) && take_number(colon + 1, number_out);
}

static int take_target(struct restore_run *run, struct trail *trail)
{
    struct pdb_archive_restore *request = &run->request;
    if ((run->to_time != NULL) + (run->to_lsn != NULL) + (run->to_version != NULL) > 1)
        return trail_add(trail, PDB_INVALID_ARGUMENT,
                         "one of --to-time, --to-lsn and --to-version, not more");
    if (run->to_time != NULL)
        return take_time(run, trail);
    if (run->to_lsn != NULL) {
        request->target = PDB_ARCHIVE_LSN;
        if (!split(run, run->to_lsn, &request->log, &request->lsn))
            return trail_add(trail, PDB_INVALID_ARGUMENT, "--to-lsn: '%s' is neither N nor LOG:N",
                             run->to_lsn);
    }
    if (run->to_version != NULL) {
        request->target = PDB_ARCHIVE_VERSION;
        if (!split(run, run->to_version, &request->collection, &request->version) ||
            request->collection == NULL)
            return trail_add(trail, PDB_INVALID_ARGUMENT, "--to-version: '%s' is not COLLECTION:N",
                             run->to_version);
    }
    return 0;
}

static int check(struct restore_run *run, struct trail *trail)
{
    if (run->request.url == NULL)
        return trail_add(trail, PDB_INVALID_ARGUMENT, "--from is missing");
    if (!run->list && run->request.data_dir == NULL)
        return trail_add(trail, PDB_INVALID_ARGUMENT, "--data-dir is missing");
    if (run->list && (run->request.data_dir != NULL || run->to_time != NULL ||
                      run->to_lsn != NULL || run->to_version != NULL))
        return trail_add(trail, PDB_INVALID_ARGUMENT, "--list takes --from only");
    run->request.cores = (unsigned)run->cores;
    return take_target(run, trail);
}

static int parse(struct restore_run *run, int argc, const char *const *argv, struct trail *trail)
{
    const struct transfer_option options[] = {
        {"from", TRANSFER_TEXT, &run->request.url, 0, 0},
        {"archive", TRANSFER_TEXT, &run->request.identity, 0, 0},
        {"data-dir", TRANSFER_TEXT, &run->request.data_dir, 0, 0},
        {"to-time", TRANSFER_TEXT, &run->to_time, 0, 0},
        {"to-lsn", TRANSFER_TEXT, &run->to_lsn, 0, 0},
        {"to-version", TRANSFER_TEXT, &run->to_version, 0, 0},
        {"cores", TRANSFER_NUMBER, &run->cores, 1, CORES_MAX},
        {"list", TRANSFER_FLAG, &run->list, 0, 0},
        {"quiet", TRANSFER_FLAG, &run->quiet, 0, 0},
    };
    int rc = transfer_parse(options, sizeof(options) / sizeof(options[0]), argc, argv, NULL, NULL,
                            trail);
    return rc == 0 ? check(run, trail) : rc;
}

/* ---- the list ---- */

static void print_times(const char *what, int64_t from_us, int64_t to_us)
{
    char from[CLOCK_TEXT_SIZE], to[CLOCK_TEXT_SIZE];
    clock_format_us(from_us, from);
    clock_format_us(to_us, to);
    (void)printf("  %s %s to %s\n", what, from, to);
}

static void print_info(void *arg, const struct pdb_archive_info *info)
{
    unsigned *count = arg;
    (*count)++;
    (void)printf("archive %s\n", info->identity);
    if (info->problem != NULL)
        (void)printf("  damaged: %s\n", info->problem);
    for (uint32_t i = 0; i < info->range_count; i++)
        print_times("covers", info->ranges[i].from_us, info->ranges[i].to_us);
    for (uint32_t i = 0; i < info->base_count; i++) {
        const struct pdb_archive_base *base = &info->bases[i];
        char ended[CLOCK_TEXT_SIZE];
        clock_format_us(base->ended_us, ended);
        if (base->problem != NULL)
            (void)printf("  base %s damaged: %s\n", base->name, base->problem);
        else
            (void)printf("  base %s ended %s, %u collections, %.1f MB\n", base->name, ended,
                         base->collections, (double)base->bytes / 1e6);
    }
    for (uint32_t i = 0; i < info->log_count; i++) {
        const struct pdb_archive_log *log = &info->logs[i];
        (void)printf("  log %s segments %" PRIu64 " to %" PRIu64 "%s\n", log->uuid,
                     log->first_segment, log->next_segment - 1, log->ended ? ", ended" : "");
    }
}

static int run_list(const struct restore_run *run, struct pdb_error *error)
{
    unsigned count = 0;
    const struct pdb_archive_list list = {
        .url = run->request.url, .visit = print_info, .arg = &count};
    int rc = pdb_archive_list(&list, error);
    if (rc == 0 && count == 0)
        (void)printf("no archives\n");
    return rc;
}

/* ---- the restore ---- */

/* A signal stays pending: it is looked at by whoever is at work. */
static bool is_interrupted(void *arg)
{
    sigset_t pending;
    (void)arg;
    return sigpending(&pending) == 0 &&
           (sigismember(&pending, SIGINT) == 1 || sigismember(&pending, SIGTERM) == 1);
}

static void tell(const struct pdb_progress *progress, void *arg)
{
    struct restore_run *run = arg;
    if (progress->phase != NULL)
        transfer_progress_phase(&run->progress, progress->phase, progress->done, progress->total);
}

static int run_restore(struct restore_run *run, struct pdb_error *error)
{
    struct pdb_archive_restored restored;
    char at[CLOCK_TEXT_SIZE];
    transfer_progress_begin(&run->progress, run->quiet);
    run->request.progress = tell;
    run->request.stop = is_interrupted;
    run->request.arg = run;
    int rc = pdb_archive_restore(&run->request, &restored, error);
    transfer_progress_clear(&run->progress);
    if (rc < 0)
        return rc;
    clock_format_us(restored.time_us, at);
    (void)fprintf(stderr,
                  "restored %u collections of archive %s as of %s in %s (base %s, %.1f MB)\n",
                  restored.collections, restored.identity, at, run->request.data_dir, restored.base,
                  (double)restored.bytes / 1e6);
    return 0;
}

int restore_command(int argc, const char *const *argv)
{
    struct restore_run run = {.request = {.target = PDB_ARCHIVE_LATEST}};
    struct trail trail = {0};
    struct pdb_error error = {0};
    sigset_t signals;
    if (argc == 1 && strcmp(argv[0], "--help") == 0) {
        (void)printf("usage: %s", usage);
        return 0;
    }
    if (parse(&run, argc, argv, &trail) < 0) {
        (void)fprintf(stderr, "proximadb restore: %s\nusage: %s", trail.text, usage);
        return EXIT_USAGE;
    }
    (void)sigemptyset(&signals);
    (void)sigaddset(&signals, SIGINT);
    (void)sigaddset(&signals, SIGTERM);
    (void)pthread_sigmask(SIG_BLOCK, &signals, NULL);
    (void)signal(SIGPIPE, SIG_IGN);
    int rc = run.list ? run_list(&run, &error) : run_restore(&run, &error);
    if (rc == 0)
        return 0;
    (void)fprintf(stderr, "proximadb restore: %s\n", error.text);
    return rc == PDB_CANCELLED ? 130 : EXIT_START;
}
