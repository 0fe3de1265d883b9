/* The simulated disk: files in memory with a pending and a durable state, one seed, virtual time. A
 * crash throws away what was not durable, with tearing at 512 bytes and reordering within what was
 * in flight; faults can be asked for. Everything runs on one thread. See the design essays in sim.c
 * and sim_disk.c. */
#ifndef OS_SIM_H
#define OS_SIM_H

#include "os/io.h"

enum { SIM_SECTOR_BYTES = 512 };

struct sim_disk;

struct sim_faults {
    double write_error, read_error, sync_error; /* probabilities of EIO */
    double short_write;                         /* completes with fewer bytes (whole sectors) */
    double bit_flip;                            /* of a read returning one flipped bit */
    double misdirected_write;
    uint64_t bytes_max; /* ENOSPC beyond; 0: none */
    uint64_t latency_min_ns, latency_max_ns;
};

/* NULL: no memory. Has a root folder ("/" and "." are the same) and no faults. */
struct sim_disk *sim_disk_new(uint64_t seed);
/* Every io on it must have been destroyed. NULL is legal. */
void sim_disk_free(struct sim_disk *disk);
void sim_disk_set_faults(struct sim_disk *disk, const struct sim_faults *faults);
/* The n-th I/O from now on (1 = next; counted as they are submitted) fails with -error once and has
 * no effect; 0 switches off. */
void sim_disk_fail_at(struct sim_disk *disk, uint64_t nth, int error);
/* From the n-th I/O from now on (1 = next) all of them fail with EIO and have no effect, until this
 * is called with 0: a disk that has gone away. */
void sim_disk_break_at(struct sim_disk *disk, uint64_t nth);
/* Power off: in-flight and unsynced writes survive each sector by a coin of the seed; unsynced
 * directory entries likewise. All ios on this disk become dead (their operations never complete)
 * and may only be destroyed. The disk can then be used by new ios. Legal inside a `done`. */
void sim_disk_crash(struct sim_disk *disk);
/* The process is killed, the machine runs on: each I/O in flight takes effect or not, by a coin;
 * what was written stays readable and is still not durable. Else as sim_disk_crash. */
void sim_disk_kill(struct sim_disk *disk);
/* Direct access for tests: flips and copies in the durable bytes. NULL if there is no such durable
 * file. Valid until the next I/O; readers see changes after the next open of the file, unless it
 * has unsynced writes. */
uint8_t *sim_disk_bytes(struct sim_disk *disk, const char *path, size_t *len_out);
/* The same for the length; grows with zeros. 0 or -ENOENT. */
int sim_disk_resize(struct sim_disk *disk, const char *path, size_t len);
/* I/Os submitted so far, by all ios. */
uint64_t sim_disk_op_count(const struct sim_disk *disk);

/* An io of one (simulated) core on the disk. Several may share a disk on one thread. 0 or
 * -ENOMEM. */
int sim_io_create(struct sim_disk *disk, struct io **io_out);
/* Reads a whole file at once, with the disk's read faults, as a mapped file is read: no operation
 * is started and no time goes by, but it counts as an I/O. A heap block of no heap
 * (heap_free(NULL, ...)). 0 or a negative errno; -EIO on a dead io. */
int sim_read_file(struct io *io, const char *path, void **bytes_out, size_t *len_out);
/* Moves virtual time on to the next completion or by `ns`, whichever comes first. */
void sim_advance(struct sim_disk *disk, uint64_t ns);

#endif
