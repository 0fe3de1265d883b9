/* What was measured about an index when it was made: how much of the truth a search of some effort
 * finds. By it a wish for recall becomes an effort.
 *
 * Effort is one number, which depends on the index: gamma, where distances are true ones and a walk
 * stops by it; the width `ef` of a walk else; the number of lists probed. Measured with rows that
 * the index did not have at the time (an index's own rows are found too easily), for three k, and
 * for more and more candidates re-ranked, since codes err, too.
 *
 * The struct is on disk as it is: docs/formats/index.md. */
#ifndef INDEX_CALIBRATE_H
#define INDEX_CALIBRATE_H

#include <stdbool.h>
#include <stdint.h>

enum {
    CALIBRATION_KS = 3, /* k = 1, 10, 100 */
    CALIBRATION_STEPS = 16,
    CALIBRATION_WANTS = 5,
    CALIBRATION_EF = 4096, /* cap of walks whose effort is gamma */
};

/* Candidates to re-rank for k results: what codes get wrong about order. */
static inline uint32_t index_want(uint32_t k)
{
    return k + (k < 10 ? 2 : k / 5);
}

/* Numbers are on disk. */
enum calibration_effort { EFFORT_NONE = 0, EFFORT_GAMMA = 1, EFFORT_EF = 2, EFFORT_PROBES = 3 };

enum calibration_flag {
    CALIBRATION_SCANNED = 1, /* `scan` was measured, too */
    /* Codes find too little even by a scan of them all with many candidates re-ranked: such rows
     * should be searched exactly. */
    CALIBRATION_UNFIT = 2,
};

/* Of index_want(k) << j candidates re-ranked: mean recall and its standard error. */
struct calibration_recall {
    float recall[CALIBRATION_WANTS], error[CALIBRATION_WANTS];
};

struct calibration_point {
    float distances; /* rows scored, on average; at least, where the walk ended early */
    struct calibration_recall recall;
};

struct calibration {
    uint32_t query_count; /* 0: nothing was measured, and nothing else counts */
    uint32_t effort_kind;
    uint32_t step_count;
    uint32_t flags;
    float efforts[CALIBRATION_STEPS]; /* ascending */
    struct calibration_point points[CALIBRATION_KS][CALIBRATION_STEPS];
    struct calibration_recall scan[CALIBRATION_KS]; /* of all codes */
};
_Static_assert(sizeof(struct calibration) == 2312, "on disk, see docs/formats/index.md");

static const uint32_t calibration_ks[CALIBRATION_KS] = {1, 10, 100};

/* How to search for k results of which a share `target` is to be right. */
struct calibration_choice {
    float effort;  /* unless scan */
    uint32_t want; /* candidates to re-rank */
    bool scan;     /* of all codes */
    bool met;      /* false: nothing measured reaches the target; this is the most */
};

/* Takes the smallest effort whose recall less 1.5 standard errors meets the target, interpolated
 * between efforts and in log k. The calibration has measured something. */
void calibration_choose(const struct calibration *calibration, uint32_t k, float target,
                        struct calibration_choice *choice_out);

/* The mean recall measured at k = 10 for what is chosen for this target; 0: it is a scan, and that
 * was not measured. As above. */
float calibration_expected(const struct calibration *calibration, float target);

/* Whether all numbers are possible ones; of bytes from outside. */
bool calibration_is_sound(const struct calibration *calibration);

#endif
