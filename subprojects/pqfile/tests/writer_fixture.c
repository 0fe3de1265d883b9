/* writer_fixture.c: see writer_fixture.h. */
#include "writer_fixture.h"

#include <stdlib.h>
#include <string.h>

int file_write(void *context, const void *bytes, size_t len)
{
    struct file *file = context;
    if (++file->writes == file->failing)
        return -1;
    if (file->len + len > file->capacity) {
        file->capacity = (file->len + len) * 2;
        file->data = realloc(file->data, file->capacity);
        assert_non_null(file->data);
    }
    memcpy(file->data + file->len, bytes, len);
    file->len += len;
    return 0;
}

void file_dispose(struct file *file)
{
    free(file->data);
    *file = (struct file){0};
}

static void *faulty_allocate(void *context, size_t size)
{
    struct faulty *faulty = context;
    assert_true(size > 0);
    if (++faulty->calls == faulty->failing || size == 0)
        return NULL;
    void *memory = malloc(size);
    if (memory != NULL) {
        memset(memory, 0xa5, size); /* nobody may rely on zeros */
        faulty->live++;
    }
    return memory;
}

static void faulty_release(void *context, void *memory)
{
    struct faulty *faulty = context;
    assert_non_null(memory);
    faulty->live--;
    free(memory);
}

struct pqfile_allocator faulty_allocator(struct faulty *faulty)
{
    return (struct pqfile_allocator){faulty_allocate, faulty_release, faulty};
}

void maker_ok(const struct maker *m, int rc)
{
    if (rc != 0)
        fail_msg("%d: %s", rc, m->error.message);
}

void maker_refused(const struct maker *m, int rc, int expected, const char *within)
{
    assert_int_equal(rc, expected);
    assert_int_equal(m->error.code, expected);
    if (strstr(m->error.message, within) == NULL)
        fail_msg("\"%s\" is not in \"%s\"", within, m->error.message);
}

void maker_begin(struct maker *m, const struct pqfile_field *fields, size_t field_count,
                 const struct pqfile_writer_options *options)
{
    *m = (struct maker){0};
    struct pqfile_sink sink = {file_write, &m->file};
    maker_ok(m, pqfile_writer_open(fields, field_count, options, &sink, &m->writer, &m->error));
}

void maker_end_column(struct maker *m, bool last)
{
    maker_ok(m, pqfile_writer_end_column(m->writer, NULL, &m->error));
    if (last)
        maker_ok(m, pqfile_writer_end_row_group(m->writer, &m->error));
}

void maker_finish(struct maker *m)
{
    uint64_t bytes = 0;
    maker_ok(m, pqfile_writer_finish(m->writer, &bytes, &m->error));
    assert_int_equal(bytes, m->file.len);
    pqfile_writer_close(m->writer);
    m->writer = NULL;
}

struct pqfile_reader *maker_read(struct maker *m)
{
    maker_finish(m);
    struct pqfile_source source = {.size = m->file.len, .memory = m->file.data};
    struct pqfile_reader *reader = NULL;
    maker_ok(m, pqfile_open(&source, NULL, &reader, &m->error));
    return reader;
}

void maker_end(struct maker *m, struct pqfile_reader *reader)
{
    pqfile_close(reader);
    pqfile_writer_close(m->writer);
    file_dispose(&m->file);
}

void assert_same_file(const struct maker *m, struct maker *other)
{
    assert_int_equal(m->file.len, other->file.len);
    assert_memory_equal(m->file.data, other->file.data, m->file.len);
    maker_end(other, NULL);
}
