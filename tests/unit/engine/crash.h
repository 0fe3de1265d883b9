/* What the victim and the judge of the crash test agree on. */
#ifndef ENGINE_CRASH_H
#define ENGINE_CRASH_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <proximadb/proximadb.h>

enum { CRASH_THREADS = 3, CRASH_SLOTS = 10 };

static inline const char *crash_collection(unsigned thread)
{
    return thread % 2 == 0 ? "always" : "batch";
}

static inline int crash_id(char text[16], unsigned thread, unsigned slot)
{
    return snprintf(text, 16, "t%u-%u", thread % 100, slot % 100);
}

static inline struct pdb_options crash_options(const char *dir, const char *engine, unsigned cores)
{
    return (struct pdb_options){
        .data_dir = dir,
        .cores = cores,
        .no_pin = true,
        .io_engine = strcmp(engine, "threads") == 0 ? PDB_IO_THREADS : PDB_IO_AUTO,
        .wal_segment_bytes = 1 << 20,
        .disk_min_free_bytes = UINT64_MAX,
        .allow_unsafe_fs = true,
    };
}

#endif
