/* URLs and credentials: what is understood, what is refused, and that no text shows a secret. */
#include "store/store_internal.h"

#include "store_fixture.h"

static void understood(const char *text, struct store_url *url)
{
    struct trail trail = {0};
    int rc = store_url_parse(text_of(text), fixture_getenv, &trail, url);
    if (rc != 0)
        fail_msg("%s: %s", text, trail.text);
}

static void refused(const char *text, const char *part_of_reason)
{
    struct store_url url;
    struct trail trail = {0};
    int rc = store_url_parse(text_of(text), fixture_getenv, &trail, &url);
    if (rc != PDB_INVALID_ARGUMENT || strstr(trail.text, part_of_reason) == NULL)
        fail_msg("%s: %d, '%s' instead of '%s'", text, rc, trail.text, part_of_reason);
}

static void a_folder_is_a_path_or_a_file_url(void **state)
{
    (void)state;
    struct store_url url;
    understood("/backup/with%20blank?", &url);
    assert_int_equal(url.scheme, STORE_FILE);
    assert_string_equal(url.path, "/backup/with%20blank?");
    understood("relative/folder", &url);
    assert_string_equal(url.path, "relative/folder");
    understood("file:///backup/a%20b", &url);
    assert_string_equal(url.path, "/backup/a b");
    refused("", "folder");
    refused("file://host/x", "absolute");
    refused("file:///x?y=z", "no options");
    refused("file:///x%2", "escape");
    refused("file:///x%zz", "escape");
    refused("file:///x%00y", "escape");
}

static void s3_names_bucket_prefix_and_region(void **state)
{
    (void)state;
    struct store_url url;
    fixture_environment = NULL;
    understood("s3://my-bucket/a/b/", &url);
    assert_string_equal(url.bucket, "my-bucket");
    assert_string_equal(url.prefix, "a/b/");
    assert_string_equal(url.region, "us-east-1");
    assert_string_equal(url.host, "my-bucket.s3.us-east-1.amazonaws.com");
    assert_false(url.path_style);
    assert_false(url.http);
    understood("s3://my.bucket?region=eu-west-3", &url);
    assert_string_equal(url.host, "s3.eu-west-3.amazonaws.com");
    assert_true(url.path_style);
    assert_string_equal(url.prefix, "");
    understood("s3://bucket/p?endpoint=http://127.0.0.1:9000/base/", &url);
    assert_true(url.path_style && url.http);
    assert_int_equal(url.port, 9000);
    assert_string_equal(url.base_path, "/base");
    understood("s3://bucket?endpoint=https%3A%2F%2Fminio.example%3A443&path_style=false", &url);
    assert_string_equal(url.host, "bucket.minio.example");
    assert_int_equal(url.port, 0);
    understood("s3://bucket?endpoint=http://[::1]:80", &url);
    assert_string_equal(url.host, "[::1]");
    assert_int_equal(url.port, 0);
}

static void the_environment_gives_what_the_url_does_not(void **state)
{
    (void)state;
    static const char *const environment[] = {"AWS_DEFAULT_REGION", "ap-south-1",
                                              "AWS_ENDPOINT_URL", "http://localhost:1", NULL};
    struct store_url url;
    fixture_environment = environment;
    understood("s3://bucket", &url);
    assert_string_equal(url.region, "ap-south-1");
    assert_string_equal(url.host, "localhost");
    understood("s3://bucket?region=eu-north-1&endpoint=http://127.0.0.2:2", &url);
    assert_string_equal(url.region, "eu-north-1");
    assert_string_equal(url.host, "127.0.0.2");
    understood("gs://bucket", &url);
    assert_string_equal(url.host, "storage.googleapis.com");
    fixture_environment = NULL;
}

static void google_and_azure_have_their_hosts(void **state)
{
    (void)state;
    struct store_url url;
    understood("gs://my_bucket.example/p", &url);
    assert_string_equal(url.host, "storage.googleapis.com");
    assert_true(url.path_style);
    understood("az://account1/container-1/p/q", &url);
    assert_string_equal(url.host, "account1.blob.core.windows.net");
    assert_string_equal(url.bucket, "container-1");
    assert_string_equal(url.prefix, "p/q/");
    understood("mem://test-1", &url);
    assert_string_equal(url.bucket, "test-1");
}

