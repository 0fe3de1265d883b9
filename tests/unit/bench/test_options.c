/* bench/options.c */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "bench/options.h"

#include <string.h>

enum { ARGC_MAX = 20 };

static int parse(struct options *options, const char *line, struct trail *trail)
{
    static char copy[512];
    char *argv[ARGC_MAX] = {copy};
    int argc = 1;
    char *rest = NULL;
    assert_true(strlen(line) < sizeof(copy));
    (void)strcpy(copy, line);
    for (char *word = strtok_r(copy, " ", &rest); word != NULL; word = strtok_r(NULL, " ", &rest)) {
        assert_true(argc < ARGC_MAX);
        argv[argc++] = word;
    }
    trail_reset(trail);
    return options_parse(options, argc, argv, trail);
}

static void both_ways_to_give_a_value_work(void **state)
{
    (void)state;
    struct options options;
    struct trail trail;
    assert_int_equal(parse(&options,
                           "load --url=h:1 --protocol rest2 --batch 7 --rate=2.5 --drop --format "
                           "avro --metric manhattan --seed 9e3",
                           &trail),
                     0);
    assert_int_equal(options.command, COMMAND_LOAD);
    assert_string_equal(options.url, "h:1");
    assert_int_equal(options.protocol, PROTOCOL_REST2);
    assert_int_equal(options.batch, 7);
    assert_true(options.rate == 2.5);
    assert_true(options.drop && !options.recall);
    assert_int_equal(options_format(&options), ENCODE_AVRO);
    assert_int_equal(options.metric, PDB_METRIC_MANHATTAN);
    assert_int_equal(options.seed, 9000);
}

static void a_run_is_good_by_the_recall_that_its_searches_can_have(void **state)
{
    (void)state;
    struct options options;
    struct trail trail;
    assert_int_equal(parse(&options, "search --recall", &trail), 0);
    assert_true(options.min_recall == 0.95);
    assert_int_equal(parse(&options, "search --recall --exact", &trail), 0);
    assert_true(options.min_recall == 1);
    assert_int_equal(parse(&options, "search --recall --min-recall 0", &trail), 0);
    assert_true(options.min_recall == 0);
    assert_int_equal(parse(&options, "load --index ivf --quantization pq", &trail), 0);
    assert_int_equal(options.index, PDB_INDEX_IVF);
    assert_int_equal(options.quantization, PDB_QUANTIZATION_PQ);
}

static void the_natural_format_follows_the_protocol(void **state)
{
    (void)state;
    struct options options;
    struct trail trail;
    assert_int_equal(parse(&options, "load --protocol grpc", &trail), 0);
    assert_int_equal(options_format(&options), ENCODE_PACKED);
    assert_int_equal(parse(&options, "load --protocol rest", &trail), 0);
    assert_int_equal(options_format(&options), ENCODE_RECORDS);
    assert_int_equal(parse(&options, "load --protocol rest --format packed", &trail), 0);
    assert_int_equal(options_format(&options), ENCODE_PACKED);
}

static void what_is_wrong_is_refused_with_what_would_be_right(void **state)
{
    (void)state;
    static const struct {
        const char *line, *part;
    } wrong[] = {
        {"lod", "load, search"},
        {"load --wrong 1", "unknown option --wrong"},
        {"load --batch", "needs a value"},
        {"load --batch 0", "from 1 to 10000"},
        {"load --batch 10001", "from 1 to 10000"},
        {"load --batch 1.5", "whole number"},
        {"load --batch 0x10", "whole number"},
        {"load --batch 1k", "whole number"},
        {"load --rate nan", "number"},
        {"load --index tree", "must be one of auto|flat|hnsw|ivf"},
        {"search --exact --ef 10", "one of --exact, --ef, --nprobe and --target-recall"},
        {"search --target-recall 0.4", "0.5 to 1"},
        {"load --rate -1", "number"},
        {"load --protocol http", "grpc|rest|rest2"},
        {"load --protocol re", "grpc|rest|rest2"},
        {"load --sync often", "always, batch"},
        {"load --drop=yes", "takes no value"},
        {"load file", "is no option"},
        {"load --collection a/b", "is no name"},
        {"compare a.json", "two files"},
        {"compare a b c", "too much"},
        {"mixed", "--duration"},
        {"search --recall --filter {}", "--filter"},
    };
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        struct options options;
        struct trail trail;
        assert_int_equal(parse(&options, wrong[i].line, &trail), PDB_INVALID_ARGUMENT);
        assert_non_null(strstr(trail.text, wrong[i].part));
    }
}

static void there_are_never_more_threads_than_connections(void **state)
{
    (void)state;
    struct options options;
    struct trail trail;
    assert_int_equal(parse(&options, "load --connections 1 --threads 8", &trail), 0);
    assert_int_equal(options_threads(&options), 1);
    assert_int_equal(parse(&options, "load --connections 9 --threads 8", &trail), 0);
    assert_int_equal(options_threads(&options), 8);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_ways_to_give_a_value_work),
        cmocka_unit_test(a_run_is_good_by_the_recall_that_its_searches_can_have),
        cmocka_unit_test(the_natural_format_follows_the_protocol),
        cmocka_unit_test(what_is_wrong_is_refused_with_what_would_be_right),
        cmocka_unit_test(there_are_never_more_threads_than_connections),
    };
    return cmocka_run_group_tests_name("bench/options", tests, NULL, NULL);
}
