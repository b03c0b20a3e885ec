/* A disk that is full from the Nth write on: for LD_PRELOAD.
 *
 * NO_SPACE_ROOT   only writes to regular files below this folder count
 * NO_SPACE_AFTER  so many of them succeed; the others fail with ENOSPC
 * NO_SPACE_COUNT  a file that grows by one byte with each of them
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static long written;

static int is_full(int fd) {
    const char *root = getenv("NO_SPACE_ROOT"), *after = getenv("NO_SPACE_AFTER");
    const char *count = getenv("NO_SPACE_COUNT");
    char link[64], path[4096];
    struct stat state;
    int saved = errno;
    if (!root || fstat(fd, &state) != 0 || !S_ISREG(state.st_mode)) {
        errno = saved;
        return 0;
    }
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    errno = saved;
    if (length < 0 || strncmp(path, root, strlen(root)) != 0) return 0;
    if (count) {
        int counter = open(count, O_WRONLY | O_APPEND | O_CREAT, 0600);
        if (counter >= 0) {
            syscall(SYS_write, counter, ".", 1);
            close(counter);
        }
    }
    errno = saved;
    if (after && __atomic_add_fetch(&written, 1, __ATOMIC_SEQ_CST) > atol(after)) {
        errno = ENOSPC;
        return 1;
    }
    return 0;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

ssize_t write(int fd, const void *data, size_t size) {
    return is_full(fd) ? -1 : REAL(write)(fd, data, size);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t at) {
    return is_full(fd) ? -1 : REAL(pwrite)(fd, data, size, at);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) {
    return is_full(fd) ? -1 : REAL(pwrite64)(fd, data, size, at);
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    return is_full(fd) ? -1 : REAL(writev)(fd, parts, count);
}

ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t at) {
    return is_full(fd) ? -1 : REAL(pwritev)(fd, parts, count, at);
}

size_t fwrite(const void *data, size_t size, size_t count, FILE *file) {
    return is_full(fileno(file)) ? 0 : REAL(fwrite)(data, size, count, file);
}
