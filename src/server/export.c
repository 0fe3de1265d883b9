/* export.c: `proximadb export`: a collection of a running server into a file, or of a stopped one
 * as a copy of its files.
 *
 * Records are scrolled in order of id, a page a request; each page is one version of the
 * collection, so what is written meanwhile may be in the file or not. The file appears under its
 * name once it is complete. */
#include "server/export.h"

#include "base/heap.h"
#include "server/export_writer.h"
#include "server/serve.h"
#include "transport/codec/json_responses.h"

#include <errno.h>
#include <proximadb/copy.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/no_libc_heap.h"

static const char usage[] =
    "proximadb export --collection NAME [--url HOST:PORT] [--format jsonl|npy|fvecs|parquet]\n"
    "                 [--filter JSON] [--field F] [--batch N] [--quiet] [--tls] [--ca FILE]\n"
    "                 [--insecure] -o FILE\n"
    "       proximadb export --collection NAME --data-dir DIR [--wal-dir DIR] -o FOLDER\n";

enum { PATH_BYTES = 4096 };

struct export
{
    struct transfer_server server;
    const char *collection, *format, *filter, *field, *output, *data_dir, *wal_dir;
    uint64_t batch;
    bool quiet;

    struct endpoint endpoint;
    struct wire wire;
    struct arena arena, page;
    struct transfer_collection described;
    struct export_writer *writer;
    FILE *file, *ids;
    char temporary[PATH_BYTES], ids_temporary[PATH_BYTES], ids_path[PATH_BYTES];
    struct transfer_progress progress;
    uint64_t rows, left_out, copied;
    bool interrupted;
};

/* ---- command line ---- */

static const char *format_of_name(const char *path)
{
    static const char *const formats[] = {"jsonl", "npy", "fvecs", "parquet"};
    const char *dot = strrchr(path, '.');
    for (size_t i = 0; dot != NULL && i < sizeof(formats) / sizeof(formats[0]); i++)
        if (strcmp(dot + 1, formats[i]) == 0)
            return formats[i];
    return NULL;
}

static int choose_format(struct export *ex, struct trail *trail)
{
    if (ex->format == NULL)
        ex->format = format_of_name(ex->output);
    else if (strchr(ex->format, '/') != NULL)
        ex->format = NULL;
    char name[32] = "";
    if (ex->format != NULL)
        (void)snprintf(name, sizeof(name), ".%s", ex->format);
    return format_of_name(name) != NULL
               ? 0
               : trail_add(trail, PDB_INVALID_ARGUMENT,
                           "--format: expected jsonl, npy, fvecs or parquet");
}

/* A copy of files has no choices. */
static int check_offline(const struct export *ex, struct trail *trail)
{
    bool parquet = ex->format == NULL || strcmp(ex->format, "parquet") == 0;
    if (!parquet || ex->filter != NULL || ex->field != NULL || ex->server.url != NULL)
        return trail_add(trail, PDB_INVALID_ARGUMENT,
                         "--data-dir copies whole Parquet files: no --url, --filter, --field, nor "
                         "another --format");
    return 0;
}

