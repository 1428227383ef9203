/* meters: the clock, and what processes have used so far. */
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

enum { PROCESSES_AT_MOST = 8 };
static int processes[PROCESSES_AT_MOST], process_count;

static void fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fputs("fanload: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(1);
}

static double seconds_of(clockid_t clock) {
    struct timespec time;
    if (clock_gettime(clock, &time)) fail("a process is gone: %m");
    return time.tv_sec + time.tv_nsec / 1e9;
}

static double now(void) { return seconds_of(CLOCK_MONOTONIC); }

/* User and system time of all threads of the servers, to the nanosecond: proc(5) has the same in ticks of 10 ms. */
static double server_cpu_seconds(void) {
    double sum = 0;
    for (int i = 0; i < process_count; i++) {
        clockid_t clock;
        if (clock_getcpuclockid(processes[i], &clock)) fail("there is no process %d", processes[i]);
        sum += seconds_of(clock);
    }
    return sum;
}

static double own_cpu_seconds(void) { return seconds_of(CLOCK_PROCESS_CPUTIME_ID); }

/* What the servers have written to and share with nobody: neither their code nor what the kernel keeps for sockets. */
static long server_memory_bytes(void) {
    long sum = 0;
    for (int i = 0; i < process_count; i++) {
        char path[64], line[256];
        long kibibytes = -1;
        snprintf(path, sizeof path, "/proc/%d/smaps_rollup", processes[i]);
        FILE *file = fopen(path, "r");
        if (!file) fail("cannot read %s: %m", path);
        while (kibibytes < 0 && fgets(line, sizeof line, file)) sscanf(line, "Private_Dirty: %ld", &kibibytes);
        fclose(file);
        if (kibibytes < 0) fail("cannot read %s", path);
        sum += kibibytes * 1024;
    }
    return sum;
}
