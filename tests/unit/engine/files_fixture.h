/* A simulated disk and its io for the modules that work on files without an engine: pumping, power
 * cuts at the n-th I/O, and looking at what is there. */
#ifndef TEST_ENGINE_FILES_FIXTURE_H
#define TEST_ENGINE_FILES_FIXTURE_H

#include "base/heap.h"
#include "os/sim.h"
#include "reactor/reactor.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

struct disk {
    struct sim_disk *sim;
    struct io *io;
    uint64_t cut_at; /* I/Os so far when the power goes; 0: never */
    bool cut;
};

static inline struct disk disk_begin(uint64_t seed)
{
    struct disk d = {.sim = sim_disk_new(seed)};
    assert_non_null(d.sim);
    assert_int_equal(sim_io_create(d.sim, &d.io), 0);
    return d;
}

static inline void disk_end(struct disk *d)
{
    d->io->ops->destroy(d->io);
    sim_disk_free(d->sim);
}

/* The power goes while the n-th I/O from now on (from 1) is in flight. */
static inline void disk_cut_at(struct disk *d, uint64_t nth)
{
    d->cut_at = sim_disk_op_count(d->sim) + nth;
    d->cut = false;
}

/* Runs the loop until *over, or until the power has gone: false. */
static inline bool disk_pump(struct disk *d, const bool *over)
{
    while (!*over && !d->cut) {
        assert_int_not_equal(d->io->ops->submit(d->io), 0); /* else it waits for nothing */
        if (d->cut_at != 0 && sim_disk_op_count(d->sim) >= d->cut_at) {
            sim_disk_crash(d->sim);
            d->cut = true;
        } else if (d->io->ops->reap(d->io, 1) == 0) {
            d->io->ops->wait(d->io, -1);
        }
    }
    return *over;
}

/* Power is back: a new io on what has survived. */
static inline void disk_restart(struct disk *d)
{
    if (!d->cut)
        sim_disk_crash(d->sim);
    d->io->ops->destroy(d->io);
    d->cut_at = 0;
    d->cut = false;
    assert_int_equal(sim_io_create(d->sim, &d->io), 0);
}

/* ---- with reactors ---- */

enum { DISK_REACTORS = 2 };

static inline struct reactor_group *disk_reactors(struct disk *d)
{
    struct reactor_group *group;
    const char *reason;
    struct reactor_options options = {.count = DISK_REACTORS, .sim = d->sim};
    assert_int_equal(reactor_group_start(&options, &group, &reason), 0);
    return group;
}

/* One turn of each, or time moves on. False: the power has gone. */
static inline bool disk_turn(struct disk *d, struct reactor_group *group)
{
    bool any = false;
    int64_t wait_ns = 1000 * 1000;
    for (unsigned i = 0; i < DISK_REACTORS && !d->cut; i++) {
        struct reactor *r = reactor_group_at(group, i);
        any = reactor_turn(r) || any;
        int64_t ns = reactor_wait_ns(r);
        if (ns >= 0 && ns < wait_ns)
            wait_ns = ns;
        if (d->cut_at != 0 && sim_disk_op_count(d->sim) >= d->cut_at) {
            sim_disk_crash(d->sim);
            d->cut = true;
        }
    }
    if (!any && !d->cut)
        sim_advance(d->sim, (uint64_t)wait_ns);
    return !d->cut;
}

/* ---- names ---- */

struct disk_names {
    char text[2048]; /* " a b c": in order of appearance */
    unsigned count;
};

static inline void disk_see_name(void *arg, const char *name)
{
    struct disk_names *names = (struct disk_names *)arg;
    size_t len = strlen(names->text);
    (void)snprintf(names->text + len, sizeof(names->text) - len, " %s", name);
    names->count++;
}

static inline struct disk_names disk_list(struct disk *d, const char *folder)
{
    struct disk_names names = {0};
    (void)d->io->ops->list_dir(d->io, folder, disk_see_name, &names);
    return names;
}

static inline bool disk_has(struct disk *d, const char *path)
{
    void *bytes;
    size_t len;
    int rc = sim_read_file(d->io, path, &bytes, &len);
    if (rc == 0)
        heap_free(NULL, bytes);
    return rc == 0;
}

static inline void disk_put(struct disk *d, const char *folder, const char *name, const void *bytes,
                            size_t len)
{
    assert_int_equal(io_replace_file(d->io, folder, name, bytes, len), 0);
}

#endif