static int parse(struct export *ex, int argc, const char *const *argv, struct trail *trail)
{
    const struct transfer_option options[] = {
        TRANSFER_SERVER_OPTIONS(&ex->server),
        {"collection", TRANSFER_TEXT, &ex->collection, 0, 0},
        {"format", TRANSFER_TEXT, &ex->format, 0, 0},
        {"filter", TRANSFER_TEXT, &ex->filter, 0, 0},
        {"field", TRANSFER_TEXT, &ex->field, 0, 0},
        {"output", TRANSFER_TEXT, &ex->output, 0, 0},
        {"batch", TRANSFER_NUMBER, &ex->batch, 1, PDB_BATCH_RECORDS_MAX},
        {"quiet", TRANSFER_FLAG, &ex->quiet, 0, 0},
        {"data-dir", TRANSFER_TEXT, &ex->data_dir, 0, 0},
        {"wal-dir", TRANSFER_TEXT, &ex->wal_dir, 0, 0},
    };
    const char **names = heap_calloc(NULL, (size_t)argc + 1, sizeof(*names));
    size_t name_count = 0;
    if (names == NULL)
        return trail_add(trail, PDB_RESOURCE_EXHAUSTED, "no memory");
    int rc = transfer_parse(options, sizeof(options) / sizeof(options[0]), argc, argv, names,
                            &name_count, trail);
    if (rc == 0 && name_count != 0)
        rc = trail_add(trail, PDB_INVALID_ARGUMENT, "'%s': the file is named by -o", names[0]);
    heap_free(NULL, names);
    if (rc < 0)
        return rc;
    if (ex->collection == NULL || ex->output == NULL)
        return trail_add(trail, PDB_INVALID_ARGUMENT, "%s is missing",
                         ex->collection == NULL ? "--collection" : "-o");
    return ex->data_dir != NULL ? check_offline(ex, trail) : choose_format(ex, trail);
}

/* ---- files ---- */

static int open_temporary(const char *path, char temporary_out[PATH_BYTES], FILE **file_out,
                          struct trail *trail)
{
    int len = snprintf(temporary_out, PATH_BYTES, "%s.tmp", path);
    if (len < 0 || len >= PATH_BYTES) {
        temporary_out[0] = '\0';
        return trail_add(trail, PDB_INVALID_ARGUMENT, "-o: too long");
    }
    *file_out = fopen(temporary_out, "wb");
    if (*file_out != NULL)
        return 0;
    int rc = trail_add(trail, PDB_UNAVAILABLE, "%s: %s", temporary_out, strerror(errno));
    temporary_out[0] = '\0';
    return rc;
}

static int open_files(struct export *ex, struct trail *trail)
{
    bool vectors = strcmp(ex->format, "npy") == 0 || strcmp(ex->format, "fvecs") == 0;
    int rc = open_temporary(ex->output, ex->temporary, &ex->file, trail);
    if (rc == 0 && vectors) {
        (void)snprintf(ex->ids_path, sizeof(ex->ids_path), "%.4000s.ids", ex->output);
        rc = open_temporary(ex->ids_path, ex->ids_temporary, &ex->ids, trail);
    }
    if (rc < 0)
        return rc;
    const struct export_settings settings = {&ex->described, ex->field, ex->format, ex->file,
                                             ex->ids};
    if (vectors)
        return export_vectors_open(&settings, &ex->writer, trail);
    if (strcmp(ex->format, "parquet") == 0)
        return export_parquet_open(&settings, &ex->writer, trail);
    return export_jsonl_open(&settings, &ex->writer, trail);
}

static int close_file(FILE **file, const char *temporary, const char *path, struct trail *trail)
{
    FILE *closing = *file;
    *file = NULL;
    if (closing == NULL)
        return 0;
    bool ok = fflush(closing) == 0 && fsync(fileno(closing)) == 0;
    ok = fclose(closing) == 0 && ok;
    if (!ok || rename(temporary, path) != 0)
        return trail_add(trail, PDB_UNAVAILABLE, "%s: %s", path, strerror(errno));
    return 0;
}

/* The ids first: vectors without them would be taken for complete. */
static int finish_files(struct export *ex, struct trail *trail)
{
    int rc = ex->writer->ops->finish(ex->writer, trail);
    if (rc == 0)
        rc = close_file(&ex->ids, ex->ids_temporary, ex->ids_path, trail);
    if (rc == 0)
        rc = close_file(&ex->file, ex->temporary, ex->output, trail);
    return rc;
}

/* ---- scrolling ---- */

static bool is_interrupted(struct export *ex)
{
    const struct timespec now = {0};
    sigset_t signals;
    (void)sigemptyset(&signals);
    (void)sigaddset(&signals, SIGINT);
    (void)sigaddset(&signals, SIGTERM);
    if (!ex->interrupted && sigtimedwait(&signals, NULL, &now) > 0)
        ex->interrupted = true;
    return ex->interrupted;
}

