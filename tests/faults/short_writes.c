/* Stands before libc: cuts a third of all writes to files short, and interrupts one in eight before its first byte. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

static unsigned long cut;

static unsigned next(void) {
    static __thread unsigned state;
    if (state == 0) {
        const char *seed = getenv("SHORT_WRITES_SEED");
        state = (seed ? (unsigned)strtoul(seed, NULL, 10) : 1) * 2654435761u + (unsigned)gettid();
    }
    return (unsigned)rand_r(&state);
}

/* Sockets, pipes and the daemon log are written as usual. */
static int is_file(int fd) {
    struct stat about;
    return fd > 2 && fstat(fd, &about) == 0 && S_ISREG(about.st_mode);
}

/* The bytes of a write that pass; 0 interrupts it. */
static size_t allowed(int fd, size_t bytes) {
    unsigned chance = next() % 24;
    if (bytes < 2 || chance >= 11 || !is_file(fd)) return bytes;
    __atomic_add_fetch(&cut, 1, __ATOMIC_RELAXED);
    return chance < 3 ? 0 : 1 + next() % (bytes - 1);
}

ssize_t pwrite64(int fd, const void *from, size_t bytes, off64_t at) {
    size_t some = allowed(fd, bytes);
    if (some == 0 && bytes > 0) { errno = EINTR; return -1; }
    return syscall(SYS_pwrite64, fd, from, some, at);
}

ssize_t pwrite(int fd, const void *from, size_t bytes, off_t at) {
    return pwrite64(fd, from, bytes, at);
}

ssize_t write(int fd, const void *from, size_t bytes) {
    size_t some = allowed(fd, bytes);
    if (some == 0 && bytes > 0) { errno = EINTR; return -1; }
    return syscall(SYS_write, fd, from, some);
}

/* Reports the number of cut writes, without which the test would prove nothing. */
__attribute__((destructor)) static void report(void) {
    const char *path = getenv("SHORT_WRITES_LOG");
    FILE *log = path ? fopen(path, "a") : NULL;
    if (log == NULL) return;
    fprintf(log, "%lu\n", cut);
    fclose(log);
}
