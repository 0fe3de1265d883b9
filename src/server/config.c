/* config.c: the order of things.
 *
 *     flags are read first (one of them names the file), applied last
 *     defaults   every row's text, through the same parser as the environment's
 *     file       sections and keys, each checked as it comes
 *     environment
 *     flags
 *     rules      what concerns more than one key
 *
 * A value that a stronger source replaces is still checked: a wrong line in the file must not wait
 * for the day on which a variable disappears.
 *
 * Variables that begin with PROXIMADB_ but have no double underscore are left alone: PROXIMADB_SIMD
 * belongs to the kernels, and orchestrators make PROXIMADB_PORT, PROXIMADB_SERVICE_HOST and the
 * like for a service of that name.
 *
 * The file is read with plain system calls: the I/O table exists only after the configuration that
 * chooses it.
 */
#include "server/config_internal.h"

#include "base/assert.h"

#include <errno.h>
#include <fcntl.h>
#include <stdalign.h>
#include <stdio.h>
#include <unistd.h>

#include "base/no_libc_heap.h"

enum { FLAG_MAX = 64 };

struct given_flag {
    const struct config_row *row;
    const char *value;
};

struct loader {
    struct arena *arena;
    struct trail *trail;
    struct config config;
    struct given_flag flags[FLAG_MAX];
    size_t flag_count;
};

static int no_memory(struct loader *l)
{
    return trail_add(l->trail, PDB_RESOURCE_EXHAUSTED, "configuration: out of memory");
}

static void set(struct loader *l, const struct config_row *row, const struct config_value *value,
                enum config_source source, uint32_t line)
{
    config_store(&l->config, row, value);
    l->config.origins[row - config_rows] = (struct config_origin){source, line};
}

/* ---- flags ---- */

static const char *const flag_names[] = {"--config", "--data-dir",     "--listen",
                                         "--cores",  "--print-config", NULL};

static const struct config_row *find_flag(const char *name, size_t len)
{
    for (size_t i = 0; i < config_row_count; i++) {
        const char *flag = config_rows[i].flag;
        if (flag != NULL && strlen(flag) == len && memcmp(flag, name, len) == 0)
            return &config_rows[i];
    }
    return NULL;
}

static int refuse_argument(struct loader *l, const char *argument)
{
    if (argument[0] != '-')
        return trail_add(l->trail, PDB_INVALID_ARGUMENT,
                         "unexpected argument '%.80s'; flags begin with --", argument);
    if (strncmp(argument, "--print-config=", strlen("--print-config=")) == 0)
        return trail_add(l->trail, PDB_INVALID_ARGUMENT, "--print-config: takes no value");
    char name[CONFIG_NAME_SIZE];
    (void)snprintf(name, sizeof name, "%.*s", (int)strcspn(argument, "="), argument);
    const char *near = config_nearest(name, flag_names);
    return trail_add(l->trail, PDB_INVALID_ARGUMENT, "unknown flag '%s'%s%s%s", name,
                     near != NULL
                         ? "; did you mean '"
                         : "; there are --config, --data-dir, --listen, --cores, --print-config",
                     near != NULL ? near : "", near != NULL ? "'?" : "");
}

/* One flag and its value; only --listen may be given twice. */
static int take_flag(struct loader *l, const char *flag, size_t flag_len, const char *value)
{
    if (flag_len == strlen("--config") && memcmp(flag, "--config", flag_len) == 0) {
        if (l->config.file_path != NULL)
            return trail_add(l->trail, PDB_INVALID_ARGUMENT, "--config: given twice");
        if (*value == '\0')
            return trail_add(l->trail, PDB_INVALID_ARGUMENT,
                             "--config: expected the path of a file");
        l->config.file_path = arena_copy_text(l->arena, value, strlen(value)).ptr;
        return l->config.file_path == NULL ? no_memory(l) : 0;
    }
    const struct config_row *row = find_flag(flag, flag_len);
    for (size_t i = 0; i < l->flag_count; i++) {
        if (l->flags[i].row == row && row->kind != CONFIG_LIST)
            return trail_add(l->trail, PDB_INVALID_ARGUMENT, "%s: given twice", row->flag);
    }
    if (l->flag_count == FLAG_MAX)
        return trail_add(l->trail, PDB_INVALID_ARGUMENT, "more than %d flags", FLAG_MAX);
    l->flags[l->flag_count++] = (struct given_flag){row, value};
    return 0;
}

