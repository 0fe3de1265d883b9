/* Tests src/engine/validate_index.c: what may be asked of an index, and where a mistake is said to
 * be. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/text.h"
#include "engine/validate.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

struct field_row {
    struct pdb_field field;
    const char *says; /* NULL: it is valid */
};

static void each_parameter_belongs_to_its_type_and_range(void **state)
{
    (void)state;
    static const struct field_row rows[] = {
        {{.index = PDB_INDEX_AUTO}, NULL},
        {{.index = PDB_INDEX_AUTO, .hnsw_m = 16, .ef_construction = 8}, NULL},
        {{.index = PDB_INDEX_HNSW, .hnsw_m = 4, .ef_construction = 2000}, NULL},
        {{.index = PDB_INDEX_HNSW, .hnsw_m = 32}, NULL},
        {{.index = PDB_INDEX_IVF, .ivf_lists = 65536}, NULL},
        {{.index = PDB_INDEX_FLAT, .quantization = PDB_QUANTIZATION_SQ8}, NULL},
        {{.quantization = PDB_QUANTIZATION_BINARY}, NULL},
        {{.quantization = PDB_QUANTIZATION_BINARY, .quantization_bits = 8}, NULL},
        {{.metric = PDB_METRIC_HAMMING, .index = PDB_INDEX_HNSW, .hnsw_m = 6}, NULL},
        {{.metric = PDB_METRIC_MANHATTAN,
          .index = PDB_INDEX_IVF,
          .quantization = PDB_QUANTIZATION_NONE},
         NULL},
        {{.index = (enum pdb_index_type)4}, "index.type: expected one of auto, flat, hnsw, ivf"},
        {{.index = PDB_INDEX_HNSW, .hnsw_m = 2},
         "index.m: expected an even number from 4 to 32, found 2"},
        {{.index = PDB_INDEX_HNSW, .hnsw_m = 34},
         "index.m: expected an even number from 4 to 32, found 34"},
        {{.index = PDB_INDEX_HNSW, .hnsw_m = 15},
         "index.m: expected an even number from 4 to 32, found 15"},
        {{.index = PDB_INDEX_HNSW, .ef_construction = 7},
         "index.ef_construction: expected 8 to 2000, found 7"},
        {{.index = PDB_INDEX_HNSW, .ef_construction = 2001},
         "index.ef_construction: expected 8 to 2000, found 2001"},
        {{.index = PDB_INDEX_IVF, .ivf_lists = 65537},
         "index.nlist: expected 1 to 65536, found 65537"},
        {{.index = PDB_INDEX_HNSW, .ivf_lists = 8}, "index.nlist: only of the type ivf"},
        {{.index = PDB_INDEX_AUTO, .ivf_lists = 8}, "index.nlist: only of the type ivf"},
        {{.index = PDB_INDEX_IVF, .hnsw_m = 8}, "index.m: only of the types hnsw and auto"},
        {{.index = PDB_INDEX_FLAT, .ef_construction = 8},
         "index.ef_construction: only of the types hnsw and auto"},
        {{.quantization = (enum pdb_quantization_type)6},
         "quantization.type: expected one of auto, none, sq8, sq4, pq, binary"},
        {{.quantization = PDB_QUANTIZATION_BINARY, .quantization_bits = 9},
         "quantization.bits: expected 1 to 8, found 9"},
        {{.quantization = PDB_QUANTIZATION_PQ, .quantization_bits = 4},
         "quantization.bits: only of the type binary"},
        {{.metric = PDB_METRIC_HAMMING, .quantization = PDB_QUANTIZATION_BINARY},
         "quantization.type: expected auto or none, as the metric is hamming"},
        {{.metric = PDB_METRIC_MANHATTAN, .quantization = PDB_QUANTIZATION_SQ8},
         "quantization.type: expected auto or none, as the metric is manhattan"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct trail trail = {0};
        char expected[128];
        int rc = validate_field_index(&rows[i].field, "fields[7].", &trail);
        const char *says = rows[i].says != NULL ? rows[i].says : "";
        assert_int_equal(rc, says[0] == '\0' ? 0 : PDB_INVALID_ARGUMENT);
        (void)snprintf(expected, sizeof(expected), "%s%s", says[0] == '\0' ? "" : "fields[7].",
                       says);
        assert_string_equal(trail.text, expected);
    }
}

static void a_recall_is_half_to_whole_or_the_default(void **state)
{
    (void)state;
    static const float good[] = {0, 0.5f, 0.97f, 1}, bad[] = {0.49f, 1.01f, -0.5f, NAN, INFINITY};
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        struct trail trail = {0};
        assert_int_equal(validate_target_recall(good[i], &trail), 0);
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct trail trail = {0};
        assert_int_equal(validate_target_recall(bad[i], &trail), PDB_INVALID_ARGUMENT);
        assert_string_equal(trail.text, "target_recall: expected 0.5 to 1");
    }
}

