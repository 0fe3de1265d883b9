/* child.c: start and stop of a server process. A free port is found by binding to port 0; between
 * that and the server's own bind somebody else could take it, then the server says so and the demo
 * fails with its message. */
#include "bench/child.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <netinet/in.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { STEP_MS = 50, START_STEPS = 600, STOP_STEPS = 600, LOG_TAIL = 400 };

static void step(void)
{
    const struct timespec wait = {.tv_nsec = STEP_MS * 1000000L};
    (void)nanosleep(&wait, NULL);
}

static int free_port(unsigned *port_out)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool ok = fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0 &&
              getsockname(fd, (struct sockaddr *)&address, &size) == 0;
    if (fd >= 0)
        (void)close(fd);
    *port_out = ntohs(address.sin_port);
    return ok ? 0 : PDB_UNAVAILABLE;
}

static bool accepts(unsigned port)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                                  .sin_port = htons((uint16_t)port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool ok = fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0;
    if (fd >= 0)
        (void)close(fd);
    return ok;
}

static int remove_entry(const char *path, const struct stat *info, int type, struct FTW *where)
{
    (void)info;
    (void)type;
    (void)where;
    return remove(path);
}

static void remove_folder(const char *folder)
{
    if (folder[0] != '\0')
        (void)nftw(folder, remove_entry, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}

/* The end of the server's log, on one line. */
static void log_tail(const struct child *child, char text_out[LOG_TAIL + 1])
{
    char path[128];
    (void)snprintf(path, sizeof(path), "%s/server.log", child->folder);
    text_out[0] = '\0';
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return;
    if (fseek(file, -LOG_TAIL, SEEK_END) != 0)
        (void)fseek(file, 0, SEEK_SET);
    size_t len = fread(text_out, 1, LOG_TAIL, file);
    (void)fclose(file);
    for (size_t i = 0; i < len; i++) {
        if (text_out[i] == '\n')
            text_out[i] = ' ';
    }
    text_out[len] = '\0';
}

static int spawn(struct child *child, const char *program, struct trail *trail)
{
    char data[80];
    char log[80];
    char *argv[] = {strdup(program),
                    strdup("serve"),
                    strdup("--data-dir"),
                    data,
                    strdup("--listen"),
                    child->url,
                    NULL};
    (void)snprintf(data, sizeof(data), "%s/data", child->folder);
    (void)snprintf(log, sizeof(log), "%s/server.log", child->folder);
    posix_spawn_file_actions_t actions;
    int failed = posix_spawn_file_actions_init(&actions);
    if (failed == 0) {
        failed = posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, log,
                                                  O_WRONLY | O_CREAT | O_APPEND, 0600);
        if (failed == 0)
            failed = posix_spawn_file_actions_adddup2(&actions, STDOUT_FILENO, STDERR_FILENO);
        if (failed == 0)
            failed = posix_spawn(&child->pid, program, &actions, NULL, argv, environ);
        (void)posix_spawn_file_actions_destroy(&actions);
    }
    free(argv[0]);
    free(argv[1]);
    free(argv[2]);
    free(argv[4]);
    if (failed == 0)
        return 0;
    child->pid = 0;
    return trail_add(trail, PDB_UNAVAILABLE, "%s: %s", program, strerror(failed));
}

static int wait_ready(struct child *child, unsigned port, const char *program, struct trail *trail)
{
    char tail[LOG_TAIL + 1];
    for (unsigned i = 0; i < START_STEPS; i++) {
        if (waitpid(child->pid, NULL, WNOHANG) != 0) {
            child->pid = 0;
            log_tail(child, tail);
            return trail_add(trail, PDB_UNAVAILABLE, "%s ended: %s", program, tail);
        }
        if (accepts(port))
            return 0;
        step();
    }
    return trail_add(trail, PDB_UNAVAILABLE, "%s does not listen after %d s", program,
                     START_STEPS * STEP_MS / 1000);
}

int child_start(struct child *child_out, const char *program, struct trail *trail)
{
    struct child child = {0};
    unsigned port = 0;
    const char *base = getenv("TMPDIR");
    if (base == NULL || strlen(base) > 32)
        base = "/tmp";
    (void)snprintf(child.folder, sizeof(child.folder), "%s/pdb-bench-XXXXXX", base);
    if (mkdtemp(child.folder) == NULL)
        return trail_add(trail, PDB_UNAVAILABLE, "%s: %s", child.folder, strerror(errno));
    int rc = free_port(&port);
    if (rc < 0)
        (void)trail_add(trail, rc, "no free port");
    (void)snprintf(child.url, sizeof(child.url), "127.0.0.1:%u", port);
    if (rc == 0)
        rc = spawn(&child, program, trail);
    if (rc == 0)
        rc = wait_ready(&child, port, program, trail);
    if (rc < 0) {
        (void)child_stop(&child, NULL);
        return rc;
    }
    *child_out = child;
    return 0;
}

int child_stop(struct child *child, struct trail *trail)
{
    int status = 0;
    bool killed = false;
    if (child->pid != 0) {
        (void)kill(child->pid, SIGTERM);
        for (unsigned i = 0; i < STOP_STEPS && waitpid(child->pid, &status, WNOHANG) == 0; i++) {
            killed = i + 1 == STOP_STEPS;
            step();
        }
        if (killed) {
            (void)kill(child->pid, SIGKILL);
            (void)waitpid(child->pid, &status, 0);
        }
    }
    child->pid = 0;
    remove_folder(child->folder);
    child->folder[0] = '\0';
    if (killed || !WIFEXITED(status) || WEXITSTATUS(status) != 0)
        return trail_add(trail, PDB_INTERNAL, "the server %s (status %d)",
                         killed ? "did not stop within 30 s" : "did not stop cleanly", status);
    return 0;
}
