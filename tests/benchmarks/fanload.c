/* fanload: opens WebSocket sessions, posts messages over HTTP, and counts what arrives, in one epoll loop.
 *
 * In C, because a client in Python needs more CPU than the server that it measures. It speaks to 127.0.0.1 only, ends
 * by itself at --deadline, and prints one JSON object.
 *
 * A message is one request made from a template. It is in flight until it was answered with 202 and received as often
 * as --receipts says. In the template, "@@T" and 19 digits become the marker with the number of the message, which
 * keeps the length; the marker is found in whatever framing the server has, as long as nothing is compressed.
 *
 *   --port PORT --pid PID             the server, and the process whose CPU and memory are read
 *   --sessions N --warm-sessions N    sessions to open, after so many that are not measured
 *   --headers FILE                    the header line of each session: its token
 *   --template FILE --receipts N      the request, and how many sessions each message reaches
 *   --in-flight N                     connections that post, each with one message in flight
 *   --messages N --warm-messages N    messages at most, after so many that are not measured
 *   --cpu-seconds S                   no further messages once the server has used so much CPU for the measured ones
 *   --rate N                          instead of as fast as they finish, post N messages per second
 *   --deadline S                      give up after so long
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include <netinet/in.h>
#include <netinet/tcp.h>

#define MARKER "@@T"
enum {
    MARKER_DIGITS = 19,
    MARKER_BYTES = sizeof MARKER - 1 + MARKER_DIGITS,
    OPENING_AT_A_TIME = 100,
    SESSIONS_PER_ADDRESS = 20000, /* Below the 28,000 ports that an address has. */
    EVENTS_AT_A_TIME = 512,
    CHUNK_BYTES = 256 * 1024,
    HEAD_BYTES = 4096,
};
static const double CPU_CHECK_SECONDS = 0.02;
static const double SETTLE_SECONDS = 0.3;

/* What an epoll event is about: the kind in the upper half of its data, an index in the lower. */
enum kind { SESSION, PUBLISHER, PACE };

enum session_state { AWAITS_HEAD, AWAITS_WELCOME, OPEN };

struct session {
    int fd;
    enum session_state state;
    int tail_bytes;
    char tail[MARKER_BYTES]; /* The end of the last read: it may be the beginning of a marker. */
};

struct message {
    double began;
    double received; /* When the last of its receipts came. */
    long receipts;
};

struct publisher {
    int fd;
    long message; /* Its number; -1 while nothing is in flight. */
    bool is_answered;
    long answer_bytes;   /* Received of the answer so far. */
    long answer_expects; /* Size of the whole answer; 0 until its head has arrived. */
    char head[HEAD_BYTES + 1];
};

static struct {
    int port, pid, sessions, warm_sessions, receipts, in_flight, rate;
    long messages, warm_messages;
    double cpu_seconds, deadline_seconds;
    const char *headers, *template;
} options = {.in_flight = 1, .cpu_seconds = 1e9, .deadline_seconds = 60};

static int poller;
static double deadline;
static char chunk[CHUNK_BYTES + MARKER_BYTES + 1];

static struct session *sessions;
static int opened;

static struct publisher *publishers;
static struct message *messages;
static long posted, finished;
static char *template;
static size_t template_bytes;
static char *template_digits;
static uint64_t due; /* Messages that the pace has allowed so far. */
static double pace_began;

static void fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fputs("fanload: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(1);
}

/* -- clocks and meters ------------------------------------------------------------------------------------------- */

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}

static size_t read_whole(const char *path, char *into, size_t room) {
    FILE *file = fopen(path, "r");
    if (!file) fail("cannot read %s: %m", path);
    size_t size = fread(into, 1, room - 1, file);
    into[size] = 0;
    fclose(file);
    return size;
}

/* User and system time of all threads of the server. Its resolution is a clock tick, 10 ms as a rule. */
static double server_cpu_seconds(void) {
    char path[64], text[1024];
    unsigned long user, system;
    snprintf(path, sizeof path, "/proc/%d/stat", options.pid);
    read_whole(path, text, sizeof text);
    char *after_name = strrchr(text, ')');
    const char *fields = " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu";
    if (!after_name || sscanf(after_name + 1, fields, &user, &system) != 2) fail("cannot read %s", path);
    return (double)(user + system) / sysconf(_SC_CLK_TCK);
}

static long server_memory_bytes(void) {
    char path[64], text[4096];
    long kibibytes;
    snprintf(path, sizeof path, "/proc/%d/status", options.pid);
    read_whole(path, text, sizeof text);
    char *line = strstr(text, "\nVmRSS:");
    if (!line || sscanf(line, "\nVmRSS: %ld", &kibibytes) != 1) fail("cannot read %s", path);
    return kibibytes * 1024;
}

