/* failpoint.c: reads the one failpoint of the process from its environment and counts the visits.
 *
 * The count is the only mutable state at file scope in this layer and exists in test builds only: a
 * place may be visited by every core, and a counter per core would make "the third visit" mean
 * something else on every machine. It lies this low because the log has such places. */
#include "os/failpoint.h"

#ifdef PDB_FAILPOINTS
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static _Atomic unsigned long visits;

bool failpoint_hit(const char *name)
{
    const char *spec = getenv("PROXIMADB_FAILPOINT");
    size_t name_len = strlen(name);
    if (spec == NULL || strncmp(spec, name, name_len) != 0 || spec[name_len] != ':')
        return false;
    const char *action = spec + name_len + 1;
    const char *count_text = strchr(action, ':');
    unsigned long count = count_text != NULL ? strtoul(count_text + 1, NULL, 10) : 1;
    unsigned long visit = 1 + atomic_fetch_add(&visits, 1);
    if (strncmp(action, "sleep", 5) == 0 && visit >= count) {
        struct timespec pause = {0, 10 * 1000 * 1000};
        (void)nanosleep(&pause, NULL);
        return false;
    }
    if (visit != count)
        return false;
    if (strncmp(action, "kill", 4) == 0)
        (void)raise(SIGKILL);
    if (strncmp(action, "exit", 4) == 0)
        _exit(70);
    return strncmp(action, "error", 5) == 0;
}
#else
/* ISO C wants a declaration in every translation unit. */
extern const char failpoint_absent;
const char failpoint_absent = 1;
#endif
