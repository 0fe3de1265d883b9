/* line_file.c: lines in one buffer that grows to the longest of them. */
#include "server/line_file.h"

#include "base/heap.h"

#include <errno.h>
#include <string.h>

#include "base/no_libc_heap.h"

enum { FIRST_BYTES = 1 << 20 };

int line_file_open(struct line_file *file_out, const char *path, struct trail *trail)
{
    struct line_file f = {.file = fopen(path, "rb"), .capacity = FIRST_BYTES};
    if (f.file == NULL)
        return trail_add(trail, PDB_NOT_FOUND, "%s: %s", path, strerror(errno));
    f.bytes = heap_alloc(NULL, f.capacity);
    if (f.bytes == NULL) {
        line_file_close(&f);
        return trail_add(trail, PDB_RESOURCE_EXHAUSTED, "%s: no memory", path);
    }
    *file_out = f;
    return 0;
}

void line_file_close(struct line_file *file)
{
    if (file->file != NULL)
        (void)fclose(file->file);
    heap_free(NULL, file->bytes);
    *file = (struct line_file){0};
}

/* More bytes behind those that are no whole line. 1, 0: there are none, or an error. */
static int fill(struct line_file *f, struct trail *trail)
{
    memmove(f->bytes, f->bytes + f->at, f->len - f->at);
    f->len -= f->at;
    f->at = 0;
    if (f->len == f->capacity) {
        if (f->capacity >= LINE_FILE_BYTES_MAX)
            return trail_add(trail, PDB_DATA_LOSS, "a line is longer than %d bytes",
                             LINE_FILE_BYTES_MAX);
        char *grown = heap_realloc(NULL, f->bytes, f->capacity * 2);
        if (grown == NULL)
            return trail_add(trail, PDB_RESOURCE_EXHAUSTED, "no memory for a line");
        f->bytes = grown;
        f->capacity *= 2;
    }
    size_t got = fread(f->bytes + f->len, 1, f->capacity - f->len, f->file);
    if (got == 0 && ferror(f->file))
        return trail_add(trail, PDB_DATA_LOSS, "unreadable: %s", strerror(errno));
    f->len += got;
    return got > 0 ? 1 : 0;
}

int line_file_next(struct line_file *file, struct pdb_text *line_out, struct trail *trail)
{
    size_t searched = 0;
    int more = 1;
    for (;;) {
        char *start = file->bytes + file->at;
        size_t left = file->len - file->at;
        const char *end = left > searched ? memchr(start + searched, '\n', left - searched) : NULL;
        if (end != NULL || (more == 0 && left > 0)) {
            size_t len = end != NULL ? (size_t)(end - start) : left;
            size_t taken = len + (end != NULL ? 1 : 0);
            file->at += taken;
            file->offset += taken;
            if (len > 0 && start[len - 1] == '\r')
                len--;
            *line_out = (struct pdb_text){start, len};
            return 1;
        }
        if (more == 0)
            return 0;
        searched = left;
        more = fill(file, trail);
        if (more < 0)
            return more;
    }
}
