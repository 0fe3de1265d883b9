/* Health as every door shows it. */
#ifndef TRANSPORT_HEALTH_H
#define TRANSPORT_HEALTH_H

#include "transport/transport.h"

/* True if every core answered lately: /livez. Readiness is core->ready and
 * core->not_ready_reason. */
bool health_live(const struct transport_core *core);

/* Implemented by the gRPC health service: sends the present status to every Watch stream of this
 * core. */
void health_tell_watchers(struct transport_core *core);

#endif