static double own_cpu_seconds(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_utime.tv_sec + usage.ru_stime.tv_sec + (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

/* -- sockets ----------------------------------------------------------------------------------------------------- */

static void watch(int fd, enum kind kind, uint32_t index) {
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = (uint64_t)kind << 32 | index};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event)) fail("epoll: %m");
}

/* Connect from the n-th loopback address, since one address has too few ports for all sessions. */
static int dial(int n) {
    int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    if (fd < 0) fail("socket: %m");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    /* The port is chosen by connect: bind would search longer and longer for one that nobody has at all. */
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
    struct sockaddr_in source = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK + n)};
    if (bind(fd, (struct sockaddr *)&source, sizeof source)) fail("bind: %m");
    struct sockaddr_in server = {
        .sin_family = AF_INET, .sin_port = htons(options.port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (connect(fd, (struct sockaddr *)&server, sizeof server)) fail("connect: %m");
    return fd;
}

static void write_whole(int fd, const char *data, size_t size) {
    while (size) {
        ssize_t written = write(fd, data, size);
        if (written <= 0) fail("write: %m");
        data += written;
        size -= written;
    }
}

/* -- messages ---------------------------------------------------------------------------------------------------- */

static void finish_if_done(struct publisher *publisher) {
    if (!publisher->is_answered || messages[publisher->message].receipts < options.receipts) return;
    publisher->message = -1;
    finished++;
}

static void post(struct publisher *publisher) {
    struct message *message = &messages[posted];
    char digits[24];
    snprintf(digits, sizeof digits, "%0*ld", MARKER_DIGITS, posted);
    memcpy(template_digits, digits, MARKER_DIGITS);
    /* At a given pace a message begins when it is due: that we or the server are late must not flatter the figure. */
    message->began = options.rate ? pace_began + (posted + 1.0) / options.rate : now();
    publisher->message = posted++;
    publisher->is_answered = false;
    publisher->answer_bytes = publisher->answer_expects = 0;
    /* Blocking, which is safe: the server reads a request whole before it answers. */
    write_whole(publisher->fd, template, template_bytes);
}

static void receive(const char *digits) {
    char number[MARKER_DIGITS + 1] = {0};
    memcpy(number, digits, MARKER_DIGITS);
    long at = atol(number);
    if (at >= posted) fail("message %ld was received before it was sent", at);
    struct message *message = &messages[at];
    message->received = now();
    if (++message->receipts > options.receipts) fail("message %ld was received more than %d times", at, options.receipts);
    if (message->receipts < options.receipts) return;
    for (int i = 0; i < options.in_flight; i++)
        if (publishers[i].message == at) finish_if_done(&publishers[i]);
}

static void read_answer(struct publisher *publisher) {
    ssize_t size = read(publisher->fd, chunk, CHUNK_BYTES);
    if (size <= 0) fail("the server closed a connection that posts");
    if (publisher->message < 0 || publisher->is_answered) fail("the server answered what was not asked");
    if (!publisher->answer_expects) {
        long at = publisher->answer_bytes, room = HEAD_BYTES - at;
        long kept = size < room ? size : room;
        if (room <= 0) fail("an answer with a head over %d bytes", HEAD_BYTES);
        memcpy(publisher->head + at, chunk, kept);
        publisher->head[at + kept] = 0;
        char *end = strstr(publisher->head, "\r\n\r\n");
        char *length = strcasestr(publisher->head, "\r\ncontent-length:");
        if (end && (!length || length > end)) fail("an answer without a length: %.200s", publisher->head);
        if (end && strncmp(publisher->head, "HTTP/1.1 202 ", 13)) fail("refused: %.1000s", publisher->head);
        if (end) publisher->answer_expects = end + 4 - publisher->head + atol(length + 17);
    }
    publisher->answer_bytes += size;
    if (publisher->answer_expects && publisher->answer_bytes >= publisher->answer_expects) {
        publisher->is_answered = true;
        if (!options.receipts) messages[publisher->message].received = now();
        finish_if_done(publisher);
    }
}

/* -- sessions ---------------------------------------------------------------------------------------------------- */

static void start_session(int index, const char *header) {
    char request[16384];
    int size = snprintf(request, sizeof request,
                        "GET /ws HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
                        "Sec-WebSocket-Protocol: notifier.v1\r\n%s\r\n\r\n",
                        options.port, header);
    if (size >= (int)sizeof request) fail("the header of session %d is too long", index);
    sessions[index].fd = dial(1 + index / SESSIONS_PER_ADDRESS);
    watch(sessions[index].fd, SESSION, index);
    write_whole(sessions[index].fd, request, size);
}

/* A session is open once its welcome has begun to arrive, often in one segment with the head of the handshake. */
static void take_opening(struct session *session, ssize_t size) {
    chunk[size] = 0;
    char *end = strstr(chunk, "\r\n\r\n");
    if (session->state == AWAITS_HEAD) {
        if (strncmp(chunk, "HTTP/1.1 101 ", 13) || !end) fail("handshake refused: %.1000s", chunk);
        session->state = AWAITS_WELCOME;
        if (end + 4 == chunk + size) return;
    }
    session->state = OPEN;
    opened++;
}

static void read_session(struct session *session) {
    memcpy(chunk, session->tail, session->tail_bytes);
    ssize_t size = read(session->fd, chunk + session->tail_bytes, CHUNK_BYTES);
    if (size <= 0) fail("the server closed session %td", session - sessions);
    if (session->state != OPEN) {
        take_opening(session, size);
        return;
    }
    char *at = chunk, *end = chunk + session->tail_bytes + size, *marker;
    while ((marker = memmem(at, end - at, MARKER, sizeof MARKER - 1)) && end - marker >= MARKER_BYTES) {
        receive(marker + sizeof MARKER - 1);
        at = marker + MARKER_BYTES;
    }
    session->tail_bytes = end - at < MARKER_BYTES ? end - at : MARKER_BYTES - 1;
    memcpy(session->tail, end - session->tail_bytes, session->tail_bytes);
}

/* -- the loop ---------------------------------------------------------------------------------------------------- */

static void turn(int timeout_ms) {
    struct epoll_event events[EVENTS_AT_A_TIME];
    int count = epoll_wait(poller, events, EVENTS_AT_A_TIME, timeout_ms);
    for (int i = 0; i < count; i++) {
        uint32_t index = (uint32_t)events[i].data.u64;
        uint64_t expirations;
        switch ((enum kind)(events[i].data.u64 >> 32)) {
        case SESSION: read_session(&sessions[index]); break;
        case PUBLISHER: read_answer(&publishers[index]); break;
        case PACE: /* Its index is the timer itself. */
            if (read(index, &expirations, sizeof expirations) == sizeof expirations) due += expirations;
            break;
        }
    }
    if (now() > deadline)
        fail("out of time: %d sessions open, %ld messages sent, %ld finished", opened, posted, finished);
}

static void open_sessions(int until, FILE *headers) {
    static char header[8192];
    for (int started = opened; opened < until; turn(100))
        for (; started < until && started - opened < OPENING_AT_A_TIME; started++) {
            if (!fgets(header, sizeof header, headers)) fail("there are fewer header lines than sessions");
            header[strcspn(header, "\n")] = 0;
            start_session(started, header);
        }
}

/* Lets the server finish what it does after a handshake, so that its memory is that of idle sessions. */
static void settle(void) {
    for (double until = now() + SETTLE_SECONDS; now() < until;) turn(10);
}

static void start_pace(void) {
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    long period = 1000000000L / options.rate;
    struct itimerspec pace = {{period / 1000000000L, period % 1000000000L}, {period / 1000000000L, period % 1000000000L}};
    pace_began = now();
    if (timer < 0 || timerfd_settime(timer, 0, &pace, NULL)) fail("timerfd: %m");
    watch(timer, PACE, timer);
}

static void post_until(long count, double cpu_limit) {
    double checked_at = now();
    bool is_enough = false;
    while (finished < posted || (posted < count && !is_enough)) {
        for (int i = 0; i < options.in_flight && posted < count && !is_enough; i++)
            if (publishers[i].message < 0 && (!options.rate || (uint64_t)posted < due)) post(&publishers[i]);
        turn(100);
        if (now() - checked_at > CPU_CHECK_SECONDS) {
            checked_at = now();
            is_enough = server_cpu_seconds() >= cpu_limit;
        }
    }
}

static void prepare_messages(void) {
    FILE *file = fopen(options.template, "r");
    if (!file) fail("cannot read %s: %m", options.template);
    fseek(file, 0, SEEK_END);
    template_bytes = ftell(file);
    fclose(file);
    template = malloc(template_bytes + 1);
    read_whole(options.template, template, template_bytes + 1);
    char *marker = memmem(template, template_bytes, MARKER, sizeof MARKER - 1);
    if (!marker) fail("the template has no marker");
    template_digits = marker + sizeof MARKER - 1;
    messages = calloc(options.warm_messages + options.messages, sizeof *messages);
    publishers = calloc(options.in_flight, sizeof *publishers);
    for (int i = 0; i < options.in_flight; i++) {
        publishers[i].fd = dial(0);
        publishers[i].message = -1;
        watch(publishers[i].fd, PUBLISHER, i);
    }
}

/* -- the report -------------------------------------------------------------------------------------------------- */

static int compare(const void *left, const void *right) {
    double difference = *(const double *)left - *(const double *)right;
    return (difference > 0) - (difference < 0);
}

/* From the beginning of a message to its last receipt. Sorts the latencies of the measured messages. */
static double *sorted_latencies(long from, long count) {
    double *latencies = malloc(count * sizeof *latencies);
    for (long i = 0; i < count; i++) latencies[i] = (messages[from + i].received - messages[from + i].began) * 1000;
    qsort(latencies, count, sizeof *latencies, compare);
    return latencies;
}

static void measure_opening(void) {
    FILE *headers = fopen(options.headers, "r");
    if (!headers) fail("cannot read %s: %m", options.headers);
    open_sessions(options.warm_sessions, headers);
    settle();
    long memory = server_memory_bytes();
    double cpu = server_cpu_seconds();
    open_sessions(options.warm_sessions + options.sessions, headers);
    cpu = server_cpu_seconds() - cpu;
    settle();
    memory = server_memory_bytes() - memory;
    fclose(headers);
    printf("\"sessions\": %d, \"open_cpu_seconds\": %.2f, \"memory_bytes\": %ld", options.sessions, cpu, memory);
}

static void measure_messages(void) {
    prepare_messages();
    if (options.rate) start_pace();
    post_until(options.warm_messages, 1e9);
    double began = now(), own_cpu = own_cpu_seconds(), cpu = server_cpu_seconds();
    long from = posted;
    post_until(options.warm_messages + options.messages, cpu + options.cpu_seconds);
    double seconds = now() - began;
    cpu = server_cpu_seconds() - cpu;
    long count = posted - from;
    if (!count) fail("no message was measured");
    double *latencies = sorted_latencies(from, count);
    printf(", \"messages\": %ld, \"seconds\": %.4f, \"cpu_seconds\": %.2f, \"load_cpu_seconds\": %.2f", count, seconds,
           cpu, own_cpu_seconds() - own_cpu);
    printf(", \"p50_milliseconds\": %.4f, \"p99_milliseconds\": %.4f", latencies[count / 2], latencies[count * 99 / 100]);
}

static void read_options(int argc, char **argv) {
    static const struct option known[] = {
        {"port", 1, 0, 'p'},          {"pid", 1, 0, 's'},         {"sessions", 1, 0, 'n'},
        {"warm-sessions", 1, 0, 'N'}, {"headers", 1, 0, 'H'},     {"template", 1, 0, 't'},
        {"receipts", 1, 0, 'f'},      {"in-flight", 1, 0, 'w'},   {"messages", 1, 0, 'm'},
        {"warm-messages", 1, 0, 'M'}, {"cpu-seconds", 1, 0, 'c'}, {"rate", 1, 0, 'r'},
        {"deadline", 1, 0, 'd'},      {0, 0, 0, 0},
    };
    for (int option; (option = getopt_long(argc, argv, "", known, NULL)) != -1;) switch (option) {
        case 'p': options.port = atoi(optarg); break;
        case 's': options.pid = atoi(optarg); break;
        case 'n': options.sessions = atoi(optarg); break;
        case 'N': options.warm_sessions = atoi(optarg); break;
        case 'H': options.headers = optarg; break;
        case 't': options.template = optarg; break;
        case 'f': options.receipts = atoi(optarg); break;
        case 'w': options.in_flight = atoi(optarg); break;
        case 'm': options.messages = atol(optarg); break;
        case 'M': options.warm_messages = atol(optarg); break;
        case 'c': options.cpu_seconds = atof(optarg); break;
        case 'r': options.rate = atoi(optarg); break;
        case 'd': options.deadline_seconds = atof(optarg); break;
        default: exit(2);
        }
    if (!options.port || !options.pid || !options.headers || options.in_flight < 1) fail("see the top of the source");
}

int main(int argc, char **argv) {
    read_options(argc, argv);
    poller = epoll_create1(0);
    deadline = now() + options.deadline_seconds;
    sessions = calloc(options.warm_sessions + options.sessions, sizeof *sessions);
    printf("{");
    measure_opening();
    if (options.template) measure_messages();
    printf("}\n");
    return 0;
}
