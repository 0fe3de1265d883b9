/* What does it cost to send a value to another core?
 *
 *     hop [--json] [--seconds S] [--runs N] [--engine uring|threads]
 *
 * Two reactors pass values back and forth. "busy": one value, both spin; half a round trip is one
 * hop, and the row says how many wake-up calls were made (none: nobody sleeps). "busy, 64": 64
 * values at once. "blocked": one value, nobody spins, so each hop wakes a sleeper. The modes are
 * run in turn, N times each; the medians of the runs are told, so that a disturbance of the machine
 * meets all of them. The clock is read twice a round trip, which is in the figures.
 *
 * Goal: p50 of one hop below 3 us with both reactors busy. */
#include "reactor/reactor.h"

#include <proximadb/error.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RUNS_MAX = 101, SAMPLES_MAX = 4 << 20, VALUES_MAX = 64, MODE_COUNT = 3 };

struct mode {
    const char *name;
    unsigned spin_us, values;
};

static const struct mode modes[MODE_COUNT] = {
    {"busy", 1000000, 1},
    {"busy, 64 at once", 1000000, 64},
    {"blocked", 0, 1},
};

struct figures {
    double p50_us, p99_us, hops_per_second, wakes_per_hop;
};

struct run;

struct value {
    struct mail mail;
    struct run *run;
    uint64_t sent_ns;
};

struct run {
    const struct mode *mode;
    uint64_t duration_ns, start_ns, end_ns, round_trips;
    uint32_t *samples_ns; /* of round trips */
    size_t sample_count;
    unsigned still_out;
    struct value values[VALUES_MAX];
    sem_t finished;
};

static void send_value(struct reactor *r, struct value *v);

static void come_back(struct reactor *r, struct mail *mail)
{
    struct value *v = container_of(mail, struct value, mail);
    struct run *run = v->run;
    uint64_t now = r->io->ops->now_ns(r->io);
    ++run->round_trips;
    if (run->sample_count != SAMPLES_MAX)
        run->samples_ns[run->sample_count++] = (uint32_t)(now - v->sent_ns);
    if (now - run->start_ns < run->duration_ns) {
        send_value(r, v);
        return;
    }
    run->end_ns = now;
    if (--run->still_out == 0)
        (void)sem_post(&run->finished);
}

static void turn_round(struct reactor *r, struct mail *mail)
{
    mail->deliver = come_back;
    mail_post(r, mail->from, mail);
}

static void send_value(struct reactor *r, struct value *v)
{
    v->mail.deliver = turn_round;
    v->sent_ns = r->io->ops->now_ns(r->io);
    mail_post(r, 1, &v->mail);
}

static int start(struct reactor *r, void *arg)
{
    struct run *run = arg;
    if (r->id != 0)
        return 0;
    run->start_ns = r->io->ops->now_ns(r->io);
    run->still_out = run->mode->values;
    for (unsigned i = 0; i != run->mode->values; ++i) {
        run->values[i].run = run;
        send_value(r, &run->values[i]);
    }
    return 0;
}

static _Atomic uint64_t wakes_sent;

static void stop(struct reactor *r, void *arg)
{
    (void)arg;
    atomic_fetch_add(&wakes_sent, r->stats.wakes_sent);
}

