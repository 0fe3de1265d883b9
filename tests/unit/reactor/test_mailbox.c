/* Mail arrives, once and in order, also when rings are full and when the receiver sleeps, on every
 * host and engine. */
#include "groups.h"

#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

enum { MANY = 3 * SPSC_CAPACITY + 7 };

static sem_t finished;

static void wait_finished(unsigned count)
{
    while (count != 0)
        count -= sem_wait(&finished) == 0;
}

static struct reactor_group *start_group(const struct group_kind *kind,
                                         int (*start)(struct reactor *r, void *arg), void *arg)
{
    struct reactor_group *g = NULL;
    const char *reason;
    struct reactor_options options = group_options(kind);
    options.start = start;
    options.arg = arg;
    print_message("    %s\n", kind->name);
    assert_int_equal(reactor_group_start(&options, &g, &reason), 0);
    return g;
}

/* ---- a flood from every core to every core ---- */

struct letter {
    struct mail mail;
    unsigned number;
};

struct flood {
    struct letter *letters;                  /* [count][count][MANY], by sender and receiver */
    unsigned next[REACTOR_MAX][REACTOR_MAX]; /* expected, by receiver and sender */
    unsigned left[REACTOR_MAX];              /* by receiver */
    size_t backlog_max[REACTOR_MAX];
};

static struct flood *flood;

static void take_letter(struct reactor *r, struct mail *mail)
{
    struct letter *letter = container_of(mail, struct letter, mail);
    assert_ptr_equal(reactor_here(), r);
    assert_int_equal(letter->number, flood->next[r->id][mail->from]);
    ++flood->next[r->id][mail->from];
    if (--flood->left[r->id] == 0)
        (void)sem_post(&finished);
}

static int post_flood(struct reactor *r, void *arg)
{
    (void)arg;
    flood->left[r->id] = r->count * MANY;
    for (unsigned to = 0; to != r->count; ++to) {
        for (unsigned i = 0; i != MANY; ++i) {
            struct letter *letter = &flood->letters[(r->id * r->count + to) * MANY + i];
            *letter = (struct letter){.mail = {.deliver = take_letter}, .number = i};
            mail_post(r, to, &letter->mail);
        }
        if (mail_backlog(r, to) > flood->backlog_max[r->id])
            flood->backlog_max[r->id] = mail_backlog(r, to);
    }
    return 0;
}

static void a_flood_overflows_the_rings_and_arrives_in_order(void **state)
{
    (void)state;
    for (unsigned k = 0; k != GROUP_KIND_COUNT; ++k) {
        unsigned count = group_kinds[k].count;
        flood = test_calloc(1, sizeof(*flood));
        flood->letters = test_calloc((size_t)count * count * MANY, sizeof(*flood->letters));
        struct reactor_group *g = start_group(&group_kinds[k], post_flood, NULL);
        wait_finished(count);
        reactor_group_stop(g);
        for (unsigned i = 0; i != count; ++i)
            assert_int_equal(flood->backlog_max[i], MANY - SPSC_CAPACITY);
        test_free(flood->letters);
        test_free(flood);
    }
}

/* ---- a token that wakes one sleeper after the other ---- */

struct token {
    struct mail mail;
    unsigned left;
};

static void pass_token(struct reactor *r, struct mail *mail)
{
    struct token *token = container_of(mail, struct token, mail);
    if (--token->left == 0)
        (void)sem_post(&finished);
    else
        mail_post(r, (r->id + 1) % r->count, mail);
}

static int post_token(struct reactor *r, void *arg)
{
    struct token *token = arg;
    if (r->id == 0)
        mail_post(r, 1, &token->mail);
    return 0;
}

static void a_token_wakes_every_sleeper(void **state)
{
    (void)state;
    for (unsigned k = 0; k != GROUP_KIND_COUNT; ++k) {
        struct token token = {.mail = {.deliver = pass_token}, .left = 5000};
        struct reactor_group *g = start_group(&group_kinds[k], post_token, &token);
        wait_finished(1);
        reactor_group_stop(g);
        assert_int_equal(token.left, 0);
    }
}

/* ---- mail from outside ---- */

static void take_outside(struct reactor *r, struct mail *mail)
{
    assert_int_equal(mail->from, REACTOR_MAX);
    assert_ptr_equal(reactor_here(), r);
    (void)sem_post(&finished);
}

static void strangers_mail_wakes_a_sleeper(void **state)
{
    (void)state;
    for (unsigned k = 0; k != GROUP_KIND_COUNT; ++k) {
        struct reactor_group *g = start_group(&group_kinds[k], NULL, NULL);
        struct mail mail[2] = {{.deliver = take_outside}, {.deliver = take_outside}};
        for (unsigned i = 0; i != 2000; ++i) {
            unsigned to = i % reactor_group_count(g);
            mail_post_external(g, to, &mail[0]);
            mail_post_external(g, to, &mail[1]);
            wait_finished(2);
        }
        reactor_group_stop(g);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_flood_overflows_the_rings_and_arrives_in_order),
        cmocka_unit_test(a_token_wakes_every_sleeper),
        cmocka_unit_test(strangers_mail_wakes_a_sleeper),
    };
    (void)sem_init(&finished, 0, 0);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
