/* Loaded before the C library by processes of a test: says which files were synced, keeps what was synced apart, and
 * shows another time of day. Compiled by preload.rs. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
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

/* What the file holds now, under a name of its own that survives a rename, written as a whole or not at all. Holes stay
 * holes: journals are mostly that. */
static void keep(int fd) {
    const char *folder = getenv("NATTER_PRELOAD_DISK");
    char opened[64], kept[4096], next[4128];
    struct statx file;
    if (!folder || statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS | STATX_BTIME, &file) || !S_ISREG(file.stx_mode))
        return;
    snprintf(opened, sizeof opened, "/proc/self/fd/%d", fd);
    snprintf(kept, sizeof kept, "%s/%llu-%lld%09u", folder, (unsigned long long)file.stx_ino,
             (long long)file.stx_btime.tv_sec, file.stx_btime.tv_nsec);
    snprintf(next, sizeof next, "%s.%ld", kept, syscall(SYS_gettid));
    /* Opened again: the file's own place must not move. */
    int from = open(opened, O_RDONLY | O_CLOEXEC);
    int to = open(next, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (from < 0 || to < 0 || ftruncate(to, file.stx_size))
        abort();
    for (off_t end = 0, begin; (begin = lseek(from, end, SEEK_DATA)) >= 0;) {
        off_t at = begin;
        end = lseek(from, begin, SEEK_HOLE);
        while (at < end) {
            off_t place = at;
            ssize_t copied = copy_file_range(from, &at, to, &place, end - at, 0);
            if (copied < 0)
                abort();
            if (copied == 0)
                break;
        }
    }
    close(from);
    close(to);
    if (rename(next, kept))
        abort();
}

static int sync_by(const char *name, int fd) {
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    int result = real(fd);
    if (result == 0) {
        note(fd);
        keep(fd);
    }
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
