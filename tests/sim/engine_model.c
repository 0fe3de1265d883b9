#include "engine_model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void model_begin(struct model *m)
{
    struct batch *batches = m->batches;
    size_t capacity = m->capacity;
    bool weak = m->weak;
    *m = (struct model){.exists = true, .weak = weak, .batches = batches, .capacity = capacity};
}

void model_free(struct model *m)
{
    free(m->batches);
    *m = (struct model){0};
}

/* Older states are forgotten with time: then they are in `base`. */
static void forget_half(struct model *m)
{
    size_t half = m->count / 2;
    for (size_t i = 0; i < half; i++)
        m->base[m->batches[i].writer] = m->batches[i].after;
    m->visible_before = m->batches[half - 1].version;
    memmove(m->batches, m->batches + half, (m->count - half) * sizeof(*m->batches));
    m->count -= half;
}

void model_add(struct model *m, unsigned writer, uint64_t version, const struct slots *after)
{
    if (m->count == m->capacity && m->capacity >= 4096)
        forget_half(m);
    if (m->count == m->capacity) {
        size_t capacity = m->capacity != 0 ? 2 * m->capacity : 64;
        struct batch *batches = realloc(m->batches, capacity * sizeof(*batches));
        if (batches == NULL)
            abort();
        m->batches = batches;
        m->capacity = capacity;
    }
    size_t at = m->count++;
    for (; at > 0 && m->batches[at - 1].version > version; at--)
        m->batches[at] = m->batches[at - 1];
    m->batches[at] = (struct batch){version, writer, *after};
    if (version > m->told)
        m->told = version;
}

const struct slots *model_at(const struct model *m, unsigned writer, uint64_t version)
{
    for (size_t i = m->count; i-- > 0;)
        if (m->batches[i].version <= version && m->batches[i].writer == writer)
            return &m->batches[i].after;
    return &m->base[writer];
}

uint64_t model_newest(const struct model *m)
{
    return m->count != 0 ? m->batches[m->count - 1].version : m->visible_before;
}

static uint64_t newest_of(const struct model *m, unsigned writer)
{
    for (size_t i = m->count; i-- > 0;)
        if (m->batches[i].writer == writer)
            return m->batches[i].version;
    return 0;
}

/* ---- matching ---- */

static bool same_slot(const struct slot *known, const struct slot *found,
                      const struct reading *reading)
{
    if (!known->live)
        return !found->live;
    if (known->expires_at_us != 0 && known->expires_at_us <= reading->from_us)
        return !found->live;
    if (!found->live)
        return known->expires_at_us != 0 && known->expires_at_us <= reading->to_us;
    return known->vector == found->vector && known->number == found->number &&
           known->expires_at_us == found->expires_at_us &&
           (known->version == 0 || known->version == found->version);
}

static bool same_slots(const struct slots *known, const struct slots *found,
                       const struct reading *reading)
{
    for (unsigned i = 0; i < MODEL_SLOTS; i++)
        if (!same_slot(&known->at[i], &found->at[i], reading))
            return false;
    return true;
}

/* The version that a batch under way has got, by its rows; 0: none of them tells. */
static uint64_t version_of_tried(const struct model *m, unsigned writer, const struct slots *found)
{
    for (unsigned i = 0; i < MODEL_SLOTS; i++)
        if (m->tried[writer].at[i].live && m->tried[writer].at[i].version == 0 && found->at[i].live)
            return found->at[i].version;
    return 0;
}

/* A batch under way may be visible if all that came before it is. */
static bool tried_may_be_there(const struct model *m, unsigned writer, const struct slots *found,
                               uint64_t version)
{
    uint64_t tried = version_of_tried(m, writer, found);
    if (newest_of(m, writer) > version)
        return false;
    for (size_t i = 0; tried != 0 && i < m->count; i++)
        if (m->batches[i].version > version && m->batches[i].version < tried)
            return false;
    return true;
}

