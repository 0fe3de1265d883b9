/* toml_decode.c: TOML on standard input to tagged JSON on standard output, as the public toml-test
 * suite wants its decoders. Exits with 1 and a message for text that is not TOML, with 2 for
 * trouble of its own.
 */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "toml/toml.h"

static void print_json_string(const struct toml_string *string)
{
    putchar('"');
    for (size_t i = 0; i < string->len; i++) {
        unsigned char c = (unsigned char)string->data[i];
        if (c == '"' || c == '\\')
            printf("\\%c", c);
        else if (c < 0x20 || c == 0x7f)
            printf("\\u%04x", c);
        else
            putchar(c);
    }
    putchar('"');
}

static void print_float(double number)
{
    if (isnan(number))
        printf("nan");
    else if (isinf(number))
        printf("%sinf", number < 0 ? "-" : "");
    else
        printf("%.17g", number);
}

static void print_datetime(enum toml_type type, const struct toml_datetime *t)
{
    if (type != TOML_LOCAL_TIME)
        printf("%04u-%02u-%02u", t->year, t->month, t->day);
    if (type == TOML_OFFSET_DATETIME || type == TOML_LOCAL_DATETIME)
        putchar('T');
    if (type != TOML_LOCAL_DATE)
        printf("%02u:%02u:%02u.%09" PRIu32, t->hour, t->minute, t->second, t->nanosecond);
    if (type == TOML_OFFSET_DATETIME)
        printf("%c%02d:%02d", t->offset_minutes < 0 ? '-' : '+', abs(t->offset_minutes) / 60,
               abs(t->offset_minutes) % 60);
}

static void print_scalar(const struct toml_value *value)
{
    switch (value->type) {
    case TOML_STRING:
        printf("{\"type\":\"string\",\"value\":");
        print_json_string(&value->as.string);
        putchar('}');
        return;
    case TOML_INTEGER:
        printf("{\"type\":\"integer\",\"value\":\"%" PRId64 "\"}", value->as.integer);
        return;
    case TOML_FLOAT:
        printf("{\"type\":\"float\",\"value\":\"");
        print_float(value->as.number);
        break;
    case TOML_BOOLEAN:
        printf("{\"type\":\"bool\",\"value\":\"%s", value->as.boolean ? "true" : "false");
        break;
    case TOML_OFFSET_DATETIME:
    case TOML_LOCAL_DATETIME:
    case TOML_LOCAL_DATE:
    case TOML_LOCAL_TIME: {
        static const char *const names[] = {"datetime", "datetime-local", "date-local",
                                            "time-local"};
        printf("{\"type\":\"%s\",\"value\":\"", names[value->type - TOML_OFFSET_DATETIME]);
        print_datetime(value->type, &value->as.datetime);
        break;
    }
    case TOML_ARRAY:
    case TOML_TABLE:
        abort();
    }
    printf("\"}");
}

/* Recursion is bounded by the parser's depth limit. */
static void print_value(const struct toml_value *value)
{
    if (value->type != TOML_ARRAY && value->type != TOML_TABLE) {
        print_scalar(value);
        return;
    }
    putchar(value->type == TOML_TABLE ? '{' : '[');
    for (const struct toml_value *child = value->as.children.first; child != NULL;
         child = child->next) {
        if (value->type == TOML_TABLE) {
            print_json_string(&child->key);
            putchar(':');
        }
        print_value(child);
        if (child->next != NULL)
            putchar(',');
    }
    putchar(value->type == TOML_TABLE ? '}' : ']');
}

/* All of standard input, or NULL. */
static char *read_input(size_t *len_out)
{
    size_t len = 0, capacity = 1 << 16;
    char *text = malloc(capacity);
    while (text != NULL) {
        len += fread(text + len, 1, capacity - len, stdin);
        if (len < capacity)
            break;
        char *grown = realloc(text, capacity *= 2);
        if (grown == NULL)
            free(text);
        text = grown;
    }
    *len_out = len;
    return text;
}

int main(void)
{
    size_t len;
    char *text = read_input(&len);
    if (text == NULL || ferror(stdin)) {
        (void)fprintf(stderr, "toml-decode: cannot read standard input\n");
        free(text);
        return 2;
    }
    struct toml_document *doc = NULL;
    struct toml_error error;
    int rc = toml_parse(text, len, &doc, &error);
    free(text); /* the document must not need it */
    if (rc < 0) {
        (void)fprintf(stderr, "%u:%u: %s\n", (unsigned)error.line, (unsigned)error.column,
                      error.message);
        return rc == TOML_SYNTAX ? 1 : 2;
    }
    print_value(toml_root(doc));
    putchar('\n');
    toml_free(doc);
    return fflush(stdout) == 0 ? 0 : 2;
}
