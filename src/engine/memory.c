/* memory.c: gossip about heaps. A note is memory of the sender that travels to one core and back;
 * while it is under way the next number waits in `told`, and the timer sends it when it is due.
 * Cost: two mails per core and change, at most 20 a second. */
#include "engine/memory.h"

#include "base/trail.h"
#include "engine/engine_internal.h"
#include "engine/upkeep.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/no_libc_heap.h"

enum { TELL_EVERY_MS = 50 };

static void note_back(struct reactor *here, struct mail *mail)
{
    struct memory_note *note = container_of(mail, struct memory_note, mail);
    note->under_way = false;
    memory_note_change(engine_here(here));
}

static void note_arrives(struct reactor *here, struct mail *mail)
{
    struct memory_note *note = container_of(mail, struct memory_note, mail);
    unsigned from = mail->from;
    engine_here(here)->memory.others[from] = note->bytes;
    engine_here(here)->memory.others_mapped[from] = note->mapped;
    engine_here(here)->memory.others_wanted[from] = note->wanted;
    mail->deliver = note_back;
    mail_post(here, from, mail);
}

uint64_t memory_row_group_bytes(const struct engine_core *core)
{
    enum { LEAST = 256 << 10, MOST = 32 << 20, PART = 64 };
    uint64_t bytes = core->db->options.memory_limit / PART / core->db->core_count;
    return bytes < LEAST ? LEAST : bytes > MOST ? MOST : bytes;
}

uint64_t memory_first_build_bytes(const struct engine_core *core)
{
    enum { FIXED = 3 << 20, GROUPS = 6, PART = 8 };
    uint64_t bytes = FIXED + GROUPS * memory_row_group_bytes(core);
    uint64_t most = core->db->options.memory_limit / PART / core->db->core_count;
    return bytes < most ? bytes : most;
}

static uint64_t used_here(const struct engine_core *core)
{
    uint64_t first = memory_first_build_bytes(core), builds = core->memory.builds;
    return core->r->heap.bytes_used + core->segment_bytes + core->memory.indexes +
           (builds > first ? builds : first);
}

static void tell_all(struct engine_core *core)
{
    struct memory_view *view = &core->memory;
    uint64_t bytes = used_here(core);
    view->told = bytes;
    for (unsigned to = 0; to < core->db->core_count; to++) {
        struct memory_note *note = &view->notes[to];
        if (to == core->id || note->under_way)
            continue;
        note->under_way = true;
        note->bytes = bytes;
        note->mapped = view->mapped;
        note->wanted = view->wanted;
        note->mail.deliver = note_arrives;
        mail_post(core->r, to, &note->mail);
    }
}

static uint64_t moved(const struct engine_core *core)
{
    uint64_t bytes = used_here(core), told = core->memory.told;
    return bytes > told ? bytes - told : told - bytes;
}

static void timer_fires(struct timer *timer)
{
    struct memory_view *view = container_of(timer, struct memory_view, timer);
    struct engine_core *core = container_of(view, struct engine_core, memory);
    view->timer_set = false;
    if (moved(core) != 0)
        tell_all(core);
}

void memory_note_change(struct engine_core *core)
{
    if (core->db->core_count == 1)
        return;
    uint64_t limit = core->db->options.memory_limit, by = moved(core);
    if (by >= limit / 16) {
        tell_all(core);
        return;
    }
    if (by < limit / 1024 || core->memory.timer_set)
        return;
    core->memory.timer.fire = timer_fires;
    uint64_t due_ns = core->r->now_ns + (uint64_t)TELL_EVERY_MS * 1000 * 1000;
    core->memory.timer_set = timer_set(core->r, &core->memory.timer, due_ns) == 0;
}

uint64_t memory_used(const struct engine_core *core)
{
    uint64_t sum = used_here(core);
    for (unsigned i = 0; i < core->db->core_count; i++)
        if (i != core->id)
            sum += core->memory.others[i];
    return sum;
}

static uint64_t unmapped(const struct engine_core *core)
{
    uint64_t mapped = core->memory.mapped;
    for (unsigned i = 0; i < core->db->core_count; i++)
        if (i != core->id)
            mapped += core->memory.others_mapped[i];
    uint64_t used = memory_used(core);
    return used > mapped ? used - mapped : 0;
}