static int by_u32(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static int by_double(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static int measure(const struct mode *mode, enum io_engine_choice engine, uint64_t duration_ns,
                   uint32_t *samples_ns, struct figures *figures_out)
{
    static struct run run;
    struct reactor_group *g;
    const char *reason;
    run = (struct run){.mode = mode, .duration_ns = duration_ns, .samples_ns = samples_ns};
    (void)sem_init(&run.finished, 0, 0);
    wakes_sent = 0;
    struct reactor_options options = {.count = 2,
                                      .pin = true,
                                      .spin_us = mode->spin_us,
                                      .io_engine = engine,
                                      .start = start,
                                      .stop = stop,
                                      .arg = &run};
    int rc = reactor_group_start(&options, &g, &reason);
    if (rc < 0) {
        (void)fprintf(stderr, "hop: %s: %s\n", pdb_error_text(rc), reason != NULL ? reason : "");
        return rc;
    }
    while (sem_wait(&run.finished) != 0)
        continue;
    reactor_group_stop(g);
    qsort(samples_ns, run.sample_count, sizeof(*samples_ns), by_u32);
    double hops = 2 * (double)run.round_trips;
    *figures_out = (struct figures){
        .p50_us = samples_ns[run.sample_count / 2] / 2e3,
        .p99_us = samples_ns[run.sample_count * 99 / 100] / 2e3,
        .hops_per_second = hops / ((double)(run.end_ns - run.start_ns) / 1e9),
        .wakes_per_hop = (double)wakes_sent / hops,
    };
    return 0;
}

static double median(const struct figures *runs, size_t count, size_t offset)
{
    double values[RUNS_MAX];
    for (size_t i = 0; i != count; ++i)
        memcpy(&values[i], (const char *)&runs[i] + offset, sizeof(double));
    qsort(values, count, sizeof(values[0]), by_double);
    return values[count / 2];
}

static void report(bool json, struct figures runs[MODE_COUNT][RUNS_MAX], size_t count)
{
    for (unsigned m = 0; m != MODE_COUNT; ++m) {
        double p50 = median(runs[m], count, offsetof(struct figures, p50_us));
        double p99 = median(runs[m], count, offsetof(struct figures, p99_us));
        double rate = median(runs[m], count, offsetof(struct figures, hops_per_second));
        double wakes = median(runs[m], count, offsetof(struct figures, wakes_per_hop));
        if (json)
            (void)printf("{\"mode\":\"%s\",\"runs\":%zu,\"hop_p50_us\":%.3f,\"hop_p99_us\":%.3f,"
                         "\"hops_per_second\":%.0f,\"wakes_per_hop\":%.6f}\n",
                         modes[m].name, count, p50, p99, rate, wakes);
        else
            (void)printf(
                "%-18s one hop p50 %8.3f us  p99 %8.3f us  %10.0f hops/s  %.4f wakes/hop\n",
                modes[m].name, p50, p99, rate, wakes);
    }
}

struct arguments {
    bool json;
    double seconds;
    unsigned runs;
    enum io_engine_choice engine;
};

static bool parse(int argc, char **argv, struct arguments *a)
{
    for (int i = 1; i != argc; ++i) {
        bool more = i + 1 != argc;
        if (strcmp(argv[i], "--json") == 0)
            a->json = true;
        else if (strcmp(argv[i], "--seconds") == 0 && more)
            a->seconds = strtod(argv[++i], NULL);
        else if (strcmp(argv[i], "--runs") == 0 && more)
            a->runs = (unsigned)strtoul(argv[++i], NULL, 10);
        else if (strcmp(argv[i], "--engine") == 0 && more)
            a->engine = strcmp(argv[++i], "threads") == 0 ? IO_ENGINE_THREADS : IO_ENGINE_URING;
        else
            return false;
    }
    return a->seconds > 0 && a->seconds < 3600 && a->runs != 0 && a->runs <= RUNS_MAX;
}

int main(int argc, char **argv)
{
    static struct figures runs[MODE_COUNT][RUNS_MAX];
    struct arguments a = {.seconds = 0.5, .runs = 5, .engine = IO_ENGINE_AUTO};
    if (!parse(argc, argv, &a)) {
        (void)fprintf(stderr, "usage: hop [--json] [--seconds S] [--runs N] "
                              "[--engine uring|threads]\n");
        return 2;
    }
    uint32_t *samples_ns = heap_alloc(NULL, SAMPLES_MAX * sizeof(*samples_ns));
    if (samples_ns == NULL)
        return 1;
    for (unsigned i = 0; i != a.runs; ++i) {
        for (unsigned m = 0; m != MODE_COUNT; ++m) {
            if (measure(&modes[m], a.engine, (uint64_t)(a.seconds * 1e9), samples_ns, &runs[m][i]) <
                0)
                return 1;
        }
    }
    report(a.json, runs, a.runs);
    heap_free(NULL, samples_ns);
    return 0;
}
