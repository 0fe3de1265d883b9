/* Named places where a crash test kills, stops or fails the process. They exist only in builds with
 * -Dfailpoints=true; elsewhere they are nothing. PROXIMADB_FAILPOINT=name:action:count acts on the
 * count-th visit (from 1) of `name`; actions: kill, exit, sleep (10 ms, at every visit from the
 * count-th on), error (only where the place asks with FAILPOINT_FAILS). */
#ifndef OS_FAILPOINT_H
#define OS_FAILPOINT_H

#include <stdbool.h>

#ifdef PDB_FAILPOINTS
/* True when the place must act as if its step had failed. */
bool failpoint_hit(const char *name);
#define FAILPOINT(name)       ((void)failpoint_hit(name))
#define FAILPOINT_FAILS(name) failpoint_hit(name)
#else
#define FAILPOINT(name)       ((void)0)
#define FAILPOINT_FAILS(name) false
#endif

#endif
