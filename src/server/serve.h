/* The server process: start, wait for a signal, stop. */
#ifndef SERVER_SERVE_H
#define SERVER_SERVE_H

#include <stddef.h>

/* Exit codes of the process, besides 0. */
enum {
    EXIT_USAGE = 2, /* configuration or arguments */
    EXIT_START = 1, /* the start failed: ports, data directory, recovery */
    /* the stop took longer than server.shutdown_timeout_s: requests were cut off */
    EXIT_FORCED = 3,
    EXIT_LOG_FAILED = 70 /* a write-ahead log failed; a restart recovers (wal.on_error = abort) */
};

/* `proximadb serve ARGUMENTS`: runs until SIGTERM or SIGINT; the exit code. */
int serve(size_t argument_count, const char *const *arguments);

#endif
