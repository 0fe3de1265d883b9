/* recall_samples.c: a ring of recent searches of a shard.
 *
 * As long as the ring is not full every search that suits is taken, so that a collection can be
 * asked for its recall after its first searches; then one a second takes the place of the oldest,
 * and the ring tells of the last minutes whatever the load is. A place has room for the longest
 * vector of the collection; the ring doubles while it fills, so a collection that is seldom
 * searched takes little, and there is a limit for a shard and for a core. Without memory nothing is
 * kept: nobody's search fails for it.
 *
 * Searches with a filter or by a stored record are passed by: how hard they are depends on the
 * filter, and a record's vector is taken from the collection anyway. */
#include "engine/recall.h"

#include "base/assert.h"
#include "engine/catalog.h"
#include "engine/shard.h"

#include <string.h>

#include "base/no_libc_heap.h"

enum {
    FIRST_PLACES = 8,
    KNOWN_AFTER = 8, /* measured searches */
    WINDOW = 64,     /* the weight of the newest is 1 / so many, or more while there are fewer */
    K_MAX = 100,     /* deeper searches are measured so far only */
};
static const uint64_t pause_ns = 1000000000; /* between two searches that are kept */

struct place {
    uint32_t field, k, ef, nprobe, count;
    float target_recall;
    enum pdb_vector_form form;
    enum pdb_element_type element;
};

struct measured {
    struct pdb_field settings; /* under which; the name is not looked at */
    float target_recall;
    uint32_t count;
    double mean;
};

struct recall_samples {
    struct place *places; /* the vectors behind them: `stride` bytes each */
    char *vectors;
    size_t stride;
    uint64_t bytes;
    uint32_t capacity, limit;
    uint64_t noted;         /* searches ever kept; the last one is at (noted - 1) % limit */
    uint64_t unmeasured;    /* the first that was not measured, counted in the same way */
    uint64_t next_ns;       /* not before, once it is full */
    struct measured *known; /* of each field */
};

_Static_assert(PDB_FIELD_MAX <= 64, "fields are bits of a number");

/* ---- keeping ---- */

static struct recall_samples *make(const struct shard *shard)
{
    struct heap *heap = &shard->core->r->heap;
    struct recall_samples *samples = heap_calloc(heap, 1, sizeof(*samples));
    if (samples == NULL)
        return NULL;
    samples->known = heap_calloc(heap, shard->field_count, sizeof(struct measured));
    if (samples->known == NULL) {
        heap_free(heap, samples);
        return NULL;
    }
    /* as they are asked with: as float32, also where rows hold less */
    for (uint32_t i = 0; i < shard->field_count; i++) {
        size_t bytes = (size_t)shard->fields[i].dimension * sizeof(float);
        samples->stride = bytes > samples->stride ? bytes : samples->stride;
    }
    size_t limit = RECALL_SAMPLE_BYTES_MAX / samples->stride;
    samples->limit = limit < 1                    ? 1
                     : limit > RECALL_SAMPLES_MAX ? (uint32_t)RECALL_SAMPLES_MAX
                                                  : (uint32_t)limit;
    return samples;
}

/* Without room for more places the ring stays as large as it is. False: it has none. */
static bool stays(struct recall_samples *samples)
{
    samples->limit = samples->capacity != 0 ? samples->capacity : samples->limit;
    return samples->capacity != 0;
}

/* Room for one more, if the ring is not at its limit. */
static bool grow(struct shard *shard, struct recall_samples *samples)
{
    struct engine_core *core = shard->core;
    struct heap *heap = &core->r->heap;
    if (samples->noted < samples->capacity || samples->capacity == samples->limit)
        return true;
    uint32_t wanted = samples->capacity == 0 ? (uint32_t)FIRST_PLACES : samples->capacity * 2;
    wanted = wanted < samples->limit ? wanted : samples->limit;
    uint64_t bytes = wanted * (samples->stride + sizeof(struct place));
    if (core->recall_bytes - samples->bytes + bytes > RECALL_CORE_BYTES_MAX)
        return stays(samples);
    struct place *places = heap_realloc(heap, samples->places, wanted * sizeof(samples->places[0]));
    if (places == NULL)
        return stays(samples);
    samples->places = places;
    char *vectors = heap_realloc(heap, samples->vectors, wanted * samples->stride);
    if (vectors == NULL)
        return stays(samples);
    samples->vectors = vectors;
    core->recall_bytes += bytes - samples->bytes;
    samples->bytes = bytes;
    samples->capacity = wanted;
    return true;
}

static bool suits(const struct pdb_query *query)
{
    return !query->exact && query->filter.len == 0 && query->id.len == 0 &&
           query->vector.values != NULL && !query->has_min_score;
}

static size_t vector_bytes(enum pdb_vector_form form, uint32_t count)
{
    return form == PDB_VECTOR_BYTES ? count : count * sizeof(float);
}

