/* Search: the k best records of a collection for a query vector. */
#ifndef PROXIMADB_SEARCH_H
#define PROXIMADB_SEARCH_H

#include <proximadb/record.h>

struct pdb_query {
    struct pdb_text field;    /* "" is the default field */
    struct pdb_vector vector; /* or: */
    /* len > 0: the stored record's vector; that record itself is left out */
    struct pdb_text id;
    uint32_t k;
    struct pdb_text filter; /* a document; len 0: all */
    unsigned include;       /* enum pdb_include */
    /* At most one of the three, none with `exact`. 0: the default */
    uint32_t ef;         /* of a graph: rows kept while walking, at most PDB_EF_MAX */
    uint32_t nprobe;     /* of lists: how many are scanned, at most PDB_NPROBE_MAX; more than
                            16384: all */
    float target_recall; /* 0.5 to 1: the cheapest search that finds so much of the true k best */
    bool exact;
    bool has_min_score;
    float min_score; /* for distances: the largest allowed */
};

struct pdb_hit {
    struct pdb_row row;
    float score;
};

struct pdb_hits {
    const struct pdb_hit *hits; /* best first */
    uint32_t count;
};

struct pdb_search {
    struct pdb_call call;
    struct pdb_text collection;
    const struct pdb_query *queries; /* all see the same version of the collection */
    uint32_t query_count;
    const char *query_path; /* for error texts: "" or "queries" */
    const struct pdb_field *fields_out;
    uint32_t field_count_out;
    const struct pdb_hits *results_out; /* query_count */
    uint64_t rows_scored_out; /* vectors compared for all queries, by their codes or whole */
};
PDB_API void pdb_search_start(struct pdb_search *s);

#endif
