/* The hosts and engines that a group's tests run on: the same cases on each. */
#ifndef TEST_REACTOR_GROUPS_H
#define TEST_REACTOR_GROUPS_H

#include "reactor/guest_h2o.h"
#include "reactor/reactor.h"

struct group_kind {
    const char *name;
    bool h2o;
    enum io_engine_choice engine;
    unsigned count, spin_us;
};

static const struct group_kind group_kinds[] = {
    {"plain, uring, 2", false, IO_ENGINE_AUTO, 2, 0},
    {"plain, threads, 4", false, IO_ENGINE_THREADS, 4, 0},
    {"plain, uring, 4, spinning", false, IO_ENGINE_AUTO, 4, 20},
    {"h2o, uring, 2", true, IO_ENGINE_AUTO, 2, 0},
    {"h2o, uring, 4", true, IO_ENGINE_AUTO, 4, 0},
    {"h2o, threads, 2", true, IO_ENGINE_THREADS, 2, 0},
};

enum { GROUP_KIND_COUNT = sizeof(group_kinds) / sizeof(group_kinds[0]) };

static inline struct reactor_options group_options(const struct group_kind *kind)
{
    return (struct reactor_options){.count = kind->count,
                                    .spin_us = kind->spin_us,
                                    .io_engine = kind->engine,
                                    .host = kind->h2o ? guest_h2o_host() : NULL};
}

#endif