static int add_records(struct export *ex, struct json_reader *r, struct trail *trail)
{
    bool first = true;
    int rc = json_enter_array(r);
    while (rc == 0 && (rc = json_array_next(r, &first)) > 0) {
        struct export_record record;
        rc = export_record_read(r, &ex->described, &ex->page, &record, trail);
        if (rc == 0)
            rc = ex->writer->ops->add(ex->writer, &record, trail);
        if (rc < 0)
            return rc;
        ex->rows += (uint64_t)rc;
        ex->left_out += rc == 0;
        rc = 0;
    }
    return rc;
}

/* cursor_out: empty at the end; of the export's arena, taken anew with each page. */
static int add_page(struct export *ex, struct pdb_text body, struct buffer *cursor_out,
                    struct trail *trail)
{
    struct json_reader r;
    bool first = true;
    struct pdb_text key, cursor;
    json_open(&r, body.ptr, body.len, DOC_DEPTH_MAX + 8, NULL);
    int rc = json_enter_object(&r);
    cursor_out->len = 0;
    while (rc == 0 && (rc = json_object_next(&r, &ex->page, &first, &key)) > 0) {
        if (text_equal(key, TEXT_LIT("records"))) {
            rc = add_records(ex, &r, trail);
        } else if (text_equal(key, TEXT_LIT("next_cursor")) && json_peek(&r) == JSON_STRING) {
            rc = json_read_string(&r, &ex->page, &cursor);
            if (rc == 0)
                json_write_string(cursor_out, cursor);
        } else {
            rc = json_skip(&r);
        }
    }
    if (rc < 0 && (trail->code == 0 || cursor_out->failed))
        return trail_add(trail, PDB_INTERNAL, "a page of the server's cannot be read");
    return rc;
}

static int scroll(struct export *ex, struct trail *trail)
{
    struct pdb_text path = transfer_path(&ex->arena, ex->collection, "/vectors/scroll");
    const struct route route = {"POST", path.ptr, "application/json"};
    struct buffer cursor, request;
    buffer_init_arena(&cursor, &ex->arena, 0);
    buffer_init_arena(&request, &ex->arena, 0);
    int rc = path.ptr != NULL ? 0 : PDB_RESOURCE_EXHAUSTED;
    do {
        struct wire_reply reply;
        arena_reset(&ex->page);
        request.len = 0;
        buffer_format(&request, "{\"limit\":%llu,\"include\":[\"metadata\",\"vectors\",\"times\"]",
                      (unsigned long long)ex->batch);
        if (ex->filter != NULL) {
            buffer_add_lit(&request, ",\"filter\":");
            buffer_add_text(&request, text_of(ex->filter));
        }
        if (cursor.len != 0) {
            buffer_add_lit(&request, ",\"cursor\":");
            buffer_add(&request, cursor.ptr, cursor.len);
        }
        buffer_add_byte(&request, '}');
        if (rc < 0 || request.failed)
            return trail_add(trail, PDB_RESOURCE_EXHAUSTED, "no memory");
        const struct pdb_text body = {request.ptr, request.len};
        wire_call_patiently(&ex->wire, &route, &body, 1, TRANSFER_TRIES, &reply);
        if (reply.code != CODE_OK)
            return trail_add(trail, -reply.code, "%s", reply.message);
        rc = add_page(ex, reply.body, &cursor, trail);
        transfer_progress_tell(&ex->progress, ex->rows, ex->writer->bytes, ex->rows + ex->left_out,
                               ex->filter == NULL ? ex->described.record_count : 0);
    } while (rc == 0 && cursor.len != 0 && !is_interrupted(ex));
    return rc;
}

/* ---- the command ---- */

