/* Seeded pseudo-random numbers (xoshiro256**, Blackman and Vigna, 2018): never for secrets. */
#ifndef BASE_RNG_H
#define BASE_RNG_H

#include <stdint.h>

struct rng {
    uint64_t state[4];
};

void rng_seed(struct rng *rng, uint64_t seed); /* any seed, also 0 */
uint64_t rng_next(struct rng *rng);
uint64_t rng_below(struct rng *rng, uint64_t bound); /* 0 <= result < bound, unbiased; bound > 0 */
double rng_unit(struct rng *rng);                    /* [0, 1) */
double rng_normal(struct rng *rng);                  /* mean 0, deviation 1 */

#endif
