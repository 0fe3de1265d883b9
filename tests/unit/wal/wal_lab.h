/* One log on a simulated disk, turned by hand. Include wal_fixture.h's headers before. */
#ifndef TESTS_UNIT_WAL_WAL_LAB_H
#define TESTS_UNIT_WAL_WAL_LAB_H

#include "os/sim.h"
#include "wal/wal_internal.h"
#include "wal_fixture.h"

enum { LAB_OPS_MAX = 4096 };

struct lab_op {
    struct wal_append_op op;
    struct fixture_batch rows;
    bool done;
    int rc;
    size_t appended_at, done_at; /* in numbers of answers seen so far */
    struct lab *lab;
};

struct lab {
    struct sim_disk *disk;
    struct reactor_group *group;
    struct reactor *r;
    struct wal *wal;
    struct wal_options options;
    struct trail trail;
    struct lab_op *ops[LAB_OPS_MAX];
    size_t op_count, done_count, failed_count;
    uint64_t last_done_version; /* to see the order of acknowledgements */
    bool out_of_order;
    int poisoned;
};

static inline void lab_poisoned(void *arg, int error)
{
    ((struct lab *)arg)->poisoned = error;
}

static inline void lab_boot(struct lab *lab)
{
    const char *reason = NULL;
    struct reactor_options options = {.count = 1, .sim = lab->disk};
    if (reactor_group_start(&options, &lab->group, &reason) != 0)
        abort();
    lab->r = reactor_group_at(lab->group, 0);
}

static inline void lab_init(struct lab *lab, uint64_t seed)
{
    memset(lab, 0, sizeof(*lab));
    lab->disk = sim_disk_new(seed);
    lab->options = (struct wal_options){
        .dir = "wal/0",
        .io_mode = WAL_IO_DIRECT,
        .on_error = WAL_ON_ERROR_READONLY,
        .segment_bytes = 1 << 20,
        .batch_window_us = 1000,
        .period_ms = 200,
        .queue_bytes_max = 4 << 20,
        .poisoned = lab_poisoned,
        .arg = lab,
    };
    lab_boot(lab);
}

static inline int lab_open(struct lab *lab)
{
    trail_reset(&lab->trail);
    return wal_open(lab->r, &lab->options, &lab->wal, &lab->trail);
}

/* That of the batches whose number leaves the same rest by 5. */
static inline struct uuid lab_collection(uint64_t number)
{
    struct uuid uuid = {{0}};
    for (size_t i = 0; i < 16; i++)
        uuid.bytes[i] = (uint8_t)(number % 5 + i);
    return uuid;
}

/* One turn; time moves on when there was nothing to do. */
static inline void lab_turn(struct lab *lab)
{
    if (reactor_turn(lab->r))
        return;
    int64_t wait = reactor_wait_ns(lab->r);
    sim_advance(lab->disk, wait > 0 ? (uint64_t)wait : 1000 * 1000);
}

/* Until the time is over. */
static inline void lab_run_ms(struct lab *lab, uint64_t ms)
{
    uint64_t end = lab->r->io->ops->now_ns(lab->r->io) + ms * 1000000;
    for (;;) {
        while (reactor_turn(lab->r))
            continue;
        uint64_t now = lab->r->io->ops->now_ns(lab->r->io);
        if (now >= end)
            return;
        int64_t wait = reactor_wait_ns(lab->r);
        uint64_t left = end - now;
        sim_advance(lab->disk, wait > 0 && (uint64_t)wait < left ? (uint64_t)wait : left);
    }
}

static inline void lab_done(struct wal_append_op *op, int rc)
{
    struct lab_op *l = container_of(op, struct lab_op, op);
    struct lab *lab = l->lab;
    if (l->done)
        abort();
    l->done = true;
    l->done_at = lab->done_count;
    l->rc = rc;
    lab->done_count++;
    lab->failed_count += rc != 0;
    if (rc == 0 && op->batch != NULL) {
        lab->out_of_order |= op->batch->version <= lab->last_done_version;
        lab->last_done_version = op->batch->version;
    }
}

static inline struct lab_op *lab_op_new(struct lab *lab)
{
    struct lab_op *l = calloc(1, sizeof(*l));
    if (l == NULL || lab->op_count == LAB_OPS_MAX)
        abort();
    l->lab = lab;
    l->appended_at = lab->done_count;
    l->op.done = lab_done;
    lab->ops[lab->op_count++] = l;
    return l;
}