static int read_flags(struct loader *l, const struct config_start *start)
{
    for (size_t i = 0; i < start->argument_count; i++) {
        const char *argument = start->arguments[i];
        if (strcmp(argument, "--print-config") == 0) {
            l->config.print = true;
            continue;
        }
        size_t len = strcspn(argument, "=");
        bool is_config = len == strlen("--config") && memcmp(argument, "--config", len) == 0;
        if (!is_config && find_flag(argument, len) == NULL)
            return refuse_argument(l, argument);
        const char *value = argument + len + 1; /* behind the '=' */
        if (argument[len] == '\0') {
            if (++i == start->argument_count)
                return trail_add(l->trail, PDB_INVALID_ARGUMENT, "%s: needs a value", argument);
            value = start->arguments[i];
        }
        int rc = take_flag(l, argument, len, value);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int refuse_flag(struct loader *l, const struct config_row *row, int rc,
                       const struct config_complaint *complaint)
{
    if (rc == PDB_RESOURCE_EXHAUSTED)
        return no_memory(l);
    return trail_add(l->trail, rc, "flag %s: %s", row->flag, complaint->text);
}

/* All occurrences of a flag that may be repeated make one list. */
static int apply_list_flag(struct loader *l, const struct config_row *row)
{
    const char **items = arena_array(l->arena, const char *, l->flag_count);
    if (items == NULL)
        return no_memory(l);
    size_t count = 0;
    for (size_t i = 0; i < l->flag_count; i++) {
        if (l->flags[i].row != row)
            continue;
        items[count] = arena_copy_text(l->arena, l->flags[i].value, strlen(l->flags[i].value)).ptr;
        if (items[count++] == NULL)
            return no_memory(l);
    }
    struct config_value value = {.list = {items, count}};
    struct config_complaint complaint;
    int rc = config_check_list(row, &value.list, &complaint);
    if (rc < 0)
        return refuse_flag(l, row, rc, &complaint);
    set(l, row, &value, CONFIG_FLAG, 0);
    return 0;
}

static int apply_flags(struct loader *l)
{
    for (size_t i = 0; i < l->flag_count; i++) {
        const struct config_row *row = l->flags[i].row;
        int rc;
        if (row->kind == CONFIG_LIST) {
            rc = apply_list_flag(l, row);
        } else {
            struct config_value value;
            struct config_complaint complaint;
            rc = config_value_from_text(row, l->flags[i].value, l->arena, &complaint, &value);
            if (rc < 0)
                return refuse_flag(l, row, rc, &complaint);
            set(l, row, &value, CONFIG_FLAG, 0);
        }
        if (rc < 0)
            return rc;
    }
    return 0;
}

/* ---- defaults ---- */

static int apply_defaults(struct loader *l)
{
    for (size_t i = 0; i < config_row_count; i++) {
        struct config_value value;
        struct config_complaint complaint;
        int rc = config_value_from_text(&config_rows[i], config_rows[i].fallback, l->arena,
                                        &complaint, &value);
        ASSERT(rc != PDB_INVALID_ARGUMENT); /* the table must obey itself */
        if (rc < 0)
            return no_memory(l);
        set(l, &config_rows[i], &value, CONFIG_DEFAULT, 0);
    }
    return 0;
}

/* ---- file ---- */

static int refuse_at(struct loader *l, uint32_t line, uint32_t column, const char *text)
{
    return trail_add(l->trail, PDB_INVALID_ARGUMENT, "%s:%u:%u: %s", l->config.file_path,
                     (unsigned)line, (unsigned)column, text);
}

static int refuse_unknown(struct loader *l, const struct toml_value *value)
{
    char path[128], text[256], buffer[CONFIG_NAME_SIZE];
    (void)toml_path(value, path, sizeof path);
    const char *near = config_suggest(path, false, buffer);
    (void)snprintf(text, sizeof text, "unknown key '%s'%s%s%s", path,
                   near != NULL ? "; did you mean '" : "", near != NULL ? near : "",
                   near != NULL ? "'?" : "");
    return refuse_at(l, value->key_line, value->key_column, text);
}

/* Whether some key lies in the section. */
static bool is_section(const struct toml_string *name)
{
    for (size_t i = 0; i < config_row_count; i++) {
        size_t len = strcspn(config_rows[i].name, ".");
        if (len == name->len && memcmp(config_rows[i].name, name->data, len) == 0)
            return true;
    }
    return false;
}

static int refuse_section(struct loader *l, const struct toml_value *value)
{
    const char *sections[CONFIG_KEY_MAX + 1];
    char names[CONFIG_KEY_MAX][CONFIG_NAME_SIZE];
    for (size_t i = 0; i < config_row_count; i++) {
        (void)snprintf(names[i], CONFIG_NAME_SIZE, "%.*s", (int)strcspn(config_rows[i].name, "."),
                       config_rows[i].name);
        sections[i] = names[i];
    }
    sections[config_row_count] = NULL;
    char path[128], text[256];
    (void)toml_path(value, path, sizeof path);
    const char *near = config_nearest(path, sections);
    (void)snprintf(text, sizeof text, "unknown section '%s'%s%s%s", path,
                   near != NULL ? "; did you mean '" : "", near != NULL ? near : "",
                   near != NULL ? "'?" : "");
    return refuse_at(l, value->key_line, value->key_column, text);
}

static int apply_pair(struct loader *l, const struct toml_value *pair)
{
    char name[2 * CONFIG_NAME_SIZE];
    size_t len = toml_path(pair, name, sizeof name);
    const struct config_row *row = len < sizeof name ? config_row_find(name, len) : NULL;
    if (row == NULL)
        return refuse_unknown(l, pair);
    struct config_value value;
    struct config_complaint complaint;
    const struct toml_value *at;
    int rc = config_value_from_toml(row, pair, l->arena, &complaint, &at, &value);
    if (rc == PDB_RESOURCE_EXHAUSTED)
        return no_memory(l);
    if (rc < 0) {
        (void)trail_add(l->trail, rc, "%s: %s", row->name, complaint.text);
        return trail_add(l->trail, rc, "%s:%u:%u", l->config.file_path, (unsigned)at->line,
                         (unsigned)at->column);
    }
    set(l, row, &value, CONFIG_FILE, pair->key_line);
    return 0;
}

static int apply_document(struct loader *l, const struct toml_value *root)
{
    for (const struct toml_value *section = root->as.children.first; section != NULL;
         section = section->next) {
        if (!is_section(&section->key))
            return section->type == TOML_TABLE ? refuse_section(l, section)
                                               : refuse_unknown(l, section);
        if (section->type != TOML_TABLE)
            return refuse_at(l, section->line, section->column,
                             "expected a section, such as [server], not a value");
        for (const struct toml_value *pair = section->as.children.first; pair != NULL;
             pair = pair->next) {
            int rc = apply_pair(l, pair);
            if (rc < 0)
                return rc;
        }
    }
    return 0;
}

/* At most CONFIG_FILE_BYTES_MAX of the file, into `bytes`, which have room for one more. */
static int read_file(struct loader *l, char *bytes, struct pdb_text *text_out)
{
    const char *path = l->config.file_path;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return trail_add(l->trail, PDB_INVALID_ARGUMENT, "cannot read the configuration %s: %s",
                         path, strerror(errno));
    size_t len = 0;
    ssize_t got = 1;
    while (got != 0 && len <= CONFIG_FILE_BYTES_MAX) {
        got = read(fd, bytes + len, CONFIG_FILE_BYTES_MAX + 1 - len);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0) {
            int error = errno;
            (void)close(fd);
            return trail_add(l->trail, PDB_INVALID_ARGUMENT, "cannot read the configuration %s: %s",
                             path, strerror(error));
        }
        len += (size_t)got;
    }
    (void)close(fd);
    if (len > CONFIG_FILE_BYTES_MAX)
        return trail_add(l->trail, PDB_INVALID_ARGUMENT,
                         "the configuration %s is larger than %d bytes", path,
                         CONFIG_FILE_BYTES_MAX);
    *text_out = (struct pdb_text){bytes, len};
    return 0;
}

/* The parsed tree lies in the arena as well; what of it has chunks of its own goes early. */
static void *allocate_in_arena(void *arena, size_t size)
{
    return arena_alloc_aligned(arena, size, alignof(max_align_t));
}

static void release_in_arena(void *arena, void *memory)
{
    arena_release_large(arena, memory);
}

static int apply_file(struct loader *l)
{
    char *bytes = arena_alloc(l->arena, CONFIG_FILE_BYTES_MAX + 1);
    if (bytes == NULL)
        return no_memory(l);
    struct pdb_text text = {0};
    int rc = read_file(l, bytes, &text);
    if (rc < 0)
        return rc;
    struct toml_options options = {.text_max = CONFIG_FILE_BYTES_MAX,
                                   .allocator = {allocate_in_arena, release_in_arena, l->arena}};
    struct toml_document *doc;
    struct toml_error error;
    rc = toml_parse_with(&options, text.ptr, text.len, &doc, &error);
    arena_release_large(l->arena, bytes);
    if (rc == TOML_NO_MEMORY)
        return no_memory(l);
    if (rc < 0)
        return refuse_at(l, error.line, error.column, error.message);
    rc = apply_document(l, toml_root(doc));
    toml_free(doc);
    return rc;
}

/* ---- environment ---- */

static const struct config_row *find_env(const char *name, size_t len)
{
    for (size_t i = 0; i < config_row_count; i++) {
        char env[CONFIG_NAME_SIZE];
        config_env_name(&config_rows[i], env);
        if (strlen(env) == len && memcmp(env, name, len) == 0)
            return &config_rows[i];
    }
    return NULL;
}

static int refuse_variable(struct loader *l, const char *variable, size_t len)
{
    char name[128], buffer[CONFIG_NAME_SIZE];
    (void)snprintf(name, sizeof name, "%.*s", len < 100 ? (int)len : 100, variable);
    const char *near = config_suggest(name, true, buffer);
    return trail_add(l->trail, PDB_INVALID_ARGUMENT, "unknown environment variable %s%s%s%s", name,
                     near != NULL ? "; did you mean " : "", near != NULL ? near : "",
                     near != NULL ? "?" : "");
}

static int apply_variable(struct loader *l, const char *variable)
{
    size_t len = strcspn(variable, "=");
    if (variable[len] == '\0' || strncmp(variable, "PROXIMADB_", CONFIG_ENV_PREFIX_LEN) != 0)
        return 0;
    const char *joint = strstr(variable + CONFIG_ENV_PREFIX_LEN, "__");
    if (joint == NULL || joint >= variable + len)
        return 0;
    const struct config_row *row = find_env(variable, len);
    if (row == NULL)
        return refuse_variable(l, variable, len);
    struct config_value value;
    struct config_complaint complaint;
    int rc = config_value_from_text(row, variable + len + 1, l->arena, &complaint, &value);
    if (rc == PDB_RESOURCE_EXHAUSTED)
        return no_memory(l);
    if (rc < 0)
        return trail_add(l->trail, rc, "environment variable %.*s: %s", (int)len, variable,
                         complaint.text);
    set(l, row, &value, CONFIG_ENVIRONMENT, 0);
    return 0;
}

static int apply_environment(struct loader *l, const char *const *environment)
{
    for (; environment != NULL && *environment != NULL; environment++) {
        int rc = apply_variable(l, *environment);
        if (rc < 0)
            return rc;
    }
    return 0;
}

/* ---- rules between keys ---- */

/* "key (origin): text" */
static int refuse_key(struct loader *l, const char *name, const char *text)
{
    const struct config_row *row = config_row_find(name, strlen(name));
    struct buffer origin;
    buffer_init_arena(&origin, l->arena, 0);
    config_print_origin(&l->config, row, &origin);
    buffer_add_byte(&origin, '\0');
    if (origin.failed)
        return no_memory(l);
    return trail_add(l->trail, PDB_INVALID_ARGUMENT, "%s (%s): %s", name, origin.ptr, text);
}

static int take_listeners(struct loader *l)
{
    const struct config_list *listen = &l->config.server.listen;
    struct transport_listener *listeners =
        arena_array(l->arena, struct transport_listener, listen->count);
    if (listeners == NULL)
        return no_memory(l);
    const char *exposed = NULL;
    for (size_t i = 0; i < listen->count; i++) {
        bool loopback;
        const char *wrong =
            config_parse_listener(listen->items[i], l->arena, &listeners[i], &loopback);
        ASSERT(wrong == NULL); /* each was checked when it came */
        (void)wrong;
        if (listeners[i].address == NULL)
            return no_memory(l);
        if (!loopback && exposed == NULL)
            exposed = listen->items[i];
    }
    l->config.listeners = listeners;
    l->config.listener_count = listen->count;
    l->config.exposed = exposed != NULL;
    if (exposed == NULL || l->config.tls.cert != NULL || l->config.server.insecure)
        return 0;
    char text[320];
    (void)snprintf(
        text, sizeof text,
        "other machines can reach %.60s, and there is no TLS: set tls.cert and tls.key, listen on "
        "127.0.0.1, or "
        "set server.insecure = true to let everybody who reaches it read and change all data",
        exposed);
    return refuse_key(l, "server.listen", text);
}

static int check_rules(struct loader *l)
{
    const struct config *c = &l->config;
    if (c->tls.cert != NULL && c->tls.key == NULL)
        return refuse_key(l, "tls.cert", "needs tls.key, the private key of the certificate");
    if (c->tls.key != NULL && c->tls.cert == NULL)
        return refuse_key(l, "tls.key", "needs tls.cert, the certificate of the key");
    if (c->limits.inflight_body_bytes_per_core < c->limits.body_bytes)
        return refuse_key(
            l, "limits.inflight_body_bytes_per_core",
            "must be at least limits.body_bytes, or the largest request could never arrive");
    if (c->wal.max_bytes / 2 < c->wal.segment_bytes)
        return refuse_key(l, "wal.max_bytes",
                          "must be at least twice wal.segment_bytes: the file being written and "
                          "one that flushes can free");
    return take_listeners(l);
}

int config_load(const struct config_start *start, struct arena *arena, struct trail *trail,
                struct config *config_out)
{
    struct loader l = {.arena = arena, .trail = trail};
    int rc = read_flags(&l, start);
    if (rc == 0)
        rc = apply_defaults(&l);
    if (rc == 0 && l.config.file_path != NULL)
        rc = apply_file(&l);
    if (rc == 0)
        rc = apply_environment(&l, start->environment);
    if (rc == 0)
        rc = apply_flags(&l);
    if (rc == 0)
        rc = check_rules(&l);
    if (rc == 0)
        *config_out = l.config;
    return rc;
}
