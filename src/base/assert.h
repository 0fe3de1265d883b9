/* Asserts are for our bugs, errors for the world's. They stay on in release builds outside kernels:
 * a server that knows itself to be wrong must stop before it acknowledges anything. */
#ifndef BASE_ASSERT_H
#define BASE_ASSERT_H

_Noreturn void assert_failed(const char *file, int line, const char *condition);

#define ASSERT(condition) ((condition) ? (void)0 : assert_failed(__FILE__, __LINE__, #condition))

#endif
