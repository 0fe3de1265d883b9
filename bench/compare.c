/* compare.c: two --json files side by side. The numbers are looked up by their dotted paths in the
 * document. */
#include "bench/compare.h"

#include "base/arena.h"
#include "base/json.h"

#include <errno.h>
#include <string.h>

enum { FILE_BYTES_MAX = 64 << 20, DOC_BYTES_MAX = 64 << 20 };

static int read_file(const char *path, struct arena *arena, struct pdb_text *text_out,
                     struct trail *trail)
{
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return trail_add(trail, PDB_NOT_FOUND, "%s: %s", path, strerror(errno));
    struct buffer out;
    buffer_init_arena(&out, arena, FILE_BYTES_MAX);
    size_t got = 0;
    do {
        char *at = buffer_reserve(&out, 65536);
        if (at == NULL)
            break;
        got = fread(at, 1, 65536, file);
        out.len += got;
    } while (got > 0);
    bool ok = !out.failed && ferror(file) == 0;
    (void)fclose(file);
    if (!ok)
        return trail_add(trail, PDB_INVALID_ARGUMENT, "%s: cannot be read, or is too large", path);
    *text_out = (struct pdb_text){out.ptr, out.len};
    return 0;
}

static int read_report(const char *path, struct arena *arena, struct doc_value *root_out,
                       struct trail *trail)
{
    struct pdb_text text = {0};
    struct pdb_text doc = {0};
    struct json_reader reader;
    int rc = read_file(path, arena, &text, trail);
    if (rc < 0)
        return rc;
    struct doc_builder *builder = doc_builder_new(arena, DOC_BYTES_MAX);
    if (builder == NULL)
        return trail_add(trail, PDB_RESOURCE_EXHAUSTED, "%s: no memory", path);
    json_open(&reader, text.ptr, text.len, DOC_DEPTH_MAX, trail);
    rc = json_read_doc(&reader, builder);
    if (rc == 0)
        rc = json_finish(&reader);
    if (rc == 0)
        rc = doc_builder_finish(builder, &doc, NULL);
    if (rc < 0)
        return trail_add(trail, rc, "%s", path);
    *root_out = doc_root(doc.ptr, doc.len);
    struct doc_value program;
    if (!doc_get(root_out, TEXT_LIT("program"), &program) || program.type != DOC_STRING ||
        !text_equal(program.string, TEXT_LIT("pdb-bench")))
        return trail_add(trail, PDB_INVALID_ARGUMENT, "%s: not a report of pdb-bench", path);
    return 0;
}

static struct pdb_text string_at(const struct doc_value *object, const char *name)
{
    struct doc_value value;
    if (doc_get(object, text_of(name), &value) && value.type == DOC_STRING)
        return value.string;
    return (struct pdb_text){0};
}

static bool number_at(const struct doc_value *object, const char *path, double *number_out)
{
    struct doc_value at = *object;
    while (*path != '\0') {
        size_t len = strcspn(path, "/");
        if (!doc_get(&at, (struct pdb_text){path, len}, &at))
            return false;
        path += len + (path[len] == '/' ? 1 : 0);
    }
    if (at.type != DOC_INT && at.type != DOC_FLOAT)
        return false;
    *number_out = at.type == DOC_INT ? (double)at.integer : at.number;
    return true;
}

static void compare_group(const struct doc_value *a, const struct doc_value *b, FILE *to)
{
    static const char *const rows[] = {"operations_per_s", "records_per_s",  "latency_us/mean",
                                       "latency_us/p50",   "latency_us/p90", "latency_us/p99",
                                       "latency_us/p99.9", "latency_us/max", "error_count",
                                       "recall/value"};
    (void)fprintf(to, "\n%.*s (%.*s)\n", TEXT_ARG(string_at(a, "name")),
                  TEXT_ARG(string_at(a, "protocol")));
    (void)fprintf(to, "  %-18s %14s %14s %8s\n", "", "A", "B", "B / A");
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        double left = 0;
        double right = 0;
        if (!number_at(a, rows[i], &left) || !number_at(b, rows[i], &right))
            continue;
        (void)fprintf(to, "  %-18s %14.1f %14.1f ", rows[i], left, right);
        if (left != 0)
            (void)fprintf(to, "%8.3f\n", right / left);
        else
            (void)fprintf(to, "%8s\n", "-");
    }
}

static bool same_group(const struct doc_value *a, const struct doc_value *b)
{
    return text_equal(string_at(a, "name"), string_at(b, "name")) &&
           text_equal(string_at(a, "protocol"), string_at(b, "protocol"));
}

static unsigned compare_reports(const struct doc_value *a, const struct doc_value *b, FILE *to)
{
    struct doc_value groups_a;
    struct doc_value groups_b;
    unsigned found = 0;
    if (!doc_get(a, TEXT_LIT("groups"), &groups_a) || groups_a.type != DOC_ARRAY ||
        !doc_get(b, TEXT_LIT("groups"), &groups_b) || groups_b.type != DOC_ARRAY)
        return 0;
    struct pdb_text key;
    struct doc_value group_a;
    struct doc_iter iter_a = doc_iterate(&groups_a);
    while (doc_next(&iter_a, &key, &group_a)) {
        struct doc_value group_b;
        struct doc_iter iter_b = doc_iterate(&groups_b);
        while (doc_next(&iter_b, &key, &group_b)) {
            if (!same_group(&group_a, &group_b))
                continue;
            compare_group(&group_a, &group_b, to);
            found++;
            break;
        }
    }
    return found;
}

int compare_files(const char *path_a, const char *path_b, FILE *to, struct trail *trail)
{
    struct arena arena = {0};
    struct doc_value a;
    struct doc_value b;
    int rc = read_report(path_a, &arena, &a, trail);
    if (rc == 0)
        rc = read_report(path_b, &arena, &b, trail);
    if (rc == 0) {
        (void)fprintf(to, "A: %s\nB: %s\n", path_a, path_b);
        if (compare_reports(&a, &b, to) == 0)
            rc = trail_add(trail, PDB_INVALID_ARGUMENT, "the two reports have no group in common");
    }
    arena_dispose(&arena);
    return rc;
}
