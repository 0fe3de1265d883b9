/* index.c: approximate search over an array, without a database.
 *
 *     cc index.c $(pkg-config --cflags --libs proximadb) && ./a.out my.index
 *
 * It makes an index of random vectors, saves it, maps it, and searches with and without a filter.
 */
#include <proximadb/index.h>

#include <stdio.h>
#include <stdlib.h>

enum { ROWS = 5000, DIMENSION = 64, K = 5 };

static void give_up(const char *what, const struct pdb_error *error)
{
    (void)fprintf(stderr, "%s: %s: %s\n", what, pdb_error_name(error->code), error->text);
    exit(1);
}

static float *random_vectors(void)
{
    float *vectors = malloc(sizeof(float) * ROWS * DIMENSION);
    uint32_t state = 1;
    if (vectors == NULL)
        exit(1);
    for (size_t i = 0; i < (size_t)ROWS * DIMENSION; i++) {
        state = state * 1664525u + 1013904223u;
        vectors[i] = (float)(state >> 8) / 16777216.0f - 0.5f;
    }
    return vectors;
}

static void make_file(const float *vectors, const char *path)
{
    struct pdb_index_options options = {.metric = PDB_METRIC_COSINE, .dimension = DIMENSION};
    struct pdb_index *index = NULL;
    struct pdb_error error;
    options.type = PDB_INDEX_HNSW;
    options.vectors = PDB_INDEX_VECTORS_REFERENCE; /* saved with the index all the same */
    if (pdb_index_build(&options, vectors, 0, ROWS, &index, &error) < 0)
        give_up("build", &error);
    if (pdb_index_save(index, path, &error) < 0)
        give_up("save", &error);
    pdb_index_destroy(index);
}

static bool is_even(void *arg, uint32_t row)
{
    (void)arg;
    return row % 2 == 0;
}

static void search(struct pdb_index_searcher *searcher, const struct pdb_index_query *query)
{
    struct pdb_index_hit hits[K];
    struct pdb_index_result result;
    struct pdb_error error;
    if (pdb_index_search(searcher, query, hits, &result, &error) < 0)
        give_up("search", &error);
    for (uint32_t i = 0; i < result.count; i++)
        (void)printf("  row %u, score %.4f\n", hits[i].row, (double)hits[i].score);
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        (void)fprintf(stderr, "usage: %s FILE\n", argv[0]);
        return 2;
    }
    float *vectors = random_vectors();
    make_file(vectors, argv[1]);

    struct pdb_index *index = NULL;
    struct pdb_index_searcher *searcher = NULL; /* one for each thread that searches */
    struct pdb_error error;
    if (pdb_index_load(argv[1], PDB_INDEX_LOAD_MAP, &index, &error) < 0 ||
        pdb_index_searcher_open(index, &searcher, &error) < 0)
        give_up("load", &error);
    struct pdb_index_query query = {.vector = vectors, .k = K};
    (void)printf("nearest to row 0:\n");
    search(searcher, &query);
    query.accepts = is_even;
    (void)printf("among even rows:\n");
    search(searcher, &query);
    query.exact = true;
    (void)printf("and exactly:\n");
    search(searcher, &query);

    pdb_index_searcher_close(searcher);
    pdb_index_destroy(index);
    free(vectors);
    return 0;
}
