/* Snapshots, for the rest of the engine: when they are loaded, begun and stopped. The calls are in
 * include/proximadb/snapshot.h. Core 0 keeps the list and does one operation at a time. */
#ifndef ENGINE_SNAPSHOT_H
#define ENGINE_SNAPSHOT_H

#include "engine/engine_internal.h"

/* Start-up, on core 0 once the catalog is there: removes what was cut off, reads the lists. Waits
 * for its I/O. 0, PDB_RESOURCE_EXHAUSTED, or what the disk says. */
int snapshots_load(struct engine_core *core, struct trail *trail);
/* Core 0: the schedule begins. */
void snapshots_start(struct engine_core *core);
/* Core 0, closing: no more are begun. */
void snapshots_stop(struct engine_core *core);
/* Core 0: frees all; also after a crash of a simulated disk, then before any shard is freed. */
void snapshots_free(struct engine_core *core);

#endif
