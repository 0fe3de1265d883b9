/* import_manifest.h: the files that an import is told to read; a folder that an export has made
 * stands for the files that its manifest.json names. */
#ifndef SERVER_IMPORT_MANIFEST_H
#define SERVER_IMPORT_MANIFEST_H

#include "server/import_reader.h"

struct import_file {
    const char *path;
    enum import_format format;
    const struct import_range *ended; /* rows that an export has left in the file */
    size_t ended_count;
};

struct import_file_list {
    struct arena *arena; /* all memory */
    struct import_file *files;
    size_t count;
};

/* 0; PDB_INVALID_ARGUMENT: a folder without a manifest, or one that cannot be understood;
 * PDB_NOT_FOUND; PDB_RESOURCE_EXHAUSTED. */
int import_files_add(struct import_file_list *list, const char *path, struct trail *trail);

#endif