void recall_note(struct shard *shard, const struct pdb_query *query, uint32_t field)
{
    struct recall_samples *samples = shard->recall;
    uint64_t now_ns = shard->core->r->now_ns;
    if ((samples != NULL && now_ns < samples->next_ns) || !suits(query))
        return;
    if (samples == NULL && (samples = shard->recall = make(shard)) == NULL)
        return;
    size_t bytes = vector_bytes(query->vector.form, query->vector.count);
    if (bytes > samples->stride || !grow(shard, samples))
        return;
    uint64_t at = samples->noted++ % samples->capacity;
    samples->places[at] = (struct place){.field = field,
                                         .k = query->k,
                                         .ef = query->ef,
                                         .nprobe = query->nprobe,
                                         .target_recall = query->target_recall,
                                         .form = query->vector.form,
                                         .element = query->vector.element,
                                         .count = query->vector.count};
    memcpy(samples->vectors + at * samples->stride, query->vector.values, bytes);
    if (samples->noted >= samples->limit)
        samples->next_ns = now_ns + pause_ns;
}

void recall_samples_free(struct shard *shard)
{
    struct recall_samples *samples = shard->recall;
    struct heap *heap = &shard->core->r->heap;
    if (samples == NULL)
        return;
    shard->core->recall_bytes -= samples->bytes;
    heap_free(heap, samples->places);
    heap_free(heap, samples->vectors);
    heap_free(heap, samples->known);
    heap_free(heap, samples);
    shard->recall = NULL;
}

/* ---- handing out ---- */

static int copy_sample(const struct recall_samples *samples, uint64_t number, struct arena *arena,
                       struct recall_sample *sample_out)
{
    uint64_t at = number % samples->capacity;
    const struct place *place = &samples->places[at];
    size_t bytes = vector_bytes(place->form, place->count);
    void *vector = arena_alloc_aligned(arena, bytes, 64);
    if (vector == NULL)
        return PDB_RESOURCE_EXHAUSTED;
    memcpy(vector, samples->vectors + at * samples->stride, bytes);
    *sample_out = (struct recall_sample){.field = place->field,
                                         .query = {.vector = {.values = vector,
                                                              .count = place->count,
                                                              .form = place->form,
                                                              .element = place->element},
                                                   .k = place->k < K_MAX ? place->k : K_MAX,
                                                   .ef = place->ef,
                                                   .nprobe = place->nprobe,
                                                   .target_recall = place->target_recall}};
    return 0;
}

/* The number of the oldest that is still there. */
static uint64_t oldest(const struct recall_samples *samples)
{
    return samples->noted > samples->capacity ? samples->noted - samples->capacity : 0;
}

int recall_recent(const struct shard *shard, uint32_t field, struct arena *arena, uint32_t max,
                  struct recall_sample **samples_out, uint32_t *count_out)
{
    const struct recall_samples *samples = shard->recall;
    uint32_t count = 0;
    struct recall_sample *found = arena_array(arena, struct recall_sample, max);
    if (found == NULL)
        return PDB_RESOURCE_EXHAUSTED;
    for (uint64_t n = samples != NULL ? samples->noted : 0;
         samples != NULL && n > oldest(samples) && count < max; n--) {
        if (samples->places[(n - 1) % samples->capacity].field != field)
            continue;
        if (copy_sample(samples, n - 1, arena, &found[count]) < 0)
            return PDB_RESOURCE_EXHAUSTED;
        count++;
    }
    *samples_out = found;
    *count_out = count;
    return 0;
}

bool recall_has_unmeasured(const struct shard *shard)
{
    return shard->recall != NULL && shard->recall->unmeasured < shard->recall->noted;
}

int recall_take_unmeasured(struct shard *shard, uint64_t fields, struct arena *arena,
                           struct recall_sample *sample_out)
{
    struct recall_samples *samples = shard->recall;
    if (!recall_has_unmeasured(shard))
        return 0;
    if (samples->unmeasured < oldest(samples))
        samples->unmeasured = oldest(samples);
    while (samples->unmeasured < samples->noted) {
        uint64_t number = samples->unmeasured++;
        if ((fields >> samples->places[number % samples->capacity].field & 1) == 0)
            continue;
        int rc = copy_sample(samples, number, arena, sample_out);
        return rc < 0 ? rc : 1;
    }
    return 0;
}

/* ---- what was measured ---- */

static bool same_settings(const struct measured *m, const struct shard *shard, uint32_t field)
{
    const struct pdb_field *a = &m->settings, *b = &shard->entry->config.fields[field];
    float target = shard->entry->config.target_recall;
    return a->index == b->index && a->quantization == b->quantization && a->hnsw_m == b->hnsw_m &&
           a->ef_construction == b->ef_construction && a->ivf_lists == b->ivf_lists &&
           a->quantization_bits == b->quantization_bits &&
           memcmp(&m->target_recall, &target, sizeof(target)) == 0;
}

void recall_add(struct shard *shard, uint32_t field, double recall)
{
    if (shard->recall == NULL || shard->entry == NULL)
        return;
    struct measured *m = &shard->recall->known[field];
    if (!same_settings(m, shard, field))
        *m = (struct measured){.settings = shard->entry->config.fields[field],
                               .target_recall = shard->entry->config.target_recall};
    m->settings.name = (struct pdb_text){NULL, 0}; /* it goes with the entry */
    m->count += m->count < WINDOW;
    m->mean += (recall - m->mean) / m->count;
}

bool recall_known(const struct shard *shard, uint32_t field, float *recall_out)
{
    if (shard->recall == NULL || shard->entry == NULL ||
        shard->recall->known[field].count < KNOWN_AFTER ||
        !same_settings(&shard->recall->known[field], shard, field))
        return false;
    *recall_out = (float)shard->recall->known[field].mean;
    return true;
}
