/* export.h: `proximadb export`. */
#ifndef SERVER_EXPORT_H
#define SERVER_EXPORT_H

/* Writes a collection to a file. The exit status: 0; EXIT_USAGE; EXIT_START: it could not be done,
 * and there is no file; 130: interrupted. */
int export_command(int argc, const char *const *argv);

#endif
