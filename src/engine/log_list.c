/* log_list.c: which logs there are, so that one that is missing is seen.
 *
 * A log that is not there leaves no gap: the versions in it are the only trace of its writes. A
 * disk that was not mounted, or a wal directory that fell out of the configuration, would so look
 * like a database with fewer rows. Therefore catalog/LOGS names every directory that a log was ever
 * begun in, and a start that does not find one of them, or would not read it, is refused.
 *
 *     PROXIMADB-LOGS 1
 *     wal/0                  below the data directory, which may be moved
 *     /fast/disk/1           elsewhere
 *     crc32c 1a2b3c4d        of all bytes before this line
 *
 * The list is durable before the first write is taken. A log that has no segment yet, because the
 * disk was full, is listed by the next start. A data directory without the file and without its
 * witness (shard_files.h) is a new one, or older than the list; with the witness, the list is
 * lost.
 *
 * A data directory that was brought back out of an archive begins with the one line `no-logs`: all
 * of it is in segments. A log with records is then another directory's, most likely that of the
 * one which was lost, and to replay it would undo the restore. The first start takes the line out
 * before it takes a write. */
#include "base/crc32c.h"
#include "base/heap.h"
#include "engine/check_internal.h"
#include "engine/shard_files.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/no_libc_heap.h"

enum { LIST_BYTES_MAX = 1 << 20, PATH_BYTES = 4200 };

static const char head[] = "PROXIMADB-LOGS 1\n";
static const char tail[] = "crc32c ";
static const char none[] = "no-logs"; /* no path: those have a slash */
enum { HEAD_LEN = sizeof(head) - 1, TAIL_LEN = sizeof(tail) - 1 + 9 };

struct list_text { /* the lines between head and tail */
    char *bytes;   /* of the whole file; heap; NULL: there is none */
    char *next, *end;
};

/* ---- reading ---- */

static int damaged(struct trail *trail, const char *data_dir)
{
    return trail_add(trail, PDB_DATA_LOSS, "%s/catalog/LOGS: not a list of logs, or damaged",
                     data_dir);
}

static int read_list(struct io *io, const char *data_dir, struct list_text *text_out,
                     struct trail *trail)
{
    char path[PATH_BYTES];
    void *bytes;
    size_t len;
    *text_out = (struct list_text){0};
    (void)snprintf(path, sizeof(path), "%.4000s/catalog/LOGS", data_dir);
    int rc = io_read_file(io, path, LIST_BYTES_MAX, &bytes, &len);
    if (rc == -ENOENT && !shard_witness_is_there(io, data_dir, "LOGS"))
        return 0;
    if (rc == -ENOENT)
        return trail_add(trail, PDB_DATA_LOSS,
                         "%s is missing: without it nobody sees whether a log is; put it back, or, "
                         "if all of wal.dirs are mounted, remove catalog/witness/LOGS",
                         path);
    if (rc < 0)
        return trail_add(trail, engine_errno_code(rc), "%s: cannot be read: %s", path,
                         strerror(-rc));
    char *text = bytes, expected[32];
    size_t covered = len >= HEAD_LEN + TAIL_LEN ? len - TAIL_LEN : 0;
    (void)snprintf(expected, sizeof(expected), "%s%08" PRIx32 "\n", tail, crc32c(0, text, covered));
    if (covered == 0 || memcmp(text, head, HEAD_LEN) != 0 ||
        memcmp(text + covered, expected, TAIL_LEN) != 0) {
        heap_free(NULL, bytes);
        return damaged(trail, data_dir);
    }
    *text_out = (struct list_text){text, text + HEAD_LEN, text + covered};
    return 0;
}

/* The next line, ended by NUL; NULL behind the last. */
static const char *next_line(struct list_text *text)
{
    if (text->next == NULL || text->next >= text->end)
        return NULL;
    char *line = text->next, *end = memchr(line, '\n', (size_t)(text->end - line));
    if (end == NULL)
        end = text->end;
    *end = '\0';
    text->next = end + 1;
    return line;
}

/* ---- checking ---- */

static void see_segment(void *arg, const char *name)
{
    size_t len = strlen(name);
    bool *found = arg;
    *found = *found || (len > 4 && strcmp(name + len - 4, ".wal") == 0);
}

/* True when a start with these directories reads the logs of this folder. */
static bool is_scanned(const char *const *dirs, size_t dir_count, const char *path)
{
    const char *slash = strrchr(path, '/');
    size_t len = slash != NULL ? (size_t)(slash - path) : 0;
    for (size_t i = 0; i < dir_count; i++)
        if (strlen(dirs[i]) == len && memcmp(dirs[i], path, len) == 0)
            return true;
    return false;
}

static int check_log(const struct check *check, const char *const *dirs, size_t dir_count,
                     const char *line, struct trail *trail)
{
    char path[PATH_BYTES];
    bool found = false;
    if (line[0] == '/')
        (void)snprintf(path, sizeof(path), "%s", line);
    else
        (void)snprintf(path, sizeof(path), "%.3000s/%.1000s", check->data_dir, line);
    if (!is_scanned(dirs, dir_count, path))
        return trail_add(trail, PDB_FAILED_PRECONDITION,
                         "the log in %s may hold acknowledged writes, but its directory is not "
                         "among wal.dirs any more: name it there",
                         path);
    (void)check->io->ops->list_dir(check->io, path, see_segment, &found);
    if (found)
        return 0;
    return trail_add(trail, PDB_DATA_LOSS,
                     "the log in %s is missing; it may hold acknowledged writes: mount its disk or "
                     "bring the directory back",
                     path);
}