static void a_search_says_at_most_one_thing_of_how_hard_it_looks(void **state)
{
    (void)state;
    static const struct {
        struct pdb_query query;
        const char *says;
    } rows[] = {
        {{.k = 1}, NULL},
        {{.ef = PDB_EF_MAX}, NULL},
        {{.nprobe = PDB_NPROBE_MAX}, NULL},
        {{.target_recall = 0.5f}, NULL},
        {{.exact = true}, NULL},
        {{.ef = PDB_EF_MAX + 1}, "params.ef: expected 1 to 16384, found 16385"},
        {{.nprobe = PDB_NPROBE_MAX + 1}, "params.nprobe: expected 1 to 65536, found 65537"},
        {{.target_recall = 0.4f}, "params.target_recall: expected 0.5 to 1"},
        {{.target_recall = NAN}, "params.target_recall: expected 0.5 to 1"},
        {{.ef = 1, .nprobe = 1}, "params: at most one of ef, nprobe and target_recall"},
        {{.ef = 1, .target_recall = 1}, "params: at most one of ef, nprobe and target_recall"},
        {{.nprobe = 1, .target_recall = 1}, "params: at most one of ef, nprobe and target_recall"},
        {{.ef = 1, .exact = true}, "params: exact goes without ef, nprobe and target_recall"},
        {{.target_recall = 1, .exact = true},
         "params: exact goes without ef, nprobe and target_recall"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct trail trail = {0};
        int rc = validate_search_params(&rows[i].query, "params", &trail);
        assert_int_equal(rc, rows[i].says == NULL ? 0 : PDB_INVALID_ARGUMENT);
        assert_string_equal(trail.text, rows[i].says == NULL ? "" : rows[i].says);
    }
}

static void a_change_names_a_field_once_and_leaves_it_valid(void **state)
{
    (void)state;
    static const struct pdb_field fields[] = {
        {.name = {"a", 1}, .metric = PDB_METRIC_COSINE, .hnsw_m = 8},
        {.name = {"b", 1}, .metric = PDB_METRIC_HAMMING}};
    static const struct pdb_collection_config config = {.fields = fields, .field_count = 2};
    static const struct {
        struct pdb_field_change changes[2];
        uint32_t count;
        const char *says;
    } rows[] = {
        {{{.name = {"b", 1}, .has_index = true, .index = PDB_INDEX_FLAT}}, 1, NULL},
        /* the old index's parameters go with it */
        {{{.name = {"a", 1}, .has_index = true, .index = PDB_INDEX_IVF}}, 1, NULL},
        {{{.name = {"a", 1}, .has_index = true}, {.name = {"b", 1}, .has_quantization = true}},
         2,
         NULL},
        {{{.name = {"b", 1}, .has_index = true},
          {.name = {"a", 1}, .has_index = true, .index = PDB_INDEX_HNSW, .hnsw_m = 1}},
         2,
         "fields[1].index.m: expected an even number from 4 to 32, found 1"},
        {{{.name = {"c", 1}, .has_index = true}},
         1,
         "fields[0].name: the collection has no vector field 'c'"},
        {{{.has_index = true}},
         1,
         "index: the collection has no default vector field; name one in fields"},
        {{{.has_quantization = true}},
         1,
         "quantization: the collection has no default vector field; name one in fields"},
        {{{.name = {"a", 1}, .has_index = true}, {.name = {"a", 1}, .has_quantization = true}},
         2,
         "fields: the vector field 'a' is given twice"},
        {{{.name = {"a", 1}}}, 1, "fields[0]: give index or quantization"},
        {{{.name = {"b", 1}, .has_quantization = true, .quantization = PDB_QUANTIZATION_BINARY}},
         1,
         "fields[0].quantization.type: expected auto or none, as the metric is hamming"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct trail trail = {0};
        int rc = validate_field_changes(&config, rows[i].changes, rows[i].count, &trail);
        assert_string_equal(trail.text, rows[i].says == NULL ? "" : rows[i].says);
        assert_int_equal(rc, rows[i].says == NULL ? 0 : PDB_INVALID_ARGUMENT);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_parameter_belongs_to_its_type_and_range),
        cmocka_unit_test(a_recall_is_half_to_whole_or_the_default),
        cmocka_unit_test(a_search_says_at_most_one_thing_of_how_hard_it_looks),
        cmocka_unit_test(a_change_names_a_field_once_and_leaves_it_valid),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
