/* assert.c: the last words of a process that knows itself to be wrong. It writes without the log,
 * without stdio buffers and without the heap, because any of them may be what is broken; then it
 * aborts, for a core file. */
#include "base/assert.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

_Noreturn void assert_failed(const char *file, int line, const char *condition)
{
    char text[512];
    int len = snprintf(text, sizeof(text), "%s:%d: assertion failed: %s\n", file, line, condition);
    if (len > 0) {
        size_t size = (size_t)len < sizeof(text) ? (size_t)len : sizeof(text) - 1;
        ssize_t written = write(STDERR_FILENO, text, size);
        (void)written; /* nobody is left to be told */
    }
    abort();
}
