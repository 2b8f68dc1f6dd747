// Preloaded into a process: a file system that has no locks, and a log of what reaches the disk.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <unistd.h>

// Fails with the number in EVOSPIKE_TEST_FLOCK, where it is set.
int flock(int fd, int operation) {
    const char *fails = getenv("EVOSPIKE_TEST_FLOCK");
    if (fails) {
        errno = atoi(fails);
        return -1;
    }
    int (*real)(int, int) = (int (*)(int, int))dlsym(RTLD_NEXT, "flock");
    return real(fd, operation);
}

// A line in the file that EVOSPIKE_TEST_LOG names, where it is set.
static void tell(const char *what, const char *path) {
    const char *log = getenv("EVOSPIKE_TEST_LOG");
    FILE *file = log ? fopen(log, "a") : NULL;
    if (file) {
        fprintf(file, "%s %s\n", what, path);
        fclose(file);
    }
}

int fsync(int fd) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    path[length > 0 ? length : 0] = 0;
    tell("sync", path);
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    return real(fd);
}

int rename(const char *from, const char *to) {
    tell("from", from);
    tell("to", to);
    int (*real)(const char *, const char *) = (int (*)(const char *, const char *))dlsym(RTLD_NEXT, "rename");
    return real(from, to);
}
