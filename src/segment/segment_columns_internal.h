/* Documents as typed columns and JSON, and back. Inside src/segment. */
#ifndef SEGMENT_SEGMENT_COLUMNS_INTERNAL_H
#define SEGMENT_SEGMENT_COLUMNS_INTERNAL_H

#include "base/buffer.h"
#include "base/doc.h"
#include "base/heap.h"
#include "base/trail.h"

#include <proximadb/collection.h>

/* A declared column that has a column in the Parquet file. */
struct segment_column {
    struct pdb_text name; /* as declared */
    enum pdb_column_type type;
    char *parquet_name;
    /* The path that a value is taken from and put back to: the name, split at its dots. 0: the name
     * has an empty part, and values are only copied. */
    uint32_t part_count;
    struct pdb_text *parts;
};

/* The names' bytes are those of the columns it was made from. */
struct segment_columns {
    struct heap *heap;
    uint32_t count;
    struct segment_column *all;
};

/* 0 or PDB_RESOURCE_EXHAUSTED; to be disposed of in any case. Columns whose name holds U+0000 get
 * none. */
int segment_columns_init(struct segment_columns *c, struct heap *heap,
                         const struct pdb_column *columns, uint32_t column_count);
void segment_columns_dispose(struct segment_columns *c);

/* What a document has for one column. */
struct segment_value {
    bool there; /* else null */
    /* The column holds all there is to know, so that it is left out of the JSON. Else the value is
     * a copy for those who query the file: the JSON has it as it was. */
    bool taken;
    union {
        struct pdb_text text;  /* string, text; points into the document */
        int64_t integer;       /* integer; datetime: microseconds */
        double number;         /* float */
        bool boolean;          /* boolean */
        struct doc_value list; /* lists: of a document */
        struct {               /* lists: of a file; struct pdb_text, int64_t or double each */
            const void *ptr;
            size_t count;
        } items;
        struct {
            double lat, lon; /* geo */
        };
    };
};

/* The number that a float column shows for it. */
double segment_float_of(const struct doc_value *value);

/* What the columns get of a document; values_out: c->count. */
void segment_columns_split(const struct segment_columns *c, struct pdb_text document,
                           struct segment_value *values_out);
/* Appends the JSON of the document without what is taken. False: nothing is left, and nothing was
 * appended (the column metadata is null). */
bool segment_columns_rest(const struct segment_columns *c, struct pdb_text document,
                          const struct segment_value *values, struct buffer *json);
/* The document again, in the arena. `json`: NULL for null. Of each value `there` counts: what the
 * JSON has at its place goes before it. 0, PDB_DATA_LOSS (the trail says why),
 * PDB_RESOURCE_EXHAUSTED. */
int segment_columns_join(const struct segment_columns *c, const struct pdb_text *json,
                         const struct segment_value *values, struct arena *arena,
                         struct pdb_text *document_out, struct trail *trail);

#endif
