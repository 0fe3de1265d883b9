/* h2o's event loop as the host of a reactor: the one module of this layer that knows h2o. Programs
 * that use it link libh2o-evloop themselves; the others do not need it. */
#ifndef REACTOR_GUEST_H2O_H
#define REACTOR_GUEST_H2O_H

#include "reactor/reactor.h"

/* A host whose wait is h2o_evloop_run with the I/O engine's descriptor as a socket of the loop. */
const struct reactor_host *guest_h2o_host(void);

/* h2o's loop of this reactor (an h2o_evloop_t *), only for the transport. */
void *guest_h2o_loop(struct reactor *r);

#endif