static bool writer_matches(const struct model *m, unsigned writer, const struct reading *reading,
                           uint64_t version)
{
    const struct slots *found = &reading->writers[writer];
    if (same_slots(model_at(m, writer, version), found, reading))
        return true;
    return m->maybe[writer] && same_slots(&m->tried[writer], found, reading) &&
           tried_may_be_there(m, writer, found, version);
}

bool model_matches_at(const struct model *m, const struct reading *reading, uint64_t version)
{
    for (unsigned w = 0; w < MODEL_WRITERS; w++)
        if (!writer_matches(m, w, reading, version))
            return false;
    return true;
}

bool model_matches(const struct model *m, const struct reading *reading, uint64_t least,
                   uint64_t *version_out)
{
    for (size_t i = m->count; i-- > 0 && m->batches[i].version >= least;) {
        if (model_matches_at(m, reading, m->batches[i].version)) {
            *version_out = m->batches[i].version;
            return true;
        }
    }
    *version_out = m->visible_before;
    return least <= m->visible_before && model_matches_at(m, reading, m->visible_before);
}

static void print_slot(const char *what, const struct slot *slot)
{
    if (slot->live)
        printf("  %s %g n=%d expires %lld v%llu", what, (double)slot->vector, slot->number,
               (long long)slot->expires_at_us, (unsigned long long)slot->version);
    else
        printf("  %s nothing", what);
}

void model_print(const struct model *m, const struct reading *reading, uint64_t version)
{
    printf("version %llu of %zu batches, the last %llu, told %llu, known from %llu, %s\n",
           (unsigned long long)version, m->count, (unsigned long long)model_newest(m),
           (unsigned long long)m->told, (unsigned long long)m->visible_before,
           m->weak ? "weak" : "strong");
    for (unsigned i = 0; i < MODEL_WRITERS * MODEL_SLOTS; i++) {
        unsigned writer = i / MODEL_SLOTS, at = i % MODEL_SLOTS;
        const struct slot *known = &model_at(m, writer, version)->at[at];
        const struct slot *found = &reading->writers[writer].at[at];
        if (same_slot(known, found, reading))
            continue;
        printf("w%u-%u:", writer, at);
        print_slot("found", found);
        print_slot("known", known);
        if (m->maybe[writer])
            print_slot("tried", &m->tried[writer].at[at]);
        printf("\n");
    }
}

/* ---- after a restart ---- */

/* Different versions may look the same: then nobody knows which batches are lost. */
static bool is_ambiguous(const struct model *m, const struct reading *reading, uint64_t version)
{
    for (size_t i = 0; i < m->count && m->batches[i].version < version; i++)
        if (model_matches_at(m, reading, m->batches[i].version))
            return true;
    return version > m->visible_before && model_matches_at(m, reading, m->visible_before);
}

void model_settle(struct model *m, const struct reading *reading, uint64_t version, uint64_t least,
                  uint64_t visible)
{
    bool unknown = least < version && is_ambiguous(m, reading, version);
    while (m->count != 0 && m->batches[m->count - 1].version > version)
        m->count--;
    for (unsigned w = 0; w < MODEL_WRITERS; w++) {
        const struct slots *found = &reading->writers[w];
        bool applied = m->maybe[w] && !same_slots(model_at(m, w, version), found, reading);
        m->maybe[w] = false;
        if (!applied)
            continue;
        uint64_t tried = version_of_tried(m, w, found);
        struct slots after = m->tried[w];
        for (unsigned i = 0; i < MODEL_SLOTS; i++)
            if (after.at[i].live && after.at[i].version == 0)
                after.at[i].version = tried;
        unknown = unknown || tried == 0;
        model_add(m, w, tried != 0 ? tried : visible, &after);
    }
    if (!unknown)
        return;
    /* A batch of deletes has told nobody its version, too: what is older cannot be compared. */
    for (size_t i = 0; i < m->count; i++)
        m->base[m->batches[i].writer] = m->batches[i].after;
    m->count = 0;
    m->visible_before = visible;
}
