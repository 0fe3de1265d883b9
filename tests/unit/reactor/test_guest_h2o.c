/* Sockets and the reactor share h2o's loop: whatever way an answer takes, it is written, and its
 * callback comes. */
#include "reactor/guest_h2o.h"

#include "groups.h"

#include <h2o.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

/* WAY_BEHIND: twice, the second time by an operation that the first one's callback starts. */
enum way {
    WAY_INLINE,
    WAY_TASK,
    WAY_HOOK,
    WAY_TIMER,
    WAY_IO,
    WAY_MAIL,
    WAY_JOB,
    WAY_BEHIND,
    WAY_COUNT
};

static const char *const way_names[WAY_COUNT] = {"inline", "task", "hook", "timer",
                                                 "io",     "mail", "job",  "behind"};

struct echo {
    int fds[2]; /* ours, the reactor's */
    bool busy;  /* a task without end runs beside */
    unsigned reads, writes_done;
    struct reactor *r;
    h2o_socket_t *sock;
    char byte;
    struct task task, first, endless;
    struct turn_hook hook;
    struct timer timer;
    struct io_op op;
    struct mail mail;
    struct job job;
};

static void written(h2o_socket_t *sock, const char *err)
{
    struct echo *e = sock->data;
    assert_null(err);
    ++e->writes_done;
}

static void answer(struct echo *e)
{
    h2o_iovec_t out = h2o_iovec_init(&e->byte, 1);
    assert_ptr_equal(reactor_here() != NULL ? reactor_here() : e->r, e->r);
    assert_false(h2o_socket_is_writing(e->sock)); /* the callback of the write before has come */
    h2o_socket_write(e->sock, &out, 1, written);
}

static void by_task(struct task *task)
{
    answer(container_of(task, struct echo, task));
}

static void by_hook(struct turn_hook *hook)
{
    answer(container_of(hook, struct echo, hook));
}

static void by_timer(struct timer *timer)
{
    answer(container_of(timer, struct echo, timer));
}

static void by_io(struct io_op *op, int64_t result)
{
    assert_true(result < 0);
    answer(container_of(op, struct echo, op));
}

static void mail_back(struct reactor *r, struct mail *mail)
{
    (void)r;
    answer(container_of(mail, struct echo, mail));
}

static void mail_there(struct reactor *r, struct mail *mail)
{
    mail->deliver = mail_back;
    mail_post(r, mail->from, mail);
}

static void compute(struct job *job)
{
    struct echo *e = container_of(job, struct echo, job);
    e->job.owner = 0;
}

static void job_back(struct reactor *r, struct mail *mail)
{
    (void)r;
    answer(container_of(mail, struct echo, job.back));
}

static void written_first(h2o_socket_t *sock, const char *err)
{
    struct echo *e = sock->data;
    written(sock, err);
    e->r->io->ops->unlink(e->r->io, &e->op, "/nonexistent/file");
}

static void first_by_task(struct task *task)
{
    struct echo *e = container_of(task, struct echo, first);
    h2o_iovec_t out = h2o_iovec_init(&e->byte, 1);
    h2o_socket_write(e->sock, &out, 1, written_first);
}

static void readable(h2o_socket_t *sock, const char *err)
{
    struct echo *e = sock->data;
    if (err != NULL)
        return; /* the test closed its end */
    reactor_mark_active(e->r);
    ++e->reads;
    e->byte = sock->input->bytes[0];
    h2o_buffer_consume(&sock->input, sock->input->size);
    switch ((enum way)(e->byte % WAY_COUNT)) {
    case WAY_INLINE:
        answer(e);
        break;
    case WAY_TASK:
        task_queue(e->r, &e->task);
        break;
    case WAY_HOOK:
        turn_hook_queue(e->r, &e->hook);
        break;
    case WAY_TIMER:
        assert_int_equal(timer_set(e->r, &e->timer, e->r->now_ns + 100000), 0);
        break;
    case WAY_IO:
        e->r->io->ops->unlink(e->r->io, &e->op, "/nonexistent/file");
        break;
    case WAY_MAIL:
        e->mail.deliver = mail_there;
        mail_post(e->r, 1, &e->mail);
        break;
    case WAY_JOB:
        job_start(e->r, 0, &e->job);
        break;
    case WAY_BEHIND:
        task_queue(e->r, &e->first);
        break;
    case WAY_COUNT:
        fail();
    }
}

static void run_endless(struct task *task)
{
    while (!reactor_slice_over(reactor_here()))
        continue;
    task_queue(reactor_here(), task);
}

/* h2o keeps read buffers in a pool of each thread, which nothing frees at the thread's end. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
    return "leak:h2o_buffer_reserve\nleak:h2o_mem_alloc_recycle\n";
}

static int start_echo(struct reactor *r, void *arg)
{
    struct echo *e = arg;
    if (r->id != 0)
        return 0;
    e->r = r;
    e->sock = h2o_evloop_socket_create(guest_h2o_loop(r), e->fds[1], 0);
    e->sock->data = e;
    e->task = (struct task){.run = by_task, .name = "answer"};
    e->first = (struct task){.run = first_by_task, .name = "first"};
    e->endless = (struct task){.run = run_endless, .name = "endless"};
    e->hook = (struct turn_hook){.run = by_hook};
    e->timer = (struct timer){.fire = by_timer};
    e->op = (struct io_op){.done = by_io};
    e->job = (struct job){.compute = compute, .back = {.deliver = job_back}};
    h2o_socket_read_start(e->sock, readable);
    if (e->busy)
        task_queue(r, &e->endless);
    return 0;
}

static void stop_echo(struct reactor *r, void *arg)
{
    struct echo *e = arg;
    if (r->id != 0)
        return;
    h2o_socket_close(e->sock);
}

static void echo_every_way(enum io_engine_choice engine, bool busy, unsigned rounds)
{
    struct echo e = {.busy = busy};
    struct reactor_group *g = NULL;
    const char *reason;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, e.fds), 0);
    struct reactor_options options = {.count = 2,
                                      .io_engine = engine,
                                      .host = guest_h2o_host(),
                                      .start = start_echo,
                                      .stop = stop_echo,
                                      .arg = &e};
    assert_int_equal(reactor_group_start(&options, &g, &reason), 0);
    for (unsigned i = 0; i != rounds; ++i) {
        char sent = (char)(i % WAY_COUNT), got = -1;
        assert_int_equal(write(e.fds[0], &sent, 1), 1);
        for (unsigned left = sent == WAY_BEHIND ? 2 : 1; left != 0; left--)
            if (read(e.fds[0], &got, 1) != 1 || got != sent)
                fail_msg("no answer by %s", way_names[i % WAY_COUNT]);
    }
    reactor_group_stop(g);
    assert_int_equal(e.reads, rounds);
    assert_true(e.writes_done >= rounds - 1); /* the last one's may have been cut off by the stop */
    (void)close(e.fds[0]);
}

static void answers_are_written_whatever_way_they_take(void **state)
{
    (void)state;
    echo_every_way(IO_ENGINE_AUTO, false, 800);
    echo_every_way(IO_ENGINE_THREADS, false, 800);
}

static void sockets_do_not_starve_beside_a_task_without_end(void **state)
{
    (void)state;
    echo_every_way(IO_ENGINE_AUTO, true, 160);
    echo_every_way(IO_ENGINE_THREADS, true, 160);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_are_written_whatever_way_they_take),
        cmocka_unit_test(sockets_do_not_starve_beside_a_task_without_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
