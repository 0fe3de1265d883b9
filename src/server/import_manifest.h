/* import_manifest.h: the files that an import is told to read; a folder that an export has made
 * stands for the files that its manifest.json names. */
#ifndef SERVER_IMPORT_MANIFEST_H
#define SERVER_IMPORT_MANIFEST_H

#include "server/import_reader.h"

/* An exported folder (docs/formats/export.md). */
struct import_folder {
    const char *path;
    struct pdb_text settings; /* the collection's, JSON: what a create takes */
    uint64_t rows;            /* that are alive, in all its files */
};

struct import_file {
    const char *path;
    enum import_format format;
    const struct import_folder *folder; /* NULL: the file was named itself, and the rest is 0 */
    uint64_t rows, bytes;
    uint32_t crc32c;
    const struct import_range *ended; /* rows that are not alive */
    size_t ended_count;
};

struct import_file_list {
    struct arena *arena; /* all memory */
    struct import_file *files;
    size_t count;
    const struct import_folder *last_folder; /* NULL: none was added */
};

/* 0; PDB_INVALID_ARGUMENT: a folder without a manifest, or one that cannot be understood;
 * PDB_NOT_FOUND; PDB_RESOURCE_EXHAUSTED. */
int import_files_add(struct import_file_list *list, const char *path, struct trail *trail);
/* Reads a file of a folder and compares it with what the manifest says. 0 (also for other files),
 * PDB_DATA_LOSS, PDB_NOT_FOUND. */
int import_file_verify(const struct import_file *file, struct trail *trail);
/* The body of a create: the settings of a folder under another name; `sync` NULL: its own.
 * out->failed tells. */
void import_write_settings(const struct import_folder *folder, const char *name, const char *sync,
                           struct arena *arena, struct buffer *out);

#endif
