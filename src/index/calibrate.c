/* calibrate.c: from a wish for recall to an effort.
 *
 * Two things cost recall: rows that the walk does not come by, and rows that it does come by but
 * codes rank too low. The first is bought off by effort, the second by re-ranking more candidates.
 * Both were measured together, so for each number of candidates there is a smallest effort that
 * meets the target, and the cheapest pair is taken. Where no walk meets it a scan of all codes is
 * the plan; where not even that does, codes are the limit. */
#include "index/calibrate.h"

#include "base/assert.h"

#include <math.h>

#include "base/no_libc_heap.h"

/* Re-ranking a candidate costs about so many distances by codes: four times the bytes, read once,
 * from wherever. */
static const float rerank_cost = 4.0f;

/* One standard error less would miss a target by .01 now and then, with small segments, which have
 * few queries; with large ones the rest is small. */
static const float errors_less = 1.5f;

/* No index has a larger effort; for PDB_K_MAX results a hundred times as much is an integer yet. */
static const float effort_max = 1e7f;

static float sure(const struct calibration_recall *recall, uint32_t want)
{
    return recall->recall[want] - errors_less * recall->error[want];
}

struct solution {
    float effort, cost;
};

/* The smallest effort for the i-th k with the j-th number of candidates. */
static bool solve(const struct calibration *c, uint32_t i, uint32_t j, float target,
                  struct solution *solution_out)
{
    uint32_t step = 0;
    while (step < c->step_count && sure(&c->points[i][step].recall, j) < target)
        step++;
    if (step == c->step_count)
        return false;
    struct solution found = {c->efforts[step], c->points[i][step].distances};
    if (step > 0) {
        const struct calibration_point *low = &c->points[i][step - 1], *high = low + 1;
        float below = sure(&low->recall, j), above = sure(&high->recall, j);
        float share = (target - below) / (above - below); /* below < target <= above */
        found.effort = c->efforts[step - 1] + share * (c->efforts[step] - c->efforts[step - 1]);
        found.cost = low->distances + share * (high->distances - low->distances);
    }
    *solution_out = found;
    return true;
}

/* The measured k on both sides of k, and how far it is from the first to the second. */
static float bracket(uint32_t k, uint32_t *low_out, uint32_t *high_out)
{
    uint32_t i = 0;
    while (i + 1 < CALIBRATION_KS && calibration_ks[i + 1] <= k)
        i++;
    *low_out = i;
    *high_out = i + 1 < CALIBRATION_KS && calibration_ks[i] < k ? i + 1 : i;
    if (*high_out == i)
        return 0;
    return logf((float)k / (float)calibration_ks[i]) /
           logf((float)calibration_ks[i + 1] / (float)calibration_ks[i]);
}

static uint32_t want_of(uint32_t k, uint32_t j)
{
    return index_want(k) << j;
}

/* Where no scan was measured: as few candidates as found most at the end of the largest walk. */
static uint32_t want_of_walk(const struct calibration *c, uint32_t low, uint32_t high)
{
    uint32_t j = 0;
    if (c->step_count == 0)
        return 0;
    const float *a = c->points[low][c->step_count - 1].recall.recall;
    const float *b = c->points[high][c->step_count - 1].recall.recall;
    while (j < CALIBRATION_WANTS - 1 && (a[j + 1] > a[j] || b[j + 1] > b[j]))
        j++;
    return j;
}

static void choose_scan(const struct calibration *c, uint32_t low, uint32_t high, uint32_t k,
                        float target, struct calibration_choice *choice)
{
    const bool known = (c->flags & CALIBRATION_SCANNED) != 0;
    uint32_t j = known ? 0 : want_of_walk(c, low, high);
    while (known && j < CALIBRATION_WANTS - 1 &&
           (sure(&c->scan[low], j) < target || sure(&c->scan[high], j) < target))
        j++;
    choice->scan = true;
    choice->want = want_of(k, j);
    choice->met = known && sure(&c->scan[low], j) >= target && sure(&c->scan[high], j) >= target;
}

void calibration_choose(const struct calibration *calibration, uint32_t k, float target,
                        struct calibration_choice *choice_out)
{
    const struct calibration *c = calibration;
    uint32_t low, high;
    float share = bracket(k, &low, &high), least = INFINITY;
    struct calibration_choice choice = {.want = want_of(k, 0)};
    ASSERT(c->query_count > 0 && k > 0);
    for (uint32_t j = 0; j < CALIBRATION_WANTS; j++) {
        struct solution a, b;
        if (!solve(c, low, j, target, &a) || !solve(c, high, j, target, &b))
            continue;
        float cost = a.cost + share * (b.cost - a.cost) + rerank_cost * (float)want_of(k, j);
        if (cost >= least)
            continue;
        least = cost;
        choice.effort = a.effort + share * (b.effort - a.effort);
        choice.want = want_of(k, j);
        choice.met = true;
    }
    const uint32_t most = calibration_ks[CALIBRATION_KS - 1];
    if (choice.met && c->effort_kind != EFFORT_GAMMA && k > most)
        choice.effort *= (float)k / (float)most;
    if (!choice.met)
        choose_scan(c, low, high, k, target, &choice);
    *choice_out = choice;
}

/* Between the two measured efforts that the chosen one lies between. */
float calibration_expected(const struct calibration *calibration, float target)
{
    enum { OF_TEN = 1 };
    const struct calibration *c = calibration;
    const uint32_t k = calibration_ks[OF_TEN];
    struct calibration_choice choice;
    calibration_choose(c, k, target, &choice);
    uint32_t j = 0, above = 0;
    while (j + 1 < CALIBRATION_WANTS && want_of(k, j + 1) <= choice.want)
        j++;
    if (choice.scan)
        return c->scan[OF_TEN].recall[j];
    while (above + 1 < c->step_count && c->efforts[above] < choice.effort)
        above++;
    const float high = c->points[OF_TEN][above].recall.recall[j];
    if (above == 0 || !(c->efforts[above] > choice.effort))
        return high;
    const float low = c->points[OF_TEN][above - 1].recall.recall[j];
    const float share =
        (choice.effort - c->efforts[above - 1]) / (c->efforts[above] - c->efforts[above - 1]);
    return low + share * (high - low);
}

static bool recall_is_sound(const struct calibration_recall *recall)
{
    for (uint32_t j = 0; j < CALIBRATION_WANTS; j++)
        if (!(recall->recall[j] >= 0 && recall->recall[j] <= 1 && recall->error[j] >= 0 &&
              recall->error[j] <= 1))
            return false;
    return true;
}

bool calibration_is_sound(const struct calibration *calibration)
{
    const struct calibration *c = calibration;
    if (c->step_count > CALIBRATION_STEPS || c->effort_kind > EFFORT_PROBES)
        return false;
    for (uint32_t step = 0; step < c->step_count; step++) {
        const float before = step > 0 ? c->efforts[step - 1] : 0;
        if (!(c->efforts[step] > before && c->efforts[step] < effort_max))
            return false;
    }
    for (uint32_t i = 0; i < CALIBRATION_KS; i++) {
        if (!recall_is_sound(&c->scan[i]))
            return false;
        for (uint32_t step = 0; step < CALIBRATION_STEPS; step++)
            if (!recall_is_sound(&c->points[i][step].recall) ||
                !(c->points[i][step].distances >= 0 && c->points[i][step].distances < 1e18f))
                return false;
    }
    return true;
}
