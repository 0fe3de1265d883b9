/* Logs that no core of this start writes: see old_logs.c. On core 0 only. */
#ifndef ENGINE_OLD_LOGS_H
#define ENGINE_OLD_LOGS_H

#include "engine/engine_internal.h"

/* Start-up, after the logs were scanned: waits for its I/O. Errors as wal_retired_open. */
int old_logs_open(struct engine_core *core, struct trail *trail);
void old_logs_close(struct engine_core *core);
/* The archive has more of them now. */
void old_logs_stored(struct engine_core *core);
/* Legal on any core: the others have none. */
void old_logs_release(struct engine_core *core, const struct uuid *uuid, uint64_t version);
/* Some collection that keeps one of them; false: none does. */
bool old_logs_holder(const struct engine_core *core, struct uuid *uuid_out);
/* `visit` must not release. */
void old_logs_each_collection(struct engine_core *core,
                              void (*visit)(void *arg, const struct uuid *uuid, uint64_t version),
                              void *arg);

#endif
