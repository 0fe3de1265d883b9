/* import.h: `proximadb import`. */
#ifndef SERVER_IMPORT_H
#define SERVER_IMPORT_H

/* Loads files into a collection of a running server. The exit status: 0; EXIT_USAGE; EXIT_START: a
 * file or a batch was refused, or the server is away; EXIT_BAD_ROWS; 130: interrupted. */
int import_command(int argc, const char *const *argv);

extern const char import_usage[];

#endif
