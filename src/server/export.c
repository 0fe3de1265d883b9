/* export.c: `proximadb export`: a collection of a running server, or of a stopped one, as it is or
 * in another format.
 *
 * Both begin with a folder of the collection's own Parquet files at one version: of a running
 * server by a snapshot (export_snapshot.c), of a stopped one by a copy (<proximadb/copy.h>). That
 * is the export, or it lies beside the output while that is written from it (export_convert.c), and
 * goes. Rejected: paging through the records by REST, where each page is another version, and
 * floats are written and read as text. */
#include "server/export.h"

#include "base/heap.h"
#include "server/export_convert.h"
#include "server/export_snapshot.h"
#include "server/export_writer.h"
#include "server/serve.h"
#include "transport/codec/json_responses.h"

#include <dirent.h>
#include <errno.h>
#include <proximadb/copy.h>
#include <string.h>
#include <unistd.h>

#include "base/no_libc_heap.h"

static const char usage[] =
    "proximadb export --collection NAME [--url HOST:PORT] [--tls] [--ca FILE] [--insecure]\n"
    "                 [--format folder|jsonl|npy|fvecs|parquet] [--filter JSON] [--field F]\n"
    "                 [--quiet] -o FOLDER|FILE\n"
    "       proximadb export --collection NAME --data-dir DIR [--wal-dir DIR] ... -o FOLDER|FILE\n";

enum { PATH_BYTES = 4096, OUTPUT_BYTES_MAX = 4000 };

struct export
{
    struct transfer_server server;
    const char *collection, *format, *filter, *field, *output, *data_dir, *wal_dir;
    bool quiet;

    struct endpoint endpoint;
    struct wire wire;
    struct arena arena;
    struct export_filter conditions;
    struct export_writer *writer;
    FILE *file, *ids;
    char parts[PATH_BYTES]; /* the folder that a file is written from */
    bool has_parts;
    char temporary[PATH_BYTES], ids_temporary[PATH_BYTES], ids_path[PATH_BYTES];
    struct transfer_progress progress;
    uint64_t rows, bytes;
    bool interrupted;
};

/* ---- command line ---- */

static const char *format_of_name(const char *path)
{
    static const char *const formats[] = {"jsonl", "npy", "fvecs", "parquet", "folder"};
    const char *dot = strrchr(path, '.');
    for (size_t i = 0; dot != NULL && i < sizeof(formats) / sizeof(formats[0]); i++)
        if (strcmp(dot + 1, formats[i]) == 0)
            return formats[i];
    return NULL;
}

static int choose_format(struct export *ex, struct trail *trail)
{
    char name[32] = "";
    if (ex->format != NULL && strchr(ex->format, '/') == NULL)
        (void)snprintf(name, sizeof(name), ".%s", ex->format);
    const char *format = format_of_name(ex->format != NULL ? name : ex->output);
    if (format == NULL && ex->format != NULL)
        return trail_add(trail, PDB_INVALID_ARGUMENT,
                         "--format: expected folder, jsonl, npy, fvecs or parquet");
    ex->format = format != NULL ? format : "folder";
    return 0;
}

static bool is_folder(const struct export *ex)
{
    return strcmp(ex->format, "folder") == 0;
}

static bool is_vectors(const struct export *ex)
{
    return strcmp(ex->format, "npy") == 0 || strcmp(ex->format, "fvecs") == 0;
}

static int check(struct export *ex, struct trail *trail)
{
    if (ex->collection == NULL || ex->output == NULL)
        return trail_add(trail, PDB_INVALID_ARGUMENT, "%s is missing",
                         ex->collection == NULL ? "--collection" : "-o");
    if (strlen(ex->output) > OUTPUT_BYTES_MAX)
        return trail_add(trail, PDB_INVALID_ARGUMENT, "-o: too long");
    int rc = choose_format(ex, trail);
    if (rc == 0 && is_folder(ex) && ex->filter != NULL)
        rc = trail_add(trail, PDB_INVALID_ARGUMENT,
                       "a folder has the collection's files as they are: no --filter; for chosen "
                       "records say --format parquet");
    if (rc == 0 && ex->field != NULL && !is_vectors(ex))
        rc = trail_add(trail, PDB_INVALID_ARGUMENT, "--field is for npy and fvecs");
    if (rc == 0 && ex->data_dir != NULL && ex->server.url != NULL)
        rc = trail_add(trail, PDB_INVALID_ARGUMENT, "either --url or --data-dir");
    return rc;
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
        {"quiet", TRANSFER_FLAG, &ex->quiet, 0, 0},
        {"data-dir", TRANSFER_TEXT, &ex->data_dir, 0, 0},
        {"wal-dir", TRANSFER_TEXT, &ex->wal_dir, 0, 0},
    };
    int rc = transfer_parse(options, sizeof(options) / sizeof(options[0]), argc, argv, NULL, NULL,
                            trail);
    if (ex->filter != NULL)
        ex->conditions.json = text_of(ex->filter);
    return rc < 0 ? rc : check(ex, trail);
}

/* ---- the folder ---- */

static int from_server(struct export *ex, const char *folder, struct trail *trail)
{
    struct transfer_collection described;
    struct export_snapshot s = {.wire = &ex->wire,
                                .collection = ex->collection,
                                .folder = folder,
                                .progress = &ex->progress,
                                .interrupted = &ex->interrupted};
    int rc = transfer_connect(&ex->server, &ex->endpoint, trail);
    if (rc < 0)
        return rc;
    rc = wire_open(&ex->wire, &ex->endpoint, TRANSFER_TIMEOUT_S, TRANSFER_REPLY_MAX);
    if (rc < 0)
        return trail_add(trail, rc, "no memory");
    rc = transfer_describe(&ex->wire, ex->collection, &ex->arena, &described, trail);
    if (rc == 0) /* what is wrong is told before anything is moved */
        rc = export_filter_compile(&ex->conditions, &ex->arena, &described, trail);
    if (rc == 0)
        rc = export_snapshot(&s, &ex->arena, trail);
    ex->rows = s.rows;
    ex->bytes = s.bytes;
    return rc;
}

