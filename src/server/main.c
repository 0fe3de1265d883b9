/* main.c: the program `proximadb`. */
#include "server/export.h"
#include "server/import.h"
#include "server/restore.h"
#include "server/serve.h"

#include <proximadb/proximadb.h>
#include <stdio.h>
#include <string.h>
#ifdef PDB_MIMALLOC
#include <mimalloc.h>
#endif

static const char usage[] = "usage: proximadb serve [--config FILE] [--data-dir DIR] [--listen "
                            "ADDR:PORT]... [--cores N] [--print-config]\n"
                            "       proximadb check --data-dir DIR [--wal-dir DIR]... [--repair]\n"
                            "       proximadb version\n"
                            "       proximadb import | export | restore --help\n";

static void print_finding(void *arg, const char *line)
{
    (void)arg;
    puts(line);
}

/* 0 clean, 2 damage, 1 something derived is to be mended or the check could not be made. */
static int check(int argc, const char *const *argv)
{
    enum { WAL_DIRS_MAX = 64 };
    const char *data_dir = NULL, *wal_dirs[WAL_DIRS_MAX];
    size_t wal_dir_count = 0;
    bool repair = false;
    for (int i = 0; i < argc; i++) {
        if (strcmp(argv[i], "--repair") == 0) {
            repair = true;
        } else if (strcmp(argv[i], "--data-dir") == 0 && i + 1 < argc) {
            data_dir = argv[++i];
        } else if (strcmp(argv[i], "--wal-dir") == 0 && i + 1 < argc &&
                   wal_dir_count < WAL_DIRS_MAX) {
            wal_dirs[wal_dir_count++] = argv[++i];
        } else {
            fprintf(stderr, "proximadb check: unknown argument '%s'\n%s", argv[i], usage);
            return EXIT_USAGE;
        }
    }
    if (data_dir == NULL) {
        fprintf(stderr, "proximadb check: --data-dir is missing\n%s", usage);
        return EXIT_USAGE;
    }
    struct pdb_error error = {0};
    struct pdb_check_options options = {.data_dir = data_dir,
                                        .wal_dirs = wal_dir_count != 0 ? wal_dirs : NULL,
                                        .wal_dir_count = wal_dir_count,
                                        .repair = repair,
                                        .report = print_finding};
    int rc = pdb_check(&options, &error);
    if (rc == 0)
        return 0;
    fprintf(stderr, "proximadb check: %s\n", error.text);
    return rc == PDB_DATA_LOSS ? 2 : 1;
}

/* What is freed is taken again soon: buffers of bodies, arenas of calls. By default mimalloc gives
 * it back to the system 25 ms later, and the reactor then clears fresh pages, and waits for the
 * lock of the process's memory map, which its worker may hold. MIMALLOC_DECOMMIT_DELAY still
 * wins. */
static void keep_freed_memory(void)
{
#ifdef PDB_MIMALLOC
    enum { KEEP_MS = 10000 };
#if MI_MALLOC_VERSION >= 210
    mi_option_set_default(mi_option_purge_delay, KEEP_MS);
#else
    mi_option_set_default(mi_option_decommit_delay, KEEP_MS);
#endif
#endif
}

int main(int argc, char **argv)
{
    const char *command = argc > 1 ? argv[1] : "";
    const char *const *rest = (const char *const *)argv + 2;
    keep_freed_memory();
    if (strcmp(command, "serve") == 0)
        return serve((size_t)(argc - 2), rest);
    if (strcmp(command, "check") == 0)
        return check(argc - 2, rest);
    if (strcmp(command, "import") == 0)
        return import_command(argc - 2, rest);
    if (strcmp(command, "export") == 0)
        return export_command(argc - 2, rest);
    if (strcmp(command, "restore") == 0)
        return restore_command(argc - 2, rest);
    if (strcmp(command, "version") == 0 || strcmp(command, "--version") == 0) {
        printf("proximadb %s\n", pdb_version());
        return 0;
    }
    if (strcmp(command, "help") == 0 || strcmp(command, "--help") == 0) {
        fputs(usage, stdout);
        return 0;
    }
    fprintf(stderr, "%s%s%s%s", command[0] != '\0' ? "proximadb: unknown command '" : "", command,
            command[0] != '\0' ? "'\n" : "", usage);
    return EXIT_USAGE;
}
