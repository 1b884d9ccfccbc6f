/* A disk that fails: loaded before the C library, it counts the calls that
 * change what is under one folder and lets those from a given one on fail.
 *
 * CAIRN_SHIM_DIR   the folder
 * CAIRN_SHIM_AT    the number of the first call that fails, from 1
 * CAIRN_SHIM_ERRNO what it says
 * CAIRN_SHIM_ONCE  "1": only that call fails
 * CAIRN_SHIM_MARK  a file that is made when the first call fails
 * CAIRN_SHIM_COUNT a file that gets the number of calls in the end
 *
 * A write that fails has written its first half.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static atomic_long calls;

static int under_folder(const char *path)
{
    const char *folder = getenv("CAIRN_SHIM_DIR");
    return folder && path && strncmp(path, folder, strlen(folder)) == 0;
}

static int fd_under_folder(int fd)
{
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length <= 0)
        return 0;
    path[length] = 0;
    return under_folder(path);
}

/* Whether this call fails; sets errno then. */
static int fails(void)
{
    const char *at = getenv("CAIRN_SHIM_AT"), *once = getenv("CAIRN_SHIM_ONCE");
    const char *mark = getenv("CAIRN_SHIM_MARK"), *number = getenv("CAIRN_SHIM_ERRNO");
    if (!at)
        return 0;
    long call = atomic_fetch_add(&calls, 1) + 1, first = atol(at);
    if (call < first || (call > first && once && *once == '1'))
        return 0;
    if (mark) {
        long fd = syscall(SYS_openat, AT_FDCWD, mark, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
        if (fd >= 0)
            syscall(SYS_close, fd);
    }
    errno = number ? atoi(number) : EIO;
    return 1;
}

__attribute__((destructor)) static void tell(void)
{
    const char *path = getenv("CAIRN_SHIM_COUNT");
    FILE *file = path ? fopen(path, "w") : NULL;
    if (file) {
        fprintf(file, "%ld", atomic_load(&calls));
        fclose(file);
    }
}

static int fd_fails(int fd) { int kept = errno; if (fd_under_folder(fd) && fails()) return 1; errno = kept; return 0; }
static int path_fails(const char *path) { int kept = errno; if (under_folder(path) && fails()) return 1; errno = kept; return 0; }

#define REAL(name) __typeof__(name) *real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

ssize_t write(int fd, const void *bytes, size_t count)
{
    REAL(write);
    if (fd_fails(fd)) {
        int why = errno;
        real(fd, bytes, count / 2);
        errno = why;
        return -1;
    }
    return real(fd, bytes, count);
}

#define PWRITE(name, offset_t)                                                  \
    ssize_t name(int fd, const void *bytes, size_t count, offset_t at)          \
    {                                                                           \
        REAL(name);                                                             \
        if (fd_fails(fd)) {                                                     \
            int why = errno;                                                    \
            real(fd, bytes, count / 2, at);                                     \
            errno = why;                                                        \
            return -1;                                                          \
        }                                                                       \
        return real(fd, bytes, count, at);                                      \
    }
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)

#define FD_CALL(result, name, parameters, arguments)                            \
    result name parameters                                                      \
    {                                                                           \
        REAL(name);                                                             \
        return fd_fails(fd) ? -1 : real arguments;                              \
    }
FD_CALL(ssize_t, writev, (int fd, const struct iovec *parts, int count), (fd, parts, count))
FD_CALL(int, fsync, (int fd), (fd))
FD_CALL(int, fdatasync, (int fd), (fd))
FD_CALL(int, sync_file_range, (int fd, off64_t at, off64_t count, unsigned flags), (fd, at, count, flags))
FD_CALL(int, ftruncate, (int fd, off_t size), (fd, size))
FD_CALL(int, ftruncate64, (int fd, off64_t size), (fd, size))
FD_CALL(int, fallocate, (int fd, int mode, off_t at, off_t count), (fd, mode, at, count))
FD_CALL(int, fallocate64, (int fd, int mode, off64_t at, off64_t count), (fd, mode, at, count))

#define PATH_CALL(name, parameters, arguments)                                  \
    int name parameters                                                         \
    {                                                                           \
        REAL(name);                                                             \
        return path_fails(path) ? -1 : real arguments;                          \
    }
PATH_CALL(mkdir, (const char *path, mode_t mode), (path, mode))
PATH_CALL(unlink, (const char *path), (path))
PATH_CALL(rmdir, (const char *path), (path))
PATH_CALL(rename, (const char *path, const char *to), (path, to))
PATH_CALL(renameat, (int a, const char *path, int b, const char *to), (a, path, b, to))
PATH_CALL(renameat2, (int a, const char *path, int b, const char *to, unsigned flags), (a, path, b, to, flags))
PATH_CALL(link, (const char *path, const char *to), (path, to))
PATH_CALL(linkat, (int a, const char *path, int b, const char *to, int flags), (a, path, b, to, flags))

int unlinkat(int folder, const char *path, int flags)
{
    REAL(unlinkat);
    return fd_fails(folder) || path_fails(path) ? -1 : real(folder, path, flags);
}

#define OPEN(name)                                                              \
    int name(const char *path, int flags, ...)                                  \
    {                                                                           \
        REAL(name);                                                             \
        va_list rest;                                                           \
        va_start(rest, flags);                                                  \
        mode_t mode = flags & O_CREAT ? va_arg(rest, mode_t) : 0;               \
        va_end(rest);                                                           \
        if ((flags & O_CREAT) && path_fails(path))                              \
            return -1;                                                          \
        return real(path, flags, mode);                                         \
    }
OPEN(open)
OPEN(open64)

#define OPENAT(name)                                                            \
    int name(int folder, const char *path, int flags, ...)                      \
    {                                                                           \
        REAL(name);                                                             \
        va_list rest;                                                           \
        va_start(rest, flags);                                                  \
        mode_t mode = flags & O_CREAT ? va_arg(rest, mode_t) : 0;               \
        va_end(rest);                                                           \
        if ((flags & O_CREAT) && path_fails(path))                              \
            return -1;                                                          \
        return real(folder, path, flags, mode);                                 \
    }
OPENAT(openat)
OPENAT(openat64)
