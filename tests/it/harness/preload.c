/* Loaded before the C library by processes of a test: says which files were synced, and shows another time of day.
 * Compiled by preload.rs. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

/* One line for each sync that succeeded: the file. */
static void note(int fd) {
    const char *log = getenv("NATTER_PRELOAD_SYNCS");
    char link[64], path[4096];
    if (!log)
        return;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0)
        return;
    path[length++] = '\n';
    int to = open(log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (to < 0)
        return;
    if (write(to, path, length) != length)
        abort();
    close(to);
}

static int sync_by(const char *name, int fd) {
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    int result = real(fd);
    if (result == 0)
        note(fd);
    return result;
}

int fsync(int fd) { return sync_by("fsync", fd); }

int fdatasync(int fd) { return sync_by("fdatasync", fd); }

int clock_gettime(clockid_t clock, struct timespec *time) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real)
        real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(clock, time);
    const char *ahead = clock == CLOCK_REALTIME ? getenv("NATTER_PRELOAD_AHEAD") : NULL;
    if (result == 0 && ahead)
        time->tv_sec += atol(ahead);
    return result;
}