static int run(struct export *ex, struct trail *trail)
{
    char more[96] = "";
    int rc = transfer_connect(&ex->server, &ex->endpoint, trail);
    if (rc < 0)
        return rc;
    rc = wire_open(&ex->wire, &ex->endpoint, TRANSFER_TIMEOUT_S, TRANSFER_REPLY_MAX);
    if (rc < 0)
        return trail_add(trail, rc, "no memory");
    rc = transfer_describe(&ex->wire, ex->collection, &ex->arena, &ex->described, trail);
    if (rc == 0)
        rc = open_files(ex, trail);
    if (rc < 0)
        return rc;
    transfer_progress_begin(&ex->progress, ex->quiet);
    rc = scroll(ex, trail);
    if (rc == 0 && !ex->interrupted)
        rc = finish_files(ex, trail);
    if (rc < 0)
        return rc;
    if (ex->left_out != 0)
        (void)snprintf(more, sizeof(more), "; %llu records without this vector left out",
                       (unsigned long long)ex->left_out);
    transfer_progress_end(&ex->progress, ex->interrupted ? "interrupted after" : "exported",
                          ex->rows, ex->writer->bytes, more);
    return 0;
}

static void tell_copied(void *arg, uint64_t rows, uint64_t bytes)
{
    struct export *ex = arg;
    ex->rows = rows;
    ex->copied = bytes;
    transfer_progress_tell(&ex->progress, rows, bytes, 0, 0);
}

static int run_offline(struct export *ex, struct trail *trail)
{
    struct pdb_error error;
    const struct pdb_copy_options options = {.data_dir = ex->data_dir,
                                             .wal_dirs = &ex->wal_dir,
                                             .wal_dir_count = ex->wal_dir != NULL ? 1 : 0,
                                             .collection = ex->collection,
                                             .folder = ex->output,
                                             .describe = json_encode_collection_config,
                                             .progress = tell_copied,
                                             .arg = ex};
    transfer_progress_begin(&ex->progress, ex->quiet);
    int rc = pdb_copy(&options, &error);
    if (rc < 0)
        return trail_add(trail, rc, "%s", error.text);
    transfer_progress_end(&ex->progress, "copied", ex->rows, ex->copied, "");
    return 0;
}

static void dispose(struct export *ex)
{
    if (ex->writer != NULL)
        ex->writer->ops->close(ex->writer);
    if (ex->file != NULL)
        (void)fclose(ex->file);
    if (ex->ids != NULL)
        (void)fclose(ex->ids);
    if (ex->temporary[0] != '\0')
        (void)unlink(ex->temporary); /* gone already when all went well */
    if (ex->ids_temporary[0] != '\0')
        (void)unlink(ex->ids_temporary);
    wire_close(&ex->wire);
    endpoint_close(&ex->endpoint);
    arena_dispose(&ex->page);
    arena_dispose(&ex->arena);
}

int export_command(int argc, const char *const *argv)
{
    struct export ex = {.batch = 500};
    struct trail trail = {0};
    sigset_t signals;
    if (argc == 1 && strcmp(argv[0], "--help") == 0) {
        (void)printf("usage: %s", usage);
        return 0;
    }
    (void)sigemptyset(&signals); /* taken between two pages */
    (void)sigaddset(&signals, SIGINT);
    (void)sigaddset(&signals, SIGTERM);
    (void)pthread_sigmask(SIG_BLOCK, &signals, NULL);
    (void)signal(SIGPIPE, SIG_IGN);
    int status = EXIT_USAGE;
    if (parse(&ex, argc, argv, &trail) < 0) {
        (void)fprintf(stderr, "proximadb export: %s\nusage: %s", trail.text, usage);
    } else {
        int rc = ex.data_dir != NULL ? run_offline(&ex, &trail) : run(&ex, &trail);
        status = rc < 0 ? EXIT_START : ex.interrupted ? 130 : 0;
        if (rc < 0)
            (void)fprintf(stderr, "proximadb export: %s\n", trail.text);
    }
    dispose(&ex);
    return status;
}
