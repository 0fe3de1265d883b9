/* metrics.c: the exposition. A family is shown core by core or summed, series by series; the text
 * of a series up to its value is made once and reused for all lines of a histogram. Histograms show
 * the bounds 1, 2 and 5 of each decade, a third of what is kept: cumulative counts lose nothing by
 * leaving bounds out. */
#include "metrics/metrics.h"

#include <errno.h>
#include <string.h>

#include "base/no_libc_heap.h"

enum family_type { COUNTER, GAUGE, HISTOGRAM };
enum family_unit { NS, ONE, RATIO };
enum family_scope { CORE, ALL };

struct family {
    const char *name, *help;
    enum family_type type;
    enum family_unit unit;
    enum family_scope scope;
    enum metrics_set first, second;
    unsigned slot;
};

#define VALUE_ROW(slot, name, type, unit, scope, a, b, help)                                       \
    {name, help, type, unit, scope, METRICS_SET_##a, METRICS_SET_##b, METRICS_##slot##_AT},
#define HISTOGRAM_ROW(slot, name, type, unit, scope, a, b, help)                                   \
    {name, help, type, unit, scope, METRICS_SET_##a, METRICS_SET_##b, METRICS_##slot##_IN},
static const struct family value_families[] = {METRICS_VALUES(VALUE_ROW)};
static const struct family histogram_families[] = {METRICS_HISTOGRAMS(HISTOGRAM_ROW)};
#undef VALUE_ROW
#undef HISTOGRAM_ROW

#define VALUE_TEXT(set, name, text)   text,
#define SET_TEXTS(set, label, values) static const char *const set##_texts[] = {values(VALUE_TEXT)};
METRICS_SETS(SET_TEXTS)
#undef SET_TEXTS
#undef VALUE_TEXT

static const struct {
    const char *label;
    const char *const *texts;
    unsigned count;
} sets[] = {
#define SET_ROW(set, label, values) {label, set##_texts, (unsigned)METRICS_SET_COUNT_OF(set)},
    METRICS_SETS(SET_ROW)
#undef SET_ROW
};

unsigned metrics_status(int http_status)
{
    unsigned number = http_status > 0 ? (unsigned)http_status : 0;
    char text[4] = {(char)('0' + number / 100 % 10), (char)('0' + number / 10 % 10),
                    (char)('0' + number % 10), '\0'};
    for (unsigned i = 0; i < METRICS_STATUS_OTHER && number < 1000; i++) {
        if (strcmp(STATUS_texts[i], text) == 0)
            return i;
    }
    return METRICS_STATUS_OTHER;
}

unsigned metrics_errno(int error)
{
    static const int numbers[METRICS_ERRNO_OTHER] = {EIO,    ENOSPC, EDQUOT, EROFS,
                                                     EACCES, ENOENT, EMFILE, ENOMEM};
    unsigned i = 0;
    while (i < METRICS_ERRNO_OTHER && numbers[i] != (error < 0 ? -error : error))
        i++;
    return i;
}

void metrics_merge(struct metrics *into, const struct metrics *from)
{
    for (unsigned i = 0; i < METRICS_VALUE_COUNT; i++)
        into->values[i] += from->values[i];
    for (unsigned i = 0; i < METRICS_HISTOGRAM_COUNT; i++)
        histogram_merge(&into->histograms[i], &from->histograms[i]);
}

void metrics_collection_merge(struct metrics_collection *into,
                              const struct metrics_collection *from)
{
    into->rows += from->rows;
    into->bytes += from->bytes;
    for (unsigned i = 0; i < METRICS_PLAN_COUNT; i++)
        histogram_merge(&into->search[i], &from->search[i]);
}

/* ---- lines ---- */

/* The labels of one series, without braces: `core="0",op="read"`. Long values (a refusal's reason)
 * are cut. */
struct labels {
    char text[640];
    size_t len;
};

static void add_raw(struct labels *labels, const char *text, size_t len)
{
    size_t room = sizeof(labels->text) - labels->len;
    len = len < room ? len : room;
    memcpy(labels->text + labels->len, text, len);
    labels->len += len;
}

/* The value escaped as the format asks: backslash, quote and line end. Never leaves half an
 * escape. */
static void add_label(struct labels *labels, const char *name, struct pdb_text value)
{
    size_t needed = labels->len + strlen(name) + 8;
    if (name[0] == '\0' || needed > sizeof(labels->text))
        return;
    if (labels->len != 0)
        add_raw(labels, ",", 1);
    add_raw(labels, name, strlen(name));
    add_raw(labels, "=\"", 2);
    for (size_t i = 0; i < value.len && labels->len + 3 < sizeof(labels->text); i++) {
        char c = value.ptr[i];
        if (c == '\n')
            add_raw(labels, "\\n", 2);
        else if (c == '"' || c == '\\')
            add_raw(labels, (char[]){'\\', c}, 2);
        else
            add_raw(labels, &c, 1);
    }
    add_raw(labels, "\"", 1);
}

static void add_number_label(struct labels *labels, const char *name, unsigned value)
{
    char digits[12];
    size_t at = sizeof(digits);
    do {
        digits[--at] = (char)('0' + value % 10);
        value /= 10;
    } while (value != 0);
    add_label(labels, name, (struct pdb_text){digits + at, sizeof(digits) - at});
}

static void write_head(struct buffer *out, const char *name, const char *type, const char *help)
{
    buffer_format(out, "# HELP proximadb_%s %s\n# TYPE proximadb_%s %s\n", name, help, name, type);
}

/* name{labels,extra} and a space; `extra` is the le of a bucket, or empty. */
static void write_series(struct buffer *out, const char *name, const char *suffix,
                         const struct labels *labels, struct pdb_text extra)
{
    buffer_add_lit(out, "proximadb_");
    buffer_add(out, name, strlen(name));
    buffer_add(out, suffix, strlen(suffix));
    if (labels->len != 0 || extra.len != 0) {
        buffer_add_byte(out, '{');
        buffer_add(out, labels->text, labels->len);
        if (labels->len != 0 && extra.len != 0)
            buffer_add_byte(out, ',');
        buffer_add_text(out, extra);
        buffer_add_byte(out, '}');
    }
    buffer_add_byte(out, ' ');
}

/* A decimal's digits. */
struct number_text {
    char text[40];
    size_t len;
};

/* Thousandths or billionths of a number as a decimal, exact, without zeros at its end. */
static void put_scaled(struct number_text *number, uint64_t value, unsigned decimals)
{
    char digits[32];
    size_t at = sizeof(digits);
    bool significant = false;
    for (unsigned place = 0; place <= decimals || value != 0; place++, value /= 10) {
        char digit = (char)('0' + value % 10);
        if (place == decimals && significant)
            digits[--at] = '.';
        significant = significant || digit != '0' || place >= decimals;
        if (significant)
            digits[--at] = digit;
    }
    memcpy(number->text + number->len, digits + at, sizeof(digits) - at);
    number->len += sizeof(digits) - at;
}

/* A histogram's numbers are kept in ns; counts were recorded as thousands of them. */
static unsigned decimals_of(enum family_unit unit)
{
    return unit == ONE ? 3 : 9;
}

static void write_scaled(struct buffer *out, uint64_t value, unsigned decimals)
{
    struct number_text number = {.len = 0};
    put_scaled(&number, value, decimals);
    buffer_add(out, number.text, number.len);
}

static bool bound_is_shown(unsigned bound)
{
    unsigned in_decade = bound % 6; /* 1, 1.5, 2, 3, 5, 7 */
    return in_decade == 0 || in_decade == 2 || in_decade == 4 || bound == HISTOGRAM_BOUNDS - 1;
}

static void write_histogram(struct buffer *out, const char *name, enum family_unit unit,
                            const struct labels *labels, const struct histogram *h)
{
    uint64_t so_far = 0;
    for (unsigned i = 0; i < HISTOGRAM_BOUNDS; i++) {
        so_far += h->buckets[i];
        if (!bound_is_shown(i))
            continue;
        struct number_text le = {.text = "le=\"", .len = 4};
        put_scaled(&le, histogram_bounds_ns[i], decimals_of(unit));
        le.text[le.len++] = '"';
        write_series(out, name, "_bucket", labels, (struct pdb_text){le.text, le.len});
        buffer_add_u64(out, so_far);
        buffer_add_byte(out, '\n');
    }
    so_far += h->buckets[HISTOGRAM_BOUNDS];
    write_series(out, name, "_bucket", labels, TEXT_LIT("le=\"+Inf\""));
    buffer_add_u64(out, so_far);
    buffer_add_byte(out, '\n');
    write_series(out, name, "_sum", labels, TEXT_LIT(""));
    write_scaled(out, h->sum_ns, decimals_of(unit));
    buffer_add_byte(out, '\n');
    write_series(out, name, "_count", labels, TEXT_LIT(""));
    buffer_add_u64(out, so_far);
    buffer_add_byte(out, '\n');
}

static void write_value(struct buffer *out, const char *name, enum family_unit unit,
                        const struct labels *labels, uint64_t value)
{
    write_series(out, name, "", labels, TEXT_LIT(""));
    if (unit != ONE)
        write_scaled(out, value, 9);
    else
        buffer_add_u64(out, value);
    buffer_add_byte(out, '\n');
}

/* ---- families ---- */

/* The text of a label value; .ptr NULL: this place has no name and is shown as `other` if it is the
 * last. */
static struct pdb_text label_text(const struct metrics_snapshot *s, enum metrics_set set,
                                  unsigned index)
{
    if (set != METRICS_SET_OPERATION && set != METRICS_SET_METHOD)
        return text_of(sets[set].texts[index]);
    if (index == METRICS_OPERATIONS_MAX - 1)
        return TEXT_LIT("other");
    const char *const *names = set == METRICS_SET_OPERATION ? s->operations : s->methods;
    if (index >= s->operation_count || names == NULL || names[index] == NULL ||
        names[index][0] == '\0')
        return (struct pdb_text){NULL, 0};
    return text_of(names[index]);
}

/* Families with many series show only those that moved: most pairs of labels never meet. */
static bool is_sparse(const struct family *f)
{
    return f->second != METRICS_SET_NONE || f->first == METRICS_SET_OPERATION ||
           f->first == METRICS_SET_METHOD;
}

/* One family of one core, or of all. */
static void write_family(struct buffer *out, const struct metrics_snapshot *s,
                         const struct family *f, const struct metrics *m,
                         const struct labels *outer)
{
    for (unsigned a = 0; a < sets[f->first].count; a++) {
        struct pdb_text a_text = label_text(s, f->first, a);
        for (unsigned b = 0; b < sets[f->second].count && a_text.ptr != NULL; b++) {
            unsigned slot = f->slot + a * sets[f->second].count + b;
            struct labels labels = *outer;
            add_label(&labels, sets[f->first].label, a_text);
            add_label(&labels, sets[f->second].label, label_text(s, f->second, b));
            if (f->type == HISTOGRAM) {
                const struct histogram *h = &m->histograms[slot];
                if (!is_sparse(f) || histogram_count(h) != 0)
                    write_histogram(out, f->name, f->unit, &labels, h);
            } else if (!is_sparse(f) || f->type == GAUGE || m->values[slot] != 0) {
                write_value(out, f->name, f->unit, &labels, m->values[slot]);
            }
        }
    }
}

/* All slots of one family, added over the cores and the process. */
static void sum_family(const struct metrics_snapshot *s, const struct family *f,
                       struct metrics *sum_out)
{
    unsigned slots = sets[f->first].count * sets[f->second].count;
    for (unsigned slot = f->slot; slot < f->slot + slots; slot++) {
        if (f->type == HISTOGRAM)
            memset(&sum_out->histograms[slot], 0, sizeof(struct histogram));
        else
            sum_out->values[slot] = 0;
        for (unsigned core = 0; core <= s->core_count; core++) {
            const struct metrics *from = core < s->core_count ? s->cores[core] : s->process;
            if (from == NULL)
                continue;
            if (f->type == HISTOGRAM)
                histogram_merge(&sum_out->histograms[slot], &from->histograms[slot]);
            else
                sum_out->values[slot] += from->values[slot];
        }
    }
}

static void write_families(struct buffer *out, const struct metrics_snapshot *s,
                           const struct family *families, size_t count, struct metrics *scratch)
{
    static const char *const types[] = {"counter", "gauge", "histogram"};
    for (size_t i = 0; i < count; i++) {
        const struct family *f = &families[i];
        struct labels labels = {.len = 0};
        write_head(out, f->name, types[f->type], f->help);
        if (f->scope == ALL) {
            sum_family(s, f, scratch);
            write_family(out, s, f, scratch, &labels);
            continue;
        }
        for (unsigned core = 0; core < s->core_count; core++) {
            labels.len = 0;
            add_number_label(&labels, "core", core);
            write_family(out, s, f, s->cores[core], &labels);
        }
    }
}

/* ---- collections ---- */

static const char *const plan_texts[METRICS_PLAN_COUNT] = {"flat", "index"};

static void collection_labels(struct labels *labels, struct pdb_text name)
{
    labels->len = 0;
    add_label(labels, "collection", name);
}

static void write_searches(struct buffer *out, const struct metrics_collection *c)
{
    for (unsigned plan = 0; plan < METRICS_PLAN_COUNT; plan++) {
        struct labels labels;
        if (histogram_count(&c->search[plan]) == 0)
            continue;
        collection_labels(&labels, c->name);
        add_label(&labels, "plan", text_of(plan_texts[plan]));
        write_histogram(out, "search_duration_seconds", NS, &labels, &c->search[plan]);
    }
}

static void write_rows(struct buffer *out, const struct metrics_collection *c)
{
    struct labels labels;
    collection_labels(&labels, c->name);
    write_value(out, "memtable_rows", ONE, &labels, c->rows);
}

static void write_bytes(struct buffer *out, const struct metrics_collection *c)
{
    struct labels labels;
    collection_labels(&labels, c->name);
    write_value(out, "memtable_bytes", ONE, &labels, c->bytes);
}

static void write_recalls(struct buffer *out, const struct metrics_collection *c)
{
    for (uint32_t i = 0; i < c->recall_count; i++) {
        struct labels labels;
        collection_labels(&labels, c->name);
        add_label(&labels, "field", c->recalls[i].field);
        write_value(out, "recall_estimate", RATIO, &labels,
                    (uint64_t)(c->recalls[i].recall * 1e9 + 0.5));
    }
}

static void write_collections(struct buffer *out, const struct metrics_snapshot *s)
{
    static const struct {
        const char *name, *type, *help;
        void (*write)(struct buffer *out, const struct metrics_collection *c);
    } families[] = {
        {"memtable_rows", "gauge", "Rows held in memory", write_rows},
        {"memtable_bytes", "gauge", "Memory that the rows of a collection take", write_bytes},
        {"search_duration_seconds", "histogram", "Time of searches", write_searches},
        {"recall_estimate", "gauge", "Share of the true nearest rows that recent searches found",
         write_recalls},
    };
    /* A collection may be called `other`: it is counted among the others, so that no series comes
     * twice. */
    struct metrics_collection other = {.name = TEXT_LIT("other")};
    bool any_other = false;
    for (size_t i = 0; i < s->collection_count; i++) {
        if (i >= METRICS_COLLECTIONS_MAX || text_equal(s->collections[i].name, other.name)) {
            metrics_collection_merge(&other, &s->collections[i]);
            any_other = true;
        }
    }
    for (size_t f = 0; f < sizeof(families) / sizeof(families[0]); f++) {
        write_head(out, families[f].name, families[f].type, families[f].help);
        for (size_t i = 0; i < s->collection_count && i < METRICS_COLLECTIONS_MAX; i++) {
            if (!text_equal(s->collections[i].name, other.name))
                families[f].write(out, &s->collections[i]);
        }
        if (any_other)
            families[f].write(out, &other);
    }
}

static void write_infos(struct buffer *out, const struct metrics_snapshot *s)
{
    struct labels labels = {.len = 0};
    write_head(out, "build_info", "gauge", "The version that runs");
    add_label(&labels, "version", s->version);
    add_label(&labels, "commit", s->commit);
    write_value(out, "build_info", ONE, &labels, 1);
    labels.len = 0;
    write_head(out, "io_engine_info", "gauge", "How files are read and written, and why so");
    add_label(&labels, "engine", s->io_engine);
    add_label(&labels, "reason", s->io_reason);
    write_value(out, "io_engine_info", ONE, &labels, 1);
}

void metrics_write_prometheus(struct buffer *out, const struct metrics_snapshot *snapshot)
{
    /* The sums are as large as a core's metrics: too much for a reactor's stack. */
    struct metrics *scratch = heap_alloc(out->heap, sizeof(*scratch));
    if (scratch == NULL) {
        out->failed = true;
        return;
    }
    write_infos(out, snapshot);
    write_families(out, snapshot, value_families,
                   sizeof(value_families) / sizeof(value_families[0]), scratch);
    write_collections(out, snapshot);
    write_families(out, snapshot, histogram_families,
                   sizeof(histogram_families) / sizeof(histogram_families[0]), scratch);
    heap_free(out->heap, scratch);
}