static void tell_copied(void *arg, uint64_t rows, uint64_t bytes)
{
    struct export *ex = arg;
    ex->rows = rows;
    ex->bytes = bytes;
    transfer_progress_tell(&ex->progress, rows, bytes, 0, 0);
}

static int from_files(struct export *ex, const char *folder, struct trail *trail)
{
    struct pdb_error error;
    const struct pdb_copy_options options = {.data_dir = ex->data_dir,
                                             .wal_dirs = &ex->wal_dir,
                                             .wal_dir_count = ex->wal_dir != NULL ? 1 : 0,
                                             .collection = ex->collection,
                                             .folder = folder,
                                             .describe = json_encode_collection_config,
                                             .progress = tell_copied,
                                             .arg = ex};
    int rc = pdb_copy(&options, &error);
    return rc < 0 ? trail_add(trail, rc, "%s", error.text) : 0;
}

/* Only plain files: what we have put there. */
static void remove_folder(const char *folder)
{
    char path[PATH_BYTES + 256];
    DIR *dir = opendir(folder);
    const struct dirent *entry;
    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        (void)snprintf(path, sizeof(path), "%s/%s", folder, entry->d_name);
        if (entry->d_name[0] != '.')
            (void)unlink(path);
    }
    if (dir != NULL)
        (void)closedir(dir);
    (void)rmdir(folder);
}

/* ---- the file ---- */

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

static int open_files(void *arg, const struct transfer_collection *collection,
                      struct export_writer **writer_out, struct trail *trail)
{
    struct export *ex = arg;
    int rc = open_temporary(ex->output, ex->temporary, &ex->file, trail);
    if (rc == 0 && is_vectors(ex)) {
        (void)snprintf(ex->ids_path, sizeof(ex->ids_path), "%.4000s.ids", ex->output);
        rc = open_temporary(ex->ids_path, ex->ids_temporary, &ex->ids, trail);
    }
    if (rc < 0)
        return rc;
    const struct export_settings settings = {collection, ex->field, ex->format, ex->file, ex->ids};
    if (is_vectors(ex))
        rc = export_vectors_open(&settings, &ex->writer, trail);
    else if (strcmp(ex->format, "parquet") == 0)
        rc = export_parquet_open(&settings, &ex->writer, trail);
    else
        rc = export_jsonl_open(&settings, &ex->writer, trail);
    *writer_out = ex->writer;
    return rc;
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

static int write_file(struct export *ex, struct export_convert *c, struct trail *trail)
{
    *c = (struct export_convert){.filter = &ex->conditions,
                                 .progress = &ex->progress,
                                 .interrupted = &ex->interrupted,
                                 .open = open_files,
                                 .arg = ex};
    int rc = export_convert(c, ex->parts, &ex->arena, trail);
    if (rc == 0 && !ex->interrupted)
        rc = finish_files(ex, trail);
    ex->rows = c->rows;
    ex->bytes = ex->writer != NULL ? ex->writer->bytes : 0;
    return rc;
}

/* ---- the command ---- */

static int run(struct export *ex, struct trail *trail)
{
    struct export_convert c = {0};
    const char *folder = ex->output;
    char more[96] = "";
    if (!is_folder(ex)) {
        (void)snprintf(ex->parts, sizeof(ex->parts), "%.4000s.parts-%ld", ex->output,
                       (long)getpid());
        folder = ex->parts;
    }
    transfer_progress_begin(&ex->progress, ex->quiet);
    int rc = ex->data_dir != NULL ? from_files(ex, folder, trail) : from_server(ex, folder, trail);
    ex->has_parts = rc == 0 && !is_folder(ex); /* what fails leaves none */
    if (ex->has_parts && !transfer_is_interrupted(&ex->interrupted))
        rc = write_file(ex, &c, trail);
    if (rc < 0)
        return rc;
    if (c.left_out != 0)
        (void)snprintf(more, sizeof(more), "; %llu records without this vector left out",
                       (unsigned long long)c.left_out);
    transfer_progress_end(&ex->progress, ex->interrupted ? "interrupted after" : "exported",
                          ex->rows, ex->bytes, more);
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
    if (ex->has_parts)
        remove_folder(ex->parts);
    wire_close(&ex->wire);
    endpoint_close(&ex->endpoint);
    arena_dispose(&ex->arena);
}

int export_command(int argc, const char *const *argv)
{
    struct export ex = {0};
    struct trail trail = {0};
    if (argc == 1 && strcmp(argv[0], "--help") == 0) {
        (void)printf("usage: %s", usage);
        return 0;
    }
    transfer_block_signals(); /* taken between two pieces */
    int status = EXIT_USAGE;
    if (parse(&ex, argc, argv, &trail) < 0) {
        (void)fprintf(stderr, "proximadb export: %s\nusage: %s", trail.text, usage);
    } else {
        int rc = run(&ex, &trail);
        status = rc < 0 ? EXIT_START : ex.interrupted ? 130 : 0;
        if (rc < 0)
            (void)fprintf(stderr, "proximadb export: %s\n", trail.text);
    }
    dispose(&ex);
    return status;
}