bool memory_reserve_build(struct engine_core *core, uint64_t bytes, bool must)
{
    struct memory_view *view = &core->memory;
    uint64_t limit = core->db->options.memory_limit, used = unmapped(core);
    uint64_t first = memory_first_build_bytes(core), had = view->builds, has = had + bytes;
    uint64_t more = (has > first ? has : first) - (had > first ? had : first);
    if (!must && (used > limit || more > limit - used))
        return false;
    view->builds = has;
    memory_note_change(core);
    return true;
}

/* What writes are to have beside indexes that are being made: every core a memtable that is written
 * and one that is filled, but not more than a quarter of the limit. */
static uint64_t writes_share(const struct engine_core *core)
{
    const struct pdb_options *o = &core->db->options;
    uint64_t most = o->memory_limit / 4, memtables = most;
    if (o->flush_bytes < most / 2 / core->db->core_count)
        memtables = 2 * o->flush_bytes * core->db->core_count;
    return memtables < most ? memtables : most;
}

static void take_for_index(struct engine_core *core, uint64_t bytes)
{
    core->memory.indexes += bytes;
    memory_note_change(core);
}

bool memory_reserve_index(struct engine_core *core, uint64_t bytes)
{
    uint64_t most = core->db->options.memory_limit - writes_share(core), used = memory_used(core);
    if (used > most || bytes > most - used)
        return false;
    take_for_index(core, bytes);
    return true;
}

bool memory_reserve_index_load(struct engine_core *core, uint64_t bytes)
{
    uint64_t limit = core->db->options.memory_limit, used = unmapped(core);
    if (used > limit || bytes > limit - used)
        return false;
    take_for_index(core, bytes);
    return true;
}

void memory_release_index(struct engine_core *core, uint64_t bytes)
{
    core->memory.indexes -= bytes;
    memory_note_change(core);
}

void memory_release_build(struct engine_core *core, uint64_t bytes)
{
    core->memory.builds -= bytes;
    memory_note_change(core);
}

void memory_want_build(struct engine_core *core, uint64_t bytes)
{
    if (core->memory.wanted == bytes)
        return;
    core->memory.wanted = bytes;
    if (core->db->core_count > 1)
        tell_all(core);
}

int memory_admit(struct engine_core *core, uint64_t more, struct trail *trail)
{
    uint64_t used = memory_used(core) + core->memory.wanted;
    uint64_t limit = core->db->options.memory_limit;
    for (unsigned i = 0; i < core->db->core_count; i++)
        used += i != core->id ? core->memory.others_wanted[i] : 0;
    if (used <= limit && more <= limit - used)
        return 0;
    metrics_add(core->metrics, METRICS_LIMIT_EXCEEDED_AT + METRICS_LIMIT_MEMORY, 1);
    upkeep_free_memory(core);
    return trail_add(
        trail, PDB_RESOURCE_EXHAUSTED,
        "storage.memory_limit: %llu of %llu bytes are in use and this needs about %llu "
        "more; delete records, or raise the limit",
        (unsigned long long)used, (unsigned long long)limit, (unsigned long long)more);
}

/* UINT64_MAX where there is no such file or no limit in it. */
static uint64_t number_in_file(const char *path)
{
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return UINT64_MAX;
    unsigned long long value;
    uint64_t result = fscanf(file, "%llu", &value) == 1 ? (uint64_t)value : UINT64_MAX;
    (void)fclose(file);
    return result;
}

uint64_t memory_default_limit(void)
{
    long pages = sysconf(_SC_PHYS_PAGES), page_bytes = sysconf(_SC_PAGESIZE);
    uint64_t bytes =
        pages > 0 && page_bytes > 0 ? (uint64_t)pages * (uint64_t)page_bytes : (uint64_t)1 << 30;
    static const char *const files[] = {"/sys/fs/cgroup/memory.max",
                                        "/sys/fs/cgroup/memory/memory.limit_in_bytes"};
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        uint64_t limit = number_in_file(files[i]);
        if (limit < bytes)
            bytes = limit;
    }
    return bytes / 10 * 7;
}