static void mistakes_are_named(void **state)
{
    (void)state;
    refused("ftp://host/x", "scheme");
    refused("s3://", "bucket");
    refused("s3://Bucket", "bucket");
    refused("s3://b", "bucket");
    refused("s3://a..b", "bucket");
    refused("s3://bucket/../x", "prefix");
    refused("s3://bucket//x", "prefix");
    refused("s3://bucket/.hidden", "prefix");
    refused("s3://bucket?nonsense=1", "unknown option 'nonsense'");
    refused("s3://bucket?region=eu_west", "region");
    refused("s3://bucket?region=", "region");
    refused("s3://bucket?path_style=yes", "true or false");
    refused("s3://bucket?endpoint=minio:9000", "http");
    refused("s3://bucket?endpoint=https://", "host");
    refused("s3://bucket?endpoint=https://a..b", "host");
    refused("s3://bucket?endpoint=https://h:0", "port");
    refused("s3://bucket?endpoint=https://h:65536", "port");
    refused("s3://bucket?endpoint=https://h/../x", "path");
    refused("s3://bucket?endpoint=https://[::1", "host");
    refused("s3://bucket?credentials=", "empty");
    refused("az://account", "container");
    refused("az://Account/container", "account");
    refused("mem://", "name");
    refused("mem://x?y", "no options");
}

static void other_machines_need_tls_and_link_local_ones_are_refused(void **state)
{
    (void)state;
    struct store_url url;
    refused("s3://bucket?endpoint=http://minio.example:9000", "plain http");
    refused("s3://bucket?endpoint=http://128.0.0.1", "plain http");
    understood("s3://bucket?endpoint=http://minio.example:9000&allow_http=true", &url);
    understood("s3://bucket?endpoint=http://127.255.0.1", &url);
    understood("s3://bucket?endpoint=http://[::ffff:127.0.0.1]", &url);
    static const char *const forbidden[] = {
        "169.254.169.254", "[fe80::1]",       "[fd00:ec2::254]", "[::ffff:169.254.169.254]",
        "0.0.0.0",         "255.255.255.255", "[ff02::1]",       "[febf::1]"};
    for (size_t i = 0; i < sizeof(forbidden) / sizeof(forbidden[0]); i++) {
        char text[128];
        (void)snprintf(text, sizeof(text), "s3://bucket?allow_http=true&endpoint=http://%s",
                       forbidden[i]);
        refused(text, "link-local");
        (void)snprintf(text, sizeof(text), "s3://bucket?endpoint=https://%s:443", forbidden[i]);
        refused(text, "link-local");
    }
    assert_false(store_host_forbidden("170.254.169.254"));
    assert_false(store_host_forbidden("s3.example"));
    assert_false(store_host_forbidden("[fec0::1]"));
}

static void secrets_in_urls_are_refused_and_not_shown(void **state)
{
    (void)state;
    static const char *const urls[] = {
        "s3://bucket?endpoint=https://user:hunter2@host",
        "s3://bucket?secret=hunter2",
        "s3://bucket?secret_access_key=hunter2&region=x",
        "s3://user:hunter2@bucket/x",
        "az://account/container?sig=hunter2",
    };
    for (size_t i = 0; i < sizeof(urls) / sizeof(urls[0]); i++) {
        struct store_url url;
        struct trail trail = {0};
        assert_int_equal(store_url_parse(text_of(urls[i]), fixture_getenv, &trail, &url),
                         PDB_INVALID_ARGUMENT);
        assert_null(strstr(trail.text, "hunter2"));
    }
}

static void keys_are_plain_parts(void **state)
{
    (void)state;
    char text[STORE_KEY_MAX + 2];
    static const char *const good[] = {"a", "a/b/c", "x.y", "_a/-b/~c", "wal=1/0000:1@2,3+4"};
    static const char *const bad[] = {"",     "/a",   "a/",  "a//b", ".",        "..",  "a/../b",
                                      "a/.b", "a\\b", "a b", "a%2f", "\xc3\xa4", "a\n", "a?b"};
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
        assert_int_equal(store_check_key(text_of(good[i]), NULL), 0);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(store_check_key(text_of(bad[i]), NULL), PDB_INVALID_ARGUMENT);
    assert_false(store_key_valid((struct pdb_text){"a\0b", 3}));
    memset(text, 'a', sizeof(text));
    for (size_t i = 100; i < sizeof(text); i += 100)
        text[i] = '/';
    assert_true(store_key_valid((struct pdb_text){text, STORE_KEY_MAX}));
    assert_false(store_key_valid((struct pdb_text){text, STORE_KEY_MAX + 1}));
    memset(text, 'a', STORE_PART_MAX + 1);
    assert_true(store_key_valid((struct pdb_text){text, STORE_PART_MAX}));
    assert_false(store_key_valid((struct pdb_text){text, STORE_PART_MAX + 1}));
    for (size_t i = 0; i < 2 * STORE_PARTS_MAX + 1; i++)
        text[i] = i % 2 == 0 ? 'a' : '/';
    assert_true(store_key_valid((struct pdb_text){text, 2 * STORE_PARTS_MAX - 1}));
    assert_false(store_key_valid((struct pdb_text){text, 2 * STORE_PARTS_MAX + 1}));
}

