/* The parts of the simulated disk: sim_disk.c keeps the bytes and names, sim.c time, faults and the
 * I/O table. */
#ifndef OS_SIM_INTERNAL_H
#define OS_SIM_INTERNAL_H

#include "base/rng.h"
#include "os/io_internal.h"
#include "os/sim.h"

struct sim_image { /* a file's bytes */
    uint8_t *ptr;
    size_t len, capacity;
};

enum sim_change_kind { SIM_CHANGE_BYTES, SIM_CHANGE_SIZE, SIM_CHANGE_GROW };

struct sim_change { /* not yet durable */
    struct list_link link;
    enum sim_change_kind kind;
    uint64_t offset, len; /* SIZE, GROW: len is the file's */
    uint8_t bytes[];
};

struct sim_inode {
    struct list_link link; /* of the disk's */
    bool is_dir, reached;
    bool differs;  /* a failed sync has dropped changes: `now` shows what will never be durable */
    bool tampered; /* a test holds the durable bytes: `now` is refreshed by the next open */
    struct sim_image now, durable;
    struct list changes;              /* from durable to now, in order */
    struct list names, names_durable; /* of a folder: struct sim_name */
};

struct sim_name {
    struct list_link link;
    struct sim_inode *inode;
    char text[256];
};

/* Of a name, not yet durable: `to` appears, `from` vanishes; either may be missing. */
struct sim_move {
    struct list_link link;
    struct sim_inode *inode, *from_dir, *to_dir;
    char from[256], to[256];
};

struct sim_file {            /* an open one */
    struct sim_inode *inode; /* NULL: free */
    unsigned flags;
};

struct sim_disk {
    struct rng coins;   /* faults, latencies, crashes */
    struct rng randoms; /* what `random` gives out, so that asking for a uuid moves no fault */
    struct sim_faults faults;
    uint64_t op_count, fail_at;
    uint64_t break_at; /* of op_count; 0: never */
    int fail_error;
    uint64_t now_ns;
    struct list ios;
    struct list inodes;
    struct list moves;
    struct sim_inode *root;
    struct sim_file *files;
    size_t file_count;
    int file_base; /* moves on with each crash: descriptors of a former life are bad ones */
};

/* Does an operation at once, with faults, and returns its result. `crashing`: it was in flight when
 * the power went; no faults, and nothing becomes durable by it. */
int64_t sim_execute(struct sim_disk *disk, const struct io_op *op, bool crashing);
/* No file is open any more. */
void sim_disk_forget_files(struct sim_disk *disk);
/* What a crash does to bytes and names. */
void sim_disk_lose_power(struct sim_disk *disk);
bool sim_disk_open_store(struct sim_disk *disk); /* false: no memory */
void sim_disk_close_store(struct sim_disk *disk);
int sim_disk_list(struct sim_disk *disk, const char *path,
                  void (*visit)(void *arg, const char *name), void *arg);
int64_t sim_disk_file_size(struct sim_disk *disk, int file);
uint64_t sim_disk_bytes_used(struct sim_disk *disk);
bool sim_coin(struct sim_disk *disk, double probability);

#endif
