/* The host of programs without sockets of their own: waits in the I/O engine, whose timeouts have
 * nanoseconds. */
#include "reactor/reactor_internal.h"

static int start(struct reactor *r, void *arg, void **host_out)
{
    (void)r;
    (void)arg;
    *host_out = NULL;
    return 0;
}

static void wait(struct reactor *r, void *host, int64_t timeout_ns)
{
    (void)host;
    if (timeout_ns != 0)
        r->io->ops->wait(r->io, timeout_ns);
    (void)reactor_turn(r);
}

static void stop(struct reactor *r, void *host)
{
    (void)r;
    (void)host;
}

const struct reactor_host reactor_host_plain = {.start = start, .wait = wait, .stop = stop};