/* ---- credentials ---- */

static int parse_credentials(const char *url_text, const char *text, struct trail *trail,
                             struct store_credentials *c)
{
    struct store_url url;
    understood(url_text, &url);
    trail_reset(trail);
    return store_credentials_parse(&url, text_of(text), trail, c);
}

static void a_credentials_file_has_profiles(void **state)
{
    (void)state;
    static const char text[] = "# comment\n[default]\naws_access_key_id = A1\n"
                               "aws_secret_access_key=S1\r\n\n[ other ]\n"
                               "aws_access_key_id=A2\naws_secret_access_key=S2==\n"
                               "aws_session_token=T2\nazure_storage_key=no";
    struct store_credentials c;
    struct trail trail;
    assert_int_equal(parse_credentials("s3://bucket", text, &trail, &c), 0);
    assert_string_equal(c.id, "A1");
    assert_string_equal(c.secret, "S1");
    assert_string_equal(c.token, "");
    assert_int_equal(parse_credentials("s3://bucket?profile=other", text, &trail, &c), 0);
    assert_string_equal(c.id, "A2");
    assert_string_equal(c.secret, "S2==");
    assert_string_equal(c.token, "T2");
    assert_int_equal(parse_credentials("s3://bucket?profile=none", text, &trail, &c),
                     PDB_INVALID_ARGUMENT);
    assert_int_equal(parse_credentials("az://account/container?profile=other",
                                       "azure_storage_sas_token=?sv=1&sig=x", &trail, &c),
                     0);
    assert_string_equal(c.token, "sv=1&sig=x");
}

static void half_or_malformed_credentials_are_refused_unseen(void **state)
{
    (void)state;
    struct store_credentials c;
    struct trail trail;
    assert_int_equal(parse_credentials("s3://bucket", "aws_access_key_id=hunter2", &trail, &c),
                     PDB_INVALID_ARGUMENT);
    assert_null(strstr(trail.text, "hunter2"));
    assert_int_equal(parse_credentials("s3://bucket",
                                       "aws_access_key_id=a\naws_secret_access_key=hunter2 x",
                                       &trail, &c),
                     PDB_INVALID_ARGUMENT);
    assert_non_null(strstr(trail.text, "aws_secret_access_key"));
    assert_null(strstr(trail.text, "hunter2"));
}

static void the_environment_has_them_in_capitals(void **state)
{
    (void)state;
    static const char *const environment[] = {"AWS_ACCESS_KEY_ID",
                                              "A",
                                              "AWS_SECRET_ACCESS_KEY",
                                              "S",
                                              "AZURE_STORAGE_KEY",
                                              "Zm9v",
                                              "GOOGLE_OAUTH_ACCESS_TOKEN",
                                              "G",
                                              NULL};
    static const char *const urls[] = {"s3://bucket", "az://account/container", "gs://bucket"};
    for (size_t i = 0; i < 3; i++) {
        struct store_url url;
        struct store_credentials c;
        struct trail trail = {0};
        fixture_environment = NULL;
        understood(urls[i], &url);
        assert_int_equal(store_credentials_read(&url, fixture_getenv, &trail, &c),
                         PDB_INVALID_ARGUMENT);
        assert_non_null(strstr(trail.text, "no credentials"));
        fixture_environment = environment;
        assert_int_equal(store_credentials_read(&url, fixture_getenv, &trail, &c), 0);
        assert_true(c.secret[0] != '\0' || c.token[0] != '\0');
    }
    struct store_url url;
    struct store_credentials c;
    fixture_environment = NULL;
    understood("s3://bucket?anonymous=true", &url);
    assert_int_equal(store_credentials_read(&url, fixture_getenv, NULL, &c), 0);
    understood("s3://bucket?credentials=/nowhere/at/all", &url);
    assert_int_equal(store_credentials_read(&url, fixture_getenv, NULL, &c), PDB_NOT_FOUND);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_folder_is_a_path_or_a_file_url),
        cmocka_unit_test(s3_names_bucket_prefix_and_region),
        cmocka_unit_test(the_environment_gives_what_the_url_does_not),
        cmocka_unit_test(google_and_azure_have_their_hosts),
        cmocka_unit_test(mistakes_are_named),
        cmocka_unit_test(other_machines_need_tls_and_link_local_ones_are_refused),
        cmocka_unit_test(secrets_in_urls_are_refused_and_not_shown),
        cmocka_unit_test(keys_are_plain_parts),
        cmocka_unit_test(a_credentials_file_has_profiles),
        cmocka_unit_test(half_or_malformed_credentials_are_refused_unseen),
        cmocka_unit_test(the_environment_has_them_in_capitals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
