/* Include last: makes libc's heap unusable, so that no allocation escapes the seam of heap.h. */
#ifndef BASE_NO_LIBC_HEAP_H
#define BASE_NO_LIBC_HEAP_H

/* libc's fortified headers make macros of some of them, which clang refuses to poison. */
#undef strdup
#undef strndup
#undef asprintf
#undef vasprintf

#pragma GCC poison malloc calloc realloc free strdup strndup asprintf vasprintf

#endif
