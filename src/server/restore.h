/* restore.h: `proximadb restore`. */
#ifndef SERVER_RESTORE_H
#define SERVER_RESTORE_H

/* Makes a data directory out of an archive, or lists what there is. The exit status: 0; EXIT_USAGE;
 * EXIT_START: it could not be done, and there is no data directory; 130: interrupted, the same. */
int restore_command(int argc, const char *const *argv);

#endif