int check_log_list(const struct check *check, const char *const *dirs, size_t dir_count,
                   struct trail *trail)
{
    struct list_text text;
    const char *line;
    int rc = read_list(check->io, check->data_dir, &text, trail);
    while (rc == 0 && (line = next_line(&text)) != NULL)
        rc = strcmp(line, none) == 0 ? 0 : check_log(check, dirs, dir_count, line, trail);
    heap_free(NULL, text.bytes);
    return rc;
}

int log_list_check(struct pdb *db, struct io *io, struct trail *trail)
{
    const struct check check = {.io = io, .data_dir = db->options.data_dir};
    struct list_text text;
    int rc = read_list(io, db->options.data_dir, &text, trail);
    if (rc < 0)
        return rc;
    const char *line = next_line(&text);
    db->has_no_logs = line != NULL && strcmp(line, none) == 0;
    heap_free(NULL, text.bytes);
    return check_log_list(&check, db->wal_dirs, db->wal_dir_count, trail);
}

/* ---- adding ---- */

/* As the list has it: below the data directory without that. */
static const char *listed_name(const struct pdb *db, const char *path)
{
    size_t len = strlen(db->options.data_dir);
    bool below = strncmp(path, db->options.data_dir, len) == 0 && path[len] == '/';
    return below ? path + len + 1 : path;
}

static void add_line(struct buffer *out, const char *line)
{
    buffer_add(out, line, strlen(line));
    buffer_add(out, "\n", 1);
}

static void keep_line(struct pdb *db, const char *line)
{
    struct pdb_text copy = arena_copy_text(&db->texts, line, strlen(line));
    const char **list = arena_grow(&db->texts, db->log_list, db->log_list_count * sizeof(*list),
                                   (db->log_list_count + 1) * sizeof(*list));
    db->log_list_broken = db->log_list_broken || copy.ptr == NULL || list == NULL;
    if (db->log_list_broken)
        return;
    db->log_list = list;
    db->log_list[db->log_list_count++] = copy.ptr;
}

/* The lines there are and those of this start that are not among them. False: the list changes. */
static bool join(struct pdb *db, struct list_text *text, struct buffer *out)
{
    bool known[REACTOR_MAX], all = true;
    for (unsigned i = 0; i < db->core_count; i++)
        known[i] = !db->cores[i].log_begun;
    const char *line;
    buffer_add(out, head, HEAD_LEN);
    while ((line = next_line(text)) != NULL) {
        if (strcmp(line, none) == 0) {
            all = false;
            continue;
        }
        add_line(out, line);
        keep_line(db, line);
        for (unsigned i = 0; i < db->core_count; i++)
            known[i] = known[i] || strcmp(line, listed_name(db, db->core_log_dirs[i])) == 0;
    }
    for (unsigned i = 0; i < db->core_count; i++) {
        all = all && known[i];
        if (known[i])
            continue;
        add_line(out, listed_name(db, db->core_log_dirs[i]));
        keep_line(db, listed_name(db, db->core_log_dirs[i]));
    }
    return all;
}

static void add_tail(struct buffer *out)
{
    if (!out->failed)
        buffer_format(out, "%s%08" PRIx32 "\n", tail, crc32c(0, out->ptr, out->len));
}

static int replace_list(struct io *io, const char *data_dir, struct buffer *out,
                        struct trail *trail)
{
    char dir[PATH_BYTES];
    add_tail(out);
    if (out->failed)
        return trail_add(trail, PDB_RESOURCE_EXHAUSTED, "catalog/LOGS: out of memory");
    (void)snprintf(dir, sizeof(dir), "%.4000s/catalog", data_dir);
    int rc = io_replace_file(io, dir, "LOGS", out->ptr, out->len);
    if (rc == 0)
        return 0;
    return trail_add(trail, engine_errno_code(rc), "%s/LOGS cannot be written: %s", dir,
                     strerror(-rc));
}

int log_list_say_none(struct io *io, const char *data_dir, struct trail *trail)
{
    struct buffer out;
    buffer_init_heap(&out, NULL, 0);
    buffer_add(&out, head, HEAD_LEN);
    add_line(&out, none);
    int rc = replace_list(io, data_dir, &out, trail);
    buffer_dispose(&out);
    return rc;
}

int log_list_add(struct pdb *db, struct io *io, struct trail *trail)
{
    struct list_text text;
    struct arena arena;
    struct buffer out;
    for (unsigned i = 0; i < db->core_count; i++)
        if (strchr(db->core_log_dirs[i], '\n') != NULL)
            return trail_add(trail, PDB_INVALID_ARGUMENT, "wal.dirs: a path with a line break");
    int rc = read_list(io, db->options.data_dir, &text, trail);
    if (rc < 0)
        return rc;
    arena_init(&arena, 0);
    buffer_init_arena(&out, &arena, 0);
    if (!join(db, &text, &out))
        rc = replace_list(io, db->options.data_dir, &out, trail);
    if (rc == 0 && db->log_list_count != 0)
        shard_witness_make(io, db->options.data_dir, "LOGS");
    arena_dispose(&arena);
    heap_free(NULL, text.bytes);
    return rc;
}

/* ---- forgetting ---- */

void log_list_encode(const struct pdb *db, const char *dir, struct buffer *out)
{
    const char *name = listed_name(db, dir);
    out->failed = out->failed || db->log_list_broken;
    buffer_add(out, head, HEAD_LEN);
    for (size_t i = 0; i < db->log_list_count; i++)
        if (strcmp(db->log_list[i], name) != 0)
            add_line(out, db->log_list[i]);
    add_tail(out);
}

void log_list_forget(struct pdb *db, const char *dir)
{
    const char *name = listed_name(db, dir);
    size_t kept = 0;
    for (size_t i = 0; i < db->log_list_count; i++)
        if (strcmp(db->log_list[i], name) != 0)
            db->log_list[kept++] = db->log_list[i];
    db->log_list_count = kept;
}
