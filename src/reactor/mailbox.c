/* Mail between cores: one bounded ring per ordered pair of threads, an overflow list behind it on
 * the sender's side, and a wake-up only for a thread that sleeps.
 *
 * No wake-up is lost, and none is sent to a thread that is awake:
 *
 *     sleeper   sleeping = true;  fence;  looks once more;  blocks
 *     sender    pushes;           fence;  if sleeping, clears it and wakes
 *
 * The sender does so once a turn, for all its mail. With both fences sequentially consistent,
 * either the sender sees the flag or the sleeper sees the mail. Clearing the flag by an exchange
 * makes one of several senders wake.
 *
 * A full ring is not an error. The sender keeps what does not fit, in order, and marks the channel
 * `starved`; the receiver, once it has taken something, tells the starved sender by the same rule
 * with the roles exchanged:
 *
 *     sender    starved = true;  sleeping = true;  fence;  looks for room once more;  blocks
 *     receiver  takes;           fence;            if starved, clears it, wakes a sleeping sender
 *
 * Mail to oneself is a list: the same phase, the same order, no ring. */
#include "reactor/reactor_internal.h"

#include "base/assert.h"

#include <proximadb/error.h>
#include <string.h>

#include "base/no_libc_heap.h"

enum {
#ifdef PDB_STRESS
    TAKE_MAX = 3,
#else
    TAKE_MAX = 256, /* from one channel in one turn */
#endif
};

/* ---- channels ---- */

struct channel *channels_new(unsigned count)
{
    struct channel *channels =
        heap_alloc_aligned(NULL, alignof(struct channel), count * sizeof(*channels));
    if (channels == NULL)
        return NULL;
    for (unsigned i = 0; i != count; ++i) { /* the slots stay untouched until they are used */
        struct spsc *ring = &channels[i].ring;
        atomic_init(&ring->head, 0);
        atomic_init(&ring->tail, 0);
        ring->tail_seen = ring->head_seen = 0;
        atomic_init(&channels[i].starved, false);
    }
    return channels;
}

void outbox_init(struct outbox *out, struct channel *channel)
{
    out->channel = channel;
    out->backlog = 0;
    list_init(&out->overflow);
}

void outbox_post(struct outbox *out, struct mail *mail)
{
    if (out->backlog == 0 && spsc_push(&out->channel->ring, mail))
        return;
    list_push_back(&out->overflow, &mail->link);
    ++out->backlog;
}

void outbox_flush(struct outbox *out)
{
    while (out->backlog != 0) {
        struct list_link *link = out->overflow.anchor.next;
        struct mail *mail = container_of(link, struct mail, link);
        list_remove(link); /* before the push: afterwards the mail is the receiver's */
        if (!spsc_push(&out->channel->ring, mail)) {
            list_push_front(&out->overflow, link);
            atomic_store_explicit(&out->channel->starved, true, memory_order_relaxed);
            return;
        }
        --out->backlog;
    }
}

bool outbox_can_flush(const struct outbox *out)
{
    if (out->backlog == 0)
        return false;
    struct spsc *ring = &out->channel->ring;
    size_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);
    return tail - atomic_load_explicit(&ring->head, memory_order_acquire) != SPSC_CAPACITY;
}

struct mail *channel_take(struct channel *channel)
{
    return spsc_pop(&channel->ring);
}

bool channel_empty(struct channel *channel)
{
    return spsc_empty(&channel->ring);
}

bool channel_relieve(struct channel *channel)
{
    return atomic_load_explicit(&channel->starved, memory_order_relaxed) &&
           atomic_exchange_explicit(&channel->starved, false, memory_order_relaxed);
}

/* ---- posting ---- */

static uint64_t bit_of(unsigned id)
{
    return UINT64_C(1) << id;
}

void mail_post(struct reactor *r, unsigned to, struct mail *mail)
{
    struct reactor_private *p = r->priv;
    ASSERT(to < r->count && mail->deliver != NULL && !list_linked(&mail->link));
    mail->from = (uint16_t)r->id;
    if (to == r->id) {
        list_push_back(&p->self_mail, &mail->link);
        ++p->self_waiting;
    } else {
        outbox_post(&p->to_peers[to], mail);
        p->posted |= bit_of(to);
        if (p->to_peers[to].backlog != 0)
            p->overflowing |= bit_of(to);
    }
    reactor_note_work(r);
}

size_t mail_backlog(const struct reactor *r, unsigned to)
{
    ASSERT(to < r->count);
    return r->priv->to_peers[to].backlog;
}

void job_start(struct reactor *r, unsigned worker, struct job *job)
{
    struct reactor_private *p = r->priv;
    bool outside = worker >= r->count;
    ASSERT(worker < r->count + reactor_outside_count(r->group));
    ASSERT(job->compute != NULL && job->back.deliver != NULL);
    job->owner = r->id;
    ++r->stats.jobs_out;
    outbox_post(&p->to_workers[worker], &job->back);
    uint64_t bit = bit_of(outside ? worker - r->count : worker);
    *(outside ? &p->outside_posted : &p->jobs_posted) |= bit;
    if (p->to_workers[worker].backlog != 0)
        *(outside ? &p->outside_overflowing : &p->jobs_overflowing) |= bit;
    reactor_note_work(r);
}

