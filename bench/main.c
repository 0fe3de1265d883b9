/* main.c: pdb-bench, the public load generator. Start here:
 *
 *     options      the command line
 *     command_run, command_demo, compare      one file for each command
 *     session, jobs                           from options to requests and judged replies
 *     encode, client/dataset, decode, body    bytes
 *     exact, report                           truth, what is printed
 *     client/run, worker, hdr                 threads, event loops, the clock, latencies
 *     client/conn, conn_h1, conn_h2, channel  protocols, down to the socket
 *
 * What lies in client/ is shared with `proximadb import` and `proximadb export`.
 *
 * It knows the server by its wire contract only and shares no code with the doors it measures, so
 * that a mistake cannot cancel itself out. */
#include "bench/compare.h"
#include "bench/session.h"

#include <signal.h>
#include <stdio.h>
#include <vecmath/vecmath.h>

int main(int argc, char **argv)
{
    struct options options;
    struct trail trail = {0};
    char error[256] = "";
    (void)signal(SIGPIPE, SIG_IGN);
    if (vecmath_select(NULL, error, sizeof(error)) < 0) {
        (void)fprintf(stderr, "pdb-bench: %s\n", error);
        return 2;
    }
    if (options_parse(&options, argc, argv, &trail) < 0) {
        (void)fprintf(stderr, "pdb-bench: %s\n", trail.text);
        return 2;
    }
    switch (options.command) {
    case COMMAND_LOAD:
    case COMMAND_SEARCH:
    case COMMAND_MIXED:
        return command_run(&options);
    case COMMAND_DEMO:
        return command_demo(&options);
    case COMMAND_COMPARE:
        if (compare_files(options.files[0], options.files[1], stdout, &trail) == 0)
            return 0;
        (void)fprintf(stderr, "pdb-bench: %s\n", trail.text);
        return 2;
    case COMMAND_VERSION:
        (void)printf("pdb-bench " PDB_VERSION "\n");
        return 0;
    case COMMAND_HELP:
        break;
    }
    options_help(stdout);
    return 0;
}
