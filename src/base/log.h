/* Structured logging: library code returns trails, programs and owners of a decision log.
 *
 * Each thread formats a line into its own bounded ring; one writer thread drains the rings to
 * stderr or a file. A full ring drops the line and counts it: logging never blocks a reactor.
 * Repeats of one call site are limited to 10 a second; then one line says how many were left out.
 * Never log vectors, metadata, keys or tokens. */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <stdbool.h>
#include <stdint.h>

enum log_level { LOG_LEVEL_DEBUG, LOG_LEVEL_INFO, LOG_LEVEL_WARN, LOG_LEVEL_ERROR };

/* ERROR: someone must act. WARN: a promise is weaker than configured. */

struct log_options {
    enum log_level level;
    bool json;        /* else text for people */
    const char *path; /* NULL: stderr */
};

/* Starts the writer thread; before it and after log_stop, lines go straight to stderr. 0 or a PDB_
 * error. */
int log_start(const struct log_options *options);
/* Drains what is queued and ends the writer. */
void log_stop(void);
/* Gives this thread its ring; `core` appears in its lines (-1: no core). Without it a thread's
 * lines are written synchronously. */
int log_thread_attach(int core);
void log_thread_detach(void);
uint64_t log_dropped_total(void);

struct log_site { /* one per call site: the rate limit */
    uint64_t window_start_ns;
    uint32_t in_window, left_out;
};

/* `format` gives the message only; typed fields follow in it as key=value text where needed. */
void log_write(struct log_site *site, enum log_level level, const char *module, const char *format,
               ...) __attribute__((format(printf, 4, 5)));

#define LOG_AT(level, module, ...)                                                                 \
    do {                                                                                           \
        static _Thread_local struct log_site log_site_here;                                        \
        log_write(&log_site_here, (level), (module), __VA_ARGS__);                                 \
    } while (0)
#define LOG_DEBUG(module, ...) LOG_AT(LOG_LEVEL_DEBUG, module, __VA_ARGS__)
#define LOG_INFO(module, ...)  LOG_AT(LOG_LEVEL_INFO, module, __VA_ARGS__)
#define LOG_WARN(module, ...)  LOG_AT(LOG_LEVEL_WARN, module, __VA_ARGS__)
#define LOG_ERROR(module, ...) LOG_AT(LOG_LEVEL_ERROR, module, __VA_ARGS__)

#endif
