/* Records against declared columns: what fits, and the exact message for what does not. */
#include "filter_fixture.h"

static const struct filter_column columns[] = {
    {{"s", 1}, PDB_COLUMN_STRING},        {{"i", 1}, PDB_COLUMN_INTEGER},
    {{"f", 1}, PDB_COLUMN_FLOAT},         {{"b", 1}, PDB_COLUMN_BOOLEAN},
    {{"d", 1}, PDB_COLUMN_DATETIME},      {{"sl", 2}, PDB_COLUMN_STRING_LIST},
    {{"il", 2}, PDB_COLUMN_INTEGER_LIST}, {{"fl", 2}, PDB_COLUMN_FLOAT_LIST},
    {{"g", 1}, PDB_COLUMN_GEO},           {{"t", 1}, PDB_COLUMN_TEXT},
    {{"x.y", 3}, PDB_COLUMN_INTEGER},
};

static void values_are_checked_against_their_columns(void **state)
{
    (void)state;
    static const char *const rows[][2] = {
        {"{}", ""},
        {"{\"s\":\"x\",\"i\":1,\"f\":1.5,\"b\":true,\"d\":\"2026-01-31T12:00:00Z\"}", ""},
        {"{\"sl\":[\"x\"],\"il\":[1,2],\"fl\":[1,2.5],\"g\":{\"lat\":1,\"lon\":-2.5},\"t\":\"\"}",
         ""},
        {"{\"s\":null,\"i\":null,\"f\":null,\"b\":null,\"d\":null,\"sl\":null,\"g\":null}", ""},
        {"{\"f\":3,\"other\":[1,\"x\"],\"sl\":[]}", ""},
        {"{\"x\":{\"y\":3}}", ""},
        {"{\"x\":3}", ""},
        {"{\"f\":\"x\"}", "metadata.f: expected float, found string"},
        {"{\"s\":5}", "metadata.s: expected string, found integer"},
        {"{\"i\":2.0}", "metadata.i: expected integer, found float"},
        {"{\"b\":0}", "metadata.b: expected boolean, found integer"},
        {"{\"t\":[]}", "metadata.t: expected text, found array"},
        {"{\"d\":5}", "metadata.d: expected datetime, found integer"},
        {"{\"d\":\"2026-13-31T12:00:00Z\"}",
         "metadata.d: expected datetime (RFC 3339, as 2026-01-31T12:00:00Z), found other text"},
        {"{\"sl\":\"x\"}", "metadata.sl: expected string[], found string"},
        {"{\"sl\":[\"x\",1]}", "metadata.sl[1]: expected string, found integer"},
        {"{\"sl\":[null]}", "metadata.sl[0]: expected string, found null"},
        {"{\"il\":[1,2.5]}", "metadata.il[1]: expected integer, found float"},
        {"{\"fl\":[1,\"x\"]}", "metadata.fl[1]: expected float, found string"},
        {"{\"g\":[1,2]}", "metadata.g: expected geo, found array"},
        {"{\"g\":{\"lat\":1}}",
         "metadata.g: geo needs exactly \"lat\" (-90..90) and \"lon\" (-180..180)"},
        {"{\"g\":{\"lat\":91,\"lon\":0}}",
         "metadata.g: geo needs exactly \"lat\" (-90..90) and \"lon\" (-180..180)"},
        {"{\"g\":{\"lat\":1,\"lon\":\"2\"}}",
         "metadata.g: geo needs exactly \"lat\" (-90..90) and \"lon\" (-180..180)"},
        {"{\"x\":{\"y\":\"3\"}}", "metadata.x.y: expected integer, found string"},
        {"{\"x.y\":\"3\"}", "metadata.x.y: expected integer, found string"},
    };
    struct arena arena = {0};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct trail trail = {0};
        int rc = filter_check_columns(document_of(&arena, rows[i][0]), columns,
                                      sizeof(columns) / sizeof(columns[0]), &trail);
        if (rc != (rows[i][1][0] != '\0' ? PDB_INVALID_ARGUMENT : 0) ||
            strcmp(trail.text, rows[i][1]) != 0)
            fail_msg("%s: %d, %s", rows[i][0], rc, trail.text);
    }
    arena_dispose(&arena);
}

static void empty_metadata_and_no_columns_pass(void **state)
{
    (void)state;
    assert_int_equal(filter_check_columns((struct pdb_text){0}, columns, 11, NULL), 0);
    assert_int_equal(filter_check_columns((struct pdb_text){0}, NULL, 0, NULL), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_are_checked_against_their_columns),
        cmocka_unit_test(empty_metadata_and_no_columns_pass),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
