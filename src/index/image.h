/* The bytes of an index: docs/formats/index.md. Pure; who has a file calls these.
 *
 * An image is a header with a table of sections, and the sections, each on a multiple of 64 bytes
 * and with a checksum of its own. It is written without being put together first (a plan names the
 * arrays where they are), and used where it lies: opening checks everything and copies nothing but
 * the mean.
 *
 * Nothing in an image is believed: lengths, numbers of rows and nodes, order. After it has been
 * opened no search leaves it, whatever its bytes. */
#ifndef INDEX_IMAGE_H
#define INDEX_IMAGE_H

#include "base/trail.h"
#include "index/index.h"

enum {
    INDEX_IMAGE_FORMAT = 2,
    INDEX_IMAGE_FORMAT_LINES = 1, /* the same, but for codes that are filled up to whole lines */
    INDEX_IMAGE_FORMAT_LEAST = INDEX_IMAGE_FORMAT_LINES,
    INDEX_IMAGE_ALIGNMENT = 64,
    INDEX_IMAGE_HEADER_BYTES = 128,
    INDEX_IMAGE_SECTION_BYTES = 32,
    INDEX_IMAGE_SECTIONS_MAX = 64,
    /* what is written: mean, codes, sums, links; three sections for each upper level; codebook and
     * lists; what was measured */
    INDEX_IMAGE_PARTS_MAX = 4 + 3 * HNSW_LEVEL_MAX + 7 + 1,
    INDEX_IMAGE_HEAD_MAX =
        INDEX_IMAGE_HEADER_BYTES + (INDEX_IMAGE_PARTS_MAX + 1) * INDEX_IMAGE_SECTION_BYTES,
};

/* Numbers are never used again. */
enum index_image_kind {
    INDEX_IMAGE_MEAN = 1,
    INDEX_IMAGE_CODES = 2,
    INDEX_IMAGE_SUMS = 3,
    INDEX_IMAGE_LINKS = 4, /* of a level, as the next two */
    INDEX_IMAGE_ROWS = 5,
    INDEX_IMAGE_BELOW = 6,
    INDEX_IMAGE_CODEBOOK = 16,
    INDEX_IMAGE_LIST_MEAN = 17, /* this and the rest: of lists */
    INDEX_IMAGE_CENTROIDS = 18,
    INDEX_IMAGE_CENTROID_NORMS = 19,
    INDEX_IMAGE_GROUPS = 20,
    INDEX_IMAGE_LISTS = 21,
    INDEX_IMAGE_PLACES = 22,
    INDEX_IMAGE_CALIBRATION = 32,
};

/* Flags of sections and of the header: a reader that does not know one of these must refuse. */
#define INDEX_IMAGE_REQUIRED   0xffff0000u
#define INDEX_IMAGE_WITH_LISTS 0x00010000u /* of the header: codes lie in the order of lists */

/* ---- writing ---- */

struct index_image_part {
    const void *bytes;     /* of the index: as long as it lives */
    size_t length, padded; /* zeros follow up to `padded` */
};

struct index_image_plan {
    uint8_t head[INDEX_IMAGE_HEAD_MAX]; /* header and table: the first head_bytes of the image */
    size_t head_bytes;
    uint64_t image_bytes;
    uint32_t part_count;
    struct index_image_part parts[INDEX_IMAGE_PARTS_MAX]; /* the rest, in this order */
};

/* Reads the whole index once, for the checksums: work for a worker. Cannot fail. */
void index_image_plan(const struct index *index, struct index_image_plan *plan_out);
/* Writes plan->image_bytes bytes. */
void index_image_write(const struct index_image_plan *plan, uint8_t *image_out);

/* ---- reading ---- */

/* An image being opened. All fields are image_read.c's. */
struct index_image_reader {
    uint8_t *bytes;
    size_t length;
    uint32_t row_count, section_count, section; /* the one being checked */
    uint64_t checked;                           /* bytes of it */
    uint32_t crc;
    struct index index; /* as far as the header and the table say */
    const float *mean;
    const struct calibration *calibration; /* NULL: there is none */
    const float *codebook, *list_mean;
    uint64_t row_sum; /* of the places' rows so far */
};

/* Checks header and table. bytes: aligned to 64, used in place until the index is disposed of,
 * never written. 0; PDB_DATA_LOSS: damaged; PDB_FAILED_PRECONDITION: written by a newer version.
 * The trail says what and where. Until all of it has been checked nothing may be searched. */
int index_image_open(struct index_image_reader *reader, void *bytes, size_t length,
                     struct trail *trail);
/* Checks about `budget` bytes more: 1 while there are some left, 0, or PDB_DATA_LOSS. */
int index_image_step(struct index_image_reader *reader, size_t budget, struct trail *trail);
/* After a step's 0: the index, to be disposed of with `heap`. PDB_RESOURCE_EXHAUSTED. */
int index_image_finish(const struct index_image_reader *reader, struct heap *heap,
                       struct index *index_out);

#endif
