/* recover_replay.c: the end of a replay. Logs of an archive are replayed up to a moment, and what
 * they have behind it must never come: so all that was brought back is put into segments, with
 * manifests that say up to which version, and the logs can go.
 *
 * The stop is a moment for all logs (struct replay_stop). A group carries the time of its closing,
 * which is before its rows are shown to anyone and before its writes are answered; so whatever was
 * answered before the moment is in, and what was asked for after it is not. With an exact record
 * the log that has it ends right there, and the other logs at that record's time. */
#include "engine/upkeep.h"

#include "base/no_libc_heap.h"

struct settling;

struct settling_shard {
    struct upkeep_wait wait;
    struct settling *settling;
};

struct settling {
    struct engine_core *core;
    struct trail trail;
    int rc;
    uint32_t left;
    struct settling_shard shards[];
};

static void one_is_over(struct settling *settling)
{
    if (--settling->left != 0)
        return;
    struct engine_core *core = settling->core;
    engine_phase_done(core, settling->rc, &settling->trail);
    heap_free(&core->r->heap, settling);
}

static void flushed(struct upkeep_wait *wait, int rc, const struct trail *trail)
{
    struct settling *settling = container_of(wait, struct settling_shard, wait)->settling;
    if (rc < 0 && settling->rc == 0) {
        settling->rc = rc;
        settling->trail = *trail;
    }
    one_is_over(settling);
}

void recover_settle(struct engine_core *core)
{
    uint32_t count = 0, at = 0;
    list_each (link, &core->shard_list)
        count++;
    struct settling *settling =
        heap_calloc(&core->r->heap, 1, sizeof(*settling) + count * sizeof(struct settling_shard));
    if (settling == NULL) {
        struct trail trail = {0};
        (void)trail_add(&trail, PDB_RESOURCE_EXHAUSTED, "replay: out of memory");
        engine_phase_done(core, PDB_RESOURCE_EXHAUSTED, &trail);
        return;
    }
    settling->core = core;
    settling->left = count + 1; /* a wait may be over at once */
    list_each (link, &core->shard_list) {
        struct shard *shard = container_of(link, struct shard, link);
        struct settling_shard *mine = &settling->shards[at++];
        mine->settling = settling;
        mine->wait.version = shard->version_visible;
        mine->wait.done = flushed;
        upkeep_wait_flushed(shard, &mine->wait);
    }
    one_is_over(settling);
}
