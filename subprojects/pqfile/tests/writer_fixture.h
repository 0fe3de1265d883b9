/* writer_fixture.h: a file in memory, an allocator that fails on demand, and schemas the writer's
 * tests share. Includes cmocka. */
#ifndef PQFILE_TESTS_WRITER_FIXTURE_H
#define PQFILE_TESTS_WRITER_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "pqfile/pqfile.h"

/* Bytes that a writer gave. */
struct file {
    uint8_t *data;
    size_t len;
    size_t capacity;
    size_t writes;
    size_t failing; /* the write, from 1, that fails; 0: none */
};

int file_write(void *context, const void *bytes, size_t len); /* a pqfile_sink's */
void file_dispose(struct file *file);

/* Fails the allocation numbered `failing` (from 1); fills memory with 0xa5. */
struct faulty {
    size_t failing;
    size_t calls;
    size_t live;
};

struct pqfile_allocator faulty_allocator(struct faulty *faulty);

/* Everything a test of the writer needs; file_begin() fills in what it uses. */
struct maker {
    struct file file;
    struct pqfile_writer *writer;
    struct pqfile_error error;
};

/* Opens a writer into an empty file; the options may be NULL. */
void maker_begin(struct maker *m, const struct pqfile_field *fields, size_t field_count,
                 const struct pqfile_writer_options *options);

/* Fails the test with the library's message unless rc is 0. */
void maker_ok(const struct maker *m, int rc);

/* The same with the message that is expected to be within the error's. */
void maker_refused(const struct maker *m, int rc, int expected, const char *within);

/* Ends the column; the row group too when it was the last. */
void maker_end_column(struct maker *m, bool last);

/* Finishes, closes the writer and opens a reader on the bytes. */
struct pqfile_reader *maker_read(struct maker *m);

/* Finishes and closes the writer; the file stays. */
void maker_finish(struct maker *m);

/* Closes what is open and releases the file. reader may be NULL. */
void maker_end(struct maker *m, struct pqfile_reader *reader);

/* Both files' bytes are the same; the other one is released. */
void assert_same_file(const struct maker *m, struct maker *other);

#define FIELD_COUNT(fields) (sizeof(fields) / sizeof(fields)[0])

#endif
