/* line_file.h: a text file line by line, in bounded memory. */
#ifndef SERVER_LINE_FILE_H
#define SERVER_LINE_FILE_H

#include "base/text.h"
#include "base/trail.h"

#include <stdint.h>
#include <stdio.h>

enum { LINE_FILE_BYTES_MAX = 64 << 20 };

struct line_file {
    FILE *file;
    char *bytes;
    size_t capacity, len, at;
    uint64_t offset; /* of the file's bytes that were read as lines */
};

/* PDB_NOT_FOUND. */
int line_file_open(struct line_file *file_out, const char *path, struct trail *trail);
void line_file_close(struct line_file *file); /* legal on a zeroed one */
/* The next line without its end, until the next call. 1, 0 at the end, PDB_RESOURCE_EXHAUSTED,
 * PDB_DATA_LOSS: unreadable, or a line over LINE_FILE_BYTES_MAX. */
int line_file_next(struct line_file *file, struct pdb_text *line_out, struct trail *trail);

#endif
