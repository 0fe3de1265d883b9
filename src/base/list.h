/* Doubly linked intrusive list with an anchor. A zeroed link is not in a list. No allocation. */
#ifndef BASE_LIST_H
#define BASE_LIST_H

#include "base/container_of.h"

#include <stdbool.h>

struct list_link {
    struct list_link *next, *prev;
};

struct list {
    struct list_link anchor;
};

static inline void list_init(struct list *list)
{
    list->anchor.next = list->anchor.prev = &list->anchor;
}

static inline bool list_empty(const struct list *list)
{
    return list->anchor.next == &list->anchor;
}

static inline bool list_linked(const struct list_link *link)
{
    return link->next != 0;
}

static inline void list_insert_before(struct list_link *at, struct list_link *link)
{
    link->prev = at->prev;
    link->next = at;
    at->prev->next = link;
    at->prev = link;
}

static inline void list_push_back(struct list *list, struct list_link *link)
{
    list_insert_before(&list->anchor, link);
}

static inline void list_push_front(struct list *list, struct list_link *link)
{
    list_insert_before(list->anchor.next, link);
}

/* Legal on a link that is in no list. */
static inline void list_remove(struct list_link *link)
{
    if (link->next == 0)
        return;
    link->prev->next = link->next;
    link->next->prev = link->prev;
    link->next = link->prev = 0;
}

static inline struct list_link *list_pop_front(struct list *list)
{
    struct list_link *link = list->anchor.next;
    if (link == &list->anchor)
        return 0;
    list_remove(link);
    return link;
}

/* `link` must not be removed by the body; see list_each_safe. */
#define list_each(link, list)                                                                      \
    for (struct list_link *link = (list)->anchor.next; link != &(list)->anchor; link = link->next)

#define list_each_safe(link, following, list)                                                      \
    for (struct list_link *link = (list)->anchor.next, *following = link->next;                    \
         link != &(list)->anchor; link = following, following = link->next)

#endif