void reactor_wake_any(struct reactor *r)
{
    struct reactor_private *p = r->priv;
    if (atomic_load_explicit(&p->sleeping, memory_order_relaxed) &&
        atomic_exchange_explicit(&p->sleeping, false, memory_order_relaxed))
        r->io->ops->wake_any(r->io);
}

void mail_post_external(struct reactor_group *g, unsigned to, struct mail *mail)
{
    ASSERT(to < reactor_group_count(g) && mail->deliver != NULL && !list_linked(&mail->link));
    struct reactor *r = reactor_group_at(g, to);
    struct reactor_private *p = r->priv;
    mail->from = REACTOR_MAX;
    pthread_mutex_lock(&p->external_lock);
    list_push_back(&p->external, &mail->link);
    atomic_store_explicit(&p->external_waiting, true, memory_order_relaxed);
    pthread_mutex_unlock(&p->external_lock);
    atomic_thread_fence(memory_order_seq_cst);
    reactor_wake_any(r);
}

/* ---- taking ---- */

static unsigned deliver_from(struct reactor *r, struct channel *channel)
{
    struct mail *mail;
    unsigned count = 0;
    while (count != TAKE_MAX && (mail = channel_take(channel)) != NULL) {
        ++count;
        mail->deliver(r, mail);
    }
    return count;
}

static unsigned deliver_jobs(struct reactor *r, struct channel *results)
{
    struct mail *mail;
    unsigned count = 0;
    while (count != TAKE_MAX && (mail = channel_take(results)) != NULL) {
        const struct job *job = container_of(mail, struct job, back);
        ++count;
        --r->stats.jobs_out;
        r->stats.jobs_ns += job->took_ns;
        r->stats.jobs_pressed_ns += job->pressed ? job->took_ns : 0;
        mail->deliver(r, mail);
    }
    return count;
}

/* Only what is there now: mail that these post to us comes in the next phase. *waiting: counts
 * what of it is still to come. */
static unsigned deliver_list(struct reactor *r, struct list *list, size_t *waiting)
{
    struct list_link *link, last;
    unsigned count = 0;
    list_push_back(list, &last);
    while ((link = list_pop_front(list)) != &last) {
        struct mail *mail = container_of(link, struct mail, link);
        ++count;
        --*waiting;
        mail->deliver(r, mail);
    }
    return count;
}

static unsigned deliver_external(struct reactor *r)
{
    struct reactor_private *p = r->priv;
    struct list here;
    struct list_link *link;
    size_t waiting = 0;
    if (!atomic_load_explicit(&p->external_waiting, memory_order_relaxed))
        return 0;
    /* A stranger holding the lock must not hold a reactor: the flag stays, the next turn tries
     * again. */
    if (pthread_mutex_trylock(&p->external_lock) != 0)
        return 0;
    list_init(&here);
    while ((link = list_pop_front(&p->external)) != NULL) {
        list_push_back(&here, link);
        ++waiting;
    }
    atomic_store_explicit(&p->external_waiting, false, memory_order_relaxed);
    pthread_mutex_unlock(&p->external_lock);
    return list_empty(&here) ? 0 : deliver_list(r, &here, &waiting);
}

bool mailbox_take(struct reactor *r)
{
    struct reactor_private *p = r->priv;
    unsigned total = 0;
    if (!list_empty(&p->self_mail))
        total += deliver_list(r, &p->self_mail, &p->self_waiting);
    for (unsigned i = 0; i != r->count; ++i) {
        unsigned mails = deliver_from(r, &p->inbox[i]);
        unsigned jobs = deliver_jobs(r, &p->results[i]);
        p->taken |= mails != 0 ? bit_of(i) : 0;
        p->results_taken |= jobs != 0 ? bit_of(i) : 0;
        total += mails + jobs;
    }
    for (unsigned i = 0; i != reactor_outside_count(r->group); ++i) {
        unsigned jobs = deliver_jobs(r, &p->results[r->count + i]);
        p->outside_taken |= jobs != 0 ? bit_of(i) : 0;
        total += jobs;
    }
    total += deliver_external(r);
    r->stats.mail_taken += total;
    return total != 0;
}

static bool any_can_flush(const struct outbox *outboxes, uint64_t bits)
{
    for (; bits != 0; bits &= bits - 1) {
        if (outbox_can_flush(&outboxes[__builtin_ctzll(bits)]))
            return true;
    }
    return false;
}

bool mailbox_has_work(struct reactor *r)
{
    const struct reactor_private *p = r->priv;
    if (!list_empty(&p->self_mail) ||
        atomic_load_explicit(&p->external_waiting, memory_order_relaxed))
        return true;
    for (unsigned i = 0; i != r->count; ++i) {
        if (!channel_empty(&p->inbox[i]) || !channel_empty(&p->results[i]))
            return true;
    }
    for (unsigned i = 0; i != reactor_outside_count(r->group); ++i) {
        if (!channel_empty(&p->results[r->count + i]))
            return true;
    }
    return any_can_flush(p->to_peers, p->overflowing) ||
           any_can_flush(p->to_workers, p->jobs_overflowing) ||
           any_can_flush(p->to_workers + r->count, p->outside_overflowing);
}

