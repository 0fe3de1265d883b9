/* Counters, gauges and histograms of one core, and their text for Prometheus.
 *
 * Each core owns one `struct metrics` and writes it without locks or atomics; a scrape asks each
 * core for a copy by message, and metrics_write_prometheus adds them up: a pure function of the
 * copies. What belongs to the process and to no core (memory, uptime) goes into one more such
 * structure. The table of families is families.h. */
#ifndef METRICS_METRICS_H
#define METRICS_METRICS_H

#include "base/buffer.h"
#include "metrics/families.h"
#include "metrics/histogram.h"

/* METRICS_<set>_<value> and METRICS_<set>_COUNT. */
#define METRICS_VALUE_ENUM(set, name, text) METRICS_##set##_##name,
#define METRICS_SET_ENUM(set, label, values)                                                       \
    enum { values(METRICS_VALUE_ENUM) METRICS_##set##_END };
METRICS_SETS(METRICS_SET_ENUM)
#undef METRICS_SET_ENUM
#undef METRICS_VALUE_ENUM

/* Operations and methods are named by the scrape; the last place is for all that have no name. */
enum { METRICS_OPERATIONS_MAX = 32 };

#define METRICS_SET_COUNT_OF(set)                                                                  \
    (METRICS_SET_##set == METRICS_SET_OPERATION || METRICS_SET_##set == METRICS_SET_METHOD         \
         ? (int)METRICS_OPERATIONS_MAX                                                             \
         : (int)METRICS_##set##_END)

enum metrics_set {
#define METRICS_SET_NAME(set, label, values) METRICS_SET_##set,
    METRICS_SETS(METRICS_SET_NAME)
#undef METRICS_SET_NAME
};

/* The first slot of each family, METRICS_<slot>_AT for counters and gauges, METRICS_<slot>_IN for
 * histograms. */
#define METRICS_SLOT(slot, suffix, a, b)                                                           \
    METRICS_##slot##suffix,                                                                        \
        METRICS_##slot##suffix##_LAST =                                                            \
            METRICS_##slot##suffix + METRICS_SET_COUNT_OF(a) * METRICS_SET_COUNT_OF(b) - 1,
#define METRICS_VALUE_SLOT(slot, name, type, unit, scope, a, b, help) METRICS_SLOT(slot, _AT, a, b)
#define METRICS_HISTOGRAM_SLOT(slot, name, type, unit, scope, a, b, help)                          \
    METRICS_SLOT(slot, _IN, a, b)
enum metrics_value { METRICS_VALUES(METRICS_VALUE_SLOT) METRICS_VALUE_COUNT };
enum metrics_histogram { METRICS_HISTOGRAMS(METRICS_HISTOGRAM_SLOT) METRICS_HISTOGRAM_COUNT };
#undef METRICS_VALUE_SLOT
#undef METRICS_HISTOGRAM_SLOT

struct metrics {
    uint64_t values[METRICS_VALUE_COUNT];
    struct histogram histograms[METRICS_HISTOGRAM_COUNT];
};

/* `slot`: METRICS_..._AT, plus the index of the label's value; for two labels see METRICS_PLACE. */
static inline void metrics_add(struct metrics *m, unsigned slot, uint64_t n)
{
    m->values[slot] += n;
}

static inline void metrics_set(struct metrics *m, unsigned slot, uint64_t value)
{
    m->values[slot] = value;
}

/* `slot`: METRICS_..._IN plus the index. */
static inline void metrics_time(struct metrics *m, unsigned slot, uint64_t ns)
{
    histogram_record(&m->histograms[slot], ns);
}

/* The place of a pair of label values behind a family's first slot: METRICS_WRITES_AT +
 * METRICS_PLACE(RESULT, op, result). */
#define METRICS_PLACE(second_set, first, second)                                                   \
    ((unsigned)(first) * (unsigned)METRICS_SET_COUNT_OF(second_set) + (unsigned)(second))

/* Indices of the label values for numbers that come from elsewhere; what is not listed is
 * `other`. */
unsigned metrics_status(int http_status);
unsigned metrics_errno(int error);

void metrics_merge(struct metrics *into, const struct metrics *from);

/* ---- what is known per collection ---- */

enum { METRICS_COLLECTIONS_MAX = 1000 }; /* series of their own; the rest is added up as `other` */
/* Scanned alone, or with the help of indexes. */
enum metrics_plan { METRICS_PLAN_FLAT, METRICS_PLAN_INDEX, METRICS_PLAN_COUNT };

struct metrics_recall {
    struct pdb_text field; /* "" is the default field */
    double recall;
};

struct metrics_collection {
    struct pdb_text name;
    uint64_t rows, bytes; /* of the memtables */
    struct histogram search[METRICS_PLAN_COUNT];
    const struct metrics_recall *recalls; /* of fields where it is known; not added up */
    uint32_t recall_count;
};

/* Adds everything but name and recall: how the engine joins the cores' parts of one collection. */
void metrics_collection_merge(struct metrics_collection *into,
                              const struct metrics_collection *from);

/* ---- the text ---- */

struct metrics_snapshot {
    const struct metrics *const *cores; /* copies, core 0 first */
    unsigned core_count;
    const struct metrics *process; /* NULL: nothing; added to the ALL families only */
    const struct metrics_collection *collections; /* each name once, in a stable order */
    size_t collection_count;
    const char *const
        *operations; /* names of label values by index; at most METRICS_OPERATIONS_MAX - 1 */
    const char *const *methods; /* gRPC methods, by the same index; "" or NULL: none */
    unsigned operation_count;
    struct pdb_text version, commit, io_engine, io_reason;
};

/* Text format 0.0.4: HELP and TYPE once a family, then its series. Of families with two labels or
 * with operations only series that ever moved are shown. Errors stick to the buffer. */
void metrics_write_prometheus(struct buffer *out, const struct metrics_snapshot *snapshot);

#endif
