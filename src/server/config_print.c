/* config_print.c: values as TOML, so that what is printed can be used as a file again. */
#include "server/config_internal.h"

#include "base/utf8.h"

#include "base/no_libc_heap.h"

enum { ORIGIN_COLUMN = 48 };

static void print_text(const char *text, struct buffer *out)
{
    buffer_add_byte(out, '"');
    for (const char *c = text; *c != '\0'; c++) {
        if ((unsigned char)*c < 0x20 || *c == 0x7f) {
            buffer_format(out, "\\u%04X", (unsigned char)*c);
            continue;
        }
        if (*c == '"' || *c == '\\')
            buffer_add_byte(out, '\\');
        buffer_add_byte(out, *c);
    }
    buffer_add_byte(out, '"');
}

/* With the largest unit that leaves no remainder, as people write it; plain bytes otherwise. */
static void print_size(uint64_t bytes, struct buffer *out)
{
    static const char *const units[] = {"", "KiB", "MiB", "GiB", "TiB"};
    size_t unit = 0;
    while (unit < 4 && bytes != 0 && bytes % 1024 == 0) {
        bytes /= 1024;
        unit++;
    }
    if (unit == 0)
        buffer_format(out, "%llu", (unsigned long long)bytes);
    else
        buffer_format(out, "\"%llu%s\"", (unsigned long long)bytes, units[unit]);
}

static void print_list(const struct config_list *list, struct buffer *out)
{
    buffer_add_byte(out, '[');
    for (size_t i = 0; i < list->count; i++) {
        if (i > 0)
            buffer_add_lit(out, ", ");
        print_text(list->items[i], out);
    }
    buffer_add_byte(out, ']');
}

void config_print_value(const struct config_row *row, const struct config_value *value,
                        struct buffer *out)
{
    bool is_set = value->list.count > 0 || value->text != NULL || value->number != 0;
    if ((row->traits & CONFIG_SECRET) != 0 && is_set) {
        buffer_add_lit(out, "\"<redacted>\"");
        return;
    }
    switch (row->kind) {
    case CONFIG_BOOL:
        buffer_add_text(out, value->number != 0 ? TEXT_LIT("true") : TEXT_LIT("false"));
        break;
    case CONFIG_INTEGER:
        buffer_add_u64(out, value->number);
        break;
    case CONFIG_SIZE:
        print_size(value->number, out);
        break;
    case CONFIG_CHOICE:
        print_text(row->choices[value->number], out);
        break;
    case CONFIG_TEXT:
        print_text(value->text == NULL ? "" : value->text, out);
        break;
    case CONFIG_LIST:
        print_list(&value->list, out);
        break;
    }
}

/* A path may be any bytes; a comment is one line of UTF-8. */
static void print_path(const char *path, struct buffer *out)
{
    size_t len = strlen(path);
    bool is_utf8 = utf8_invalid_at(path, len) == len;
    for (const char *c = path; *c != '\0'; c++) {
        unsigned char byte = (unsigned char)*c;
        bool shown = byte >= 0x80 ? is_utf8 : byte >= 0x20 && byte != 0x7f;
        buffer_add(out, shown ? c : "?", 1);
    }
}

void config_print_origin(const struct config *config, const struct config_row *row,
                         struct buffer *out)
{
    const struct config_origin *origin = &config->origins[row - config_rows];
    char env[CONFIG_NAME_SIZE];
    switch (origin->source) {
    case CONFIG_DEFAULT:
        buffer_add_lit(out, "default");
        break;
    case CONFIG_FILE:
        buffer_add_lit(out, "file ");
        print_path(config->file_path, out);
        buffer_format(out, ":%u", (unsigned)origin->line);
        break;
    case CONFIG_ENVIRONMENT:
        config_env_name(row, env);
        buffer_format(out, "environment %s", env);
        break;
    case CONFIG_FLAG:
        buffer_format(out, "flag %s", row->flag);
        break;
    }
}

void config_print(const struct config *config, struct buffer *out)
{
    const char *section = "";
    size_t section_len = 0;
    buffer_add_lit(out, "# ProximaDB " PDB_VERSION
                        ": the effective configuration, and where each value comes from.\n");
    for (size_t i = 0; i < config_row_count; i++) {
        const struct config_row *row = &config_rows[i];
        size_t dot = strcspn(row->name, ".");
        if (dot != section_len || memcmp(row->name, section, dot) != 0) {
            section = row->name;
            section_len = dot;
            buffer_format(out, "\n[%.*s]\n", (int)dot, section);
        }
        size_t start = out->len;
        buffer_format(out, "%s = ", row->name + dot + 1);
        struct config_value value = config_fetch(config, row);
        config_print_value(row, &value, out);
        do
            buffer_add_byte(out, ' ');
        while (!out->failed && out->len - start < ORIGIN_COLUMN);
        buffer_add_lit(out, "# ");
        config_print_origin(config, row, out);
        buffer_add_byte(out, '\n');
    }
}