/* The batch is a function of its version: 1, 2, 3, ... */
static inline struct lab_op *lab_append(struct lab *lab, enum pdb_sync_mode sync,
                                        uint32_t row_count, uint32_t floats)
{
    struct lab_op *l = lab_op_new(lab);
    fixture_batch_make(&l->rows, lab->op_count, row_count, floats);
    l->op.batch = &l->rows.batch;
    l->op.sync = sync;
    wal_append(lab->wal, &l->op);
    return l;
}

static inline void lab_wait(struct lab *lab, const struct lab_op *op)
{
    while (!op->done)
        lab_turn(lab);
}

static inline void lab_wait_all(struct lab *lab)
{
    while (lab->done_count < lab->op_count)
        lab_turn(lab);
}

/* Clean stop of the log and its reactor; the disk stays. */
static inline void lab_stop(struct lab *lab)
{
    wal_close(lab->wal);
    lab->wal = NULL;
    reactor_group_stop(lab->group);
    lab->group = NULL;
}

/* Power off and on again, without the log being opened. */
static inline void lab_crash(struct lab *lab)
{
    sim_disk_crash(lab->disk);
    if (lab->wal != NULL)
        wal_abandon(lab->wal);
    lab->wal = NULL;
    reactor_group_stop(lab->group);
    lab_boot(lab);
}

static inline void lab_forget_ops(struct lab *lab)
{
    for (size_t i = 0; i < lab->op_count; i++) {
        fixture_batch_free(&lab->ops[i]->rows);
        free(lab->ops[i]);
    }
    lab->op_count = lab->done_count = lab->failed_count = 0;
    lab->last_done_version = 0;
}

static inline void lab_dispose(struct lab *lab)
{
    if (lab->wal != NULL)
        wal_close(lab->wal);
    if (lab->group != NULL)
        reactor_group_stop(lab->group);
    lab_forget_ops(lab);
    sim_disk_free(lab->disk);
}

/* ---- what a scan sees ---- */

struct lab_found {
    struct wal_record_info *infos;
    size_t count, capacity;
};

static inline int lab_visit(void *arg, const struct wal_record_info *info)
{
    struct lab_found *found = arg;
    if (found->count == found->capacity) {
        found->capacity = 2 * found->capacity + 16;
        found->infos = realloc(found->infos, found->capacity * sizeof(*found->infos));
    }
    found->infos[found->count++] = *info;
    return 0;
}

/* All records of "wal/"; the caller frees infos and closes the scan. */
static inline int lab_scan_options(struct lab *lab, bool bodies, struct lab_found *found,
                                   struct wal_scan **scan_out)
{
    static const char *const dirs[] = {"wal"};
    struct wal_scan_options options = {.dirs = dirs,
                                       .dir_count = 1,
                                       .stride = 1,
                                       .check_bodies = bodies,
                                       .visit = lab_visit,
                                       .arg = found};
    memset(found, 0, sizeof(*found));
    trail_reset(&lab->trail);
    return wal_scan_open(lab->r->io, &options, scan_out, &lab->trail);
}

static inline int lab_scan(struct lab *lab, struct lab_found *found, struct wal_scan **scan_out)
{
    return lab_scan_options(lab, true, found, scan_out);
}

/* Rows of versions 1..n in order, then any marks: n. -1: anything else was there. */
static inline long lab_rows_found(struct wal_scan *scan, const struct lab_found *found,
                                  uint32_t row_count, uint32_t floats)
{
    long rows = 0;
    for (size_t i = 0; i < found->count; i++) {
        const struct wal_record_info *info = &found->infos[i];
        if (info->type != WAL_RECORD_ROWS)
            continue;
        struct arena arena = {0};
        struct wal_batch batch;
        struct fixture_batch expected;
        fixture_batch_make(&expected, (uint64_t)++rows, row_count, floats);
        bool equal = wal_read_batch(scan, &info->place, &arena, &batch, NULL) == 0 &&
                     fixture_batch_equal(&expected.batch, &batch) &&
                     info->version == (uint64_t)rows;
        fixture_batch_free(&expected);
        arena_dispose(&arena);
        if (!equal)
            return -1;
    }
    return rows;
}

/* Scans and counts: -1 damage or wrong content, -2 refused. */
static inline long lab_count(struct lab *lab, uint32_t row_count, uint32_t floats,
                             struct wal_scan_stats *stats_out)
{
    struct lab_found found;
    struct wal_scan *scan = NULL;
    long rows = -2;
    if (lab_scan(lab, &found, &scan) == 0) {
        rows = lab_rows_found(scan, &found, row_count, floats);
        if (stats_out != NULL)
            wal_scan_stats(scan, stats_out);
        wal_scan_close(scan);
    }
    free(found.infos);
    return rows;
}

#endif
