/* What the files of the configuration share.
 *
 *   config.c         the order of things: flags, file, environment, rules between keys
 *   config_keys.c    the table of keys, and finding one's way in it
 *   config_value.c   one value: from text, from TOML, into the structure
 *   config_listen.c  addresses and origins: the texts with an inner grammar
 *   config_print.c   one value, or all, as TOML
 */
#ifndef SERVER_CONFIG_INTERNAL_H
#define SERVER_CONFIG_INTERNAL_H

#include "server/config.h"

#include <toml/toml.h>

enum config_kind {
    CONFIG_BOOL,    /* bool */
    CONFIG_INTEGER, /* uint32_t or uint64_t */
    CONFIG_SIZE,    /* the same, in bytes; also as text with a unit: "64MiB" */
    CONFIG_CHOICE,  /* an enum whose values count from 0 as `choices` does */
    CONFIG_TEXT,    /* const char *, NULL when empty */
    CONFIG_LIST     /* struct config_list */
};

enum config_trait {
    CONFIG_NEEDED = 1,    /* must not be empty */
    CONFIG_SECRET = 2,    /* never printed, in no message */
    CONFIG_OR_ZERO = 4,   /* 0 is legal although min is higher */
    CONFIG_WHOLE_MIB = 8, /* a multiple of 1 MiB */
};

struct config_row {
    const char *name; /* "section.key" */
    enum config_kind kind;
    unsigned traits;      /* enum config_trait */
    size_t offset, size;  /* of the member of struct config */
    const char *fallback; /* the default, as it would stand in the environment */
    const char *help;     /* one sentence for the documentation */
    uint64_t min, max;    /* numbers */
    const char *const *choices;
    /* Texts and list items: NULL, or what would be right in place of `text`. */
    const char *(*wrong)(const char *text);
    const char *flag; /* "--cores", or NULL */
};

extern const struct config_row config_rows[];
extern const size_t config_row_count;

/* One value on its way into the structure. */
struct config_value {
    uint64_t number; /* also bool and choice */
    const char *text;
    struct config_list list;
};

/* What is wrong with a value, as "expected ..., found ...". */
struct config_complaint {
    char text[320];
};

/* ---- config_keys.c ---- */

enum { CONFIG_NAME_SIZE = 64, CONFIG_ENV_PREFIX_LEN = 10 };

/* The row called `name`, or NULL. */
const struct config_row *config_row_find(const char *name, size_t len);

/* "PROXIMADB_SERVER__LISTEN" for server.listen. */
void config_env_name(const struct config_row *row, char name_out[CONFIG_NAME_SIZE]);

/* The name of the row whose name is most like `name`, or NULL when none is near. `as_env`: compares
 * and answers with the names of environment variables. The answer is static or in `buffer`. */
const char *config_suggest(const char *name, bool as_env, char buffer[CONFIG_NAME_SIZE]);

/* The same among any names, which end with NULL. */
const char *config_nearest(const char *name, const char *const *names);

/* ---- config_value.c ---- */

/* Reads a value as flags, environment and defaults have it. 0, PDB_INVALID_ARGUMENT with the
 * complaint filled in, or PDB_RESOURCE_EXHAUSTED. */
int config_value_from_text(const struct config_row *row, const char *text, struct arena *arena,
                           struct config_complaint *complaint, struct config_value *value_out);

/* The same from the file. *at_out is the value to blame: an element of an array, maybe. */
int config_value_from_toml(const struct config_row *row, const struct toml_value *toml,
                           struct arena *arena, struct config_complaint *complaint,
                           const struct toml_value **at_out, struct config_value *value_out);

/* Checks every item of a list that came as separate arguments. */
int config_check_list(const struct config_row *row, const struct config_list *list,
                      struct config_complaint *complaint);

void config_store(struct config *config, const struct config_row *row,
                  const struct config_value *value);
struct config_value config_fetch(const struct config *config, const struct config_row *row);

/* ---- config_listen.c ---- */

/* "127.0.0.1:5678", "[::1]:5678", "localhost:5678", "*:5678". NULL and the parts (address in the
 * arena, NULL arena: only checks), or what would be right. */
const char *config_parse_listener(const char *text, struct arena *arena,
                                  struct transport_listener *listener_out, bool *loopback_out);
const char *config_wrong_listener(const char *text);
const char *config_wrong_origin(const char *text);

/* ---- config_print.c ---- */

/* A value as TOML. */
void config_print_value(const struct config_row *row, const struct config_value *value,
                        struct buffer *out);

/* "flag --cores", "file x.toml:12", ... */
void config_print_origin(const struct config *config, const struct config_row *row,
                         struct buffer *out);

#endif