/* Rings that others are filling are counted as they are seen. Mail of strangers is left out: it
 * lies under a lock, and is taken a turn after it came. */
uint64_t mailbox_depth(const struct reactor *r)
{
    const struct reactor_private *p = r->priv;
    unsigned workers = r->count + reactor_outside_count(r->group);
    uint64_t depth = p->self_waiting;
    for (unsigned i = 0; i != r->count; ++i)
        depth += spsc_count(&p->inbox[i].ring) + p->to_peers[i].backlog;
    for (unsigned i = 0; i != workers; ++i)
        depth += spsc_count(&p->results[i].ring) + p->to_workers[i].backlog;
    return depth;
}

/* ---- the end of a turn ---- */

/* Pushes what fits; returns the bits of those that still hold some back. */
static uint64_t flush(struct outbox *outboxes, uint64_t bits)
{
    uint64_t still = 0;
    for (; bits != 0; bits &= bits - 1) {
        unsigned i = (unsigned)__builtin_ctzll(bits);
        outbox_flush(&outboxes[i]);
        if (outboxes[i].backlog != 0)
            still |= bit_of(i);
    }
    return still;
}

static uint64_t relieved(struct channel *channels, uint64_t bits)
{
    uint64_t starved = 0;
    for (; bits != 0; bits &= bits - 1) {
        unsigned i = (unsigned)__builtin_ctzll(bits);
        if (channel_relieve(&channels[i]))
            starved |= bit_of(i);
    }
    return starved;
}

static void wake_peer(struct reactor *r, unsigned id)
{
    struct reactor *peer = reactor_group_at(r->group, id);
    struct reactor_private *p = peer->priv;
    if (!atomic_load_explicit(&p->sleeping, memory_order_relaxed) ||
        !atomic_exchange_explicit(&p->sleeping, false, memory_order_relaxed))
        return;
    r->io->ops->wake(r->io, peer->io);
    ++r->stats.wakes_sent;
}

void mailbox_end_turn(struct reactor *r)
{
    struct reactor_private *p = r->priv;
    p->posted |= p->overflowing;
    p->jobs_posted |= p->jobs_overflowing;
    p->outside_posted |= p->outside_overflowing;
    if ((p->posted | p->taken | p->jobs_posted | p->results_taken | p->outside_posted |
         p->outside_taken) == 0)
        return;
    p->overflowing = flush(p->to_peers, p->overflowing);
    p->jobs_overflowing = flush(p->to_workers, p->jobs_overflowing);
    p->outside_overflowing = flush(p->to_workers + r->count, p->outside_overflowing);

    atomic_thread_fence(memory_order_seq_cst); /* pairs with the sleeper's */
    uint64_t peers = p->posted | relieved(p->inbox, p->taken);
    uint64_t workers = p->jobs_posted | relieved(p->results, p->results_taken);
    uint64_t outside = p->outside_posted | relieved(p->results + r->count, p->outside_taken);
    p->posted = p->taken = p->jobs_posted = p->results_taken = 0;
    p->outside_posted = p->outside_taken = 0;
    for (; peers != 0; peers &= peers - 1)
        wake_peer(r, (unsigned)__builtin_ctzll(peers));
    for (; workers != 0; workers &= workers - 1)
        worker_wake(reactor_worker(r->group, (unsigned)__builtin_ctzll(workers)));
    for (; outside != 0; outside &= outside - 1)
        worker_wake(reactor_worker(r->group, r->count + (unsigned)__builtin_ctzll(outside)));
}

/* ---- life ---- */

int mailbox_init(struct reactor *r)
{
    struct reactor_private *p = r->priv;
    list_init(&p->self_mail);
    list_init(&p->external);
    if (pthread_mutex_init(&p->external_lock, NULL) != 0)
        return PDB_RESOURCE_EXHAUSTED;
    unsigned workers = r->count + reactor_outside_count(r->group);
    p->inbox = channels_new(r->count);
    p->results = channels_new(workers);
    p->to_peers = heap_calloc(NULL, r->count, sizeof(*p->to_peers));
    p->to_workers = heap_calloc(NULL, workers, sizeof(*p->to_workers));
    bool all =
        p->inbox != NULL && p->results != NULL && p->to_peers != NULL && p->to_workers != NULL;
    return all ? 0 : PDB_RESOURCE_EXHAUSTED;
}

void mailbox_dispose(struct reactor *r)
{
    struct reactor_private *p = r->priv;
    heap_free(NULL, p->inbox);
    heap_free(NULL, p->results);
    heap_free(NULL, p->to_peers);
    heap_free(NULL, p->to_workers);
    (void)pthread_mutex_destroy(&p->external_lock);
}
