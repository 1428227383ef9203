/* fanload: opens WebSocket sessions, posts messages, and counts what arrives, in one epoll loop.
 *
 * In C, because a client in Python needs more CPU than the server that it measures. It speaks to 127.0.0.1 only, ends
 * by itself when a stage takes longer than --deadline, and prints a JSON object for each stage, one a line. It knows no
 * server: what is notifier's, and what another server's, is in the files and options that it is given.
 *
 * A message is made from a template. It is in flight until it was answered with 201 or 202 and received as often as
 * expected; one that is missing, or comes twice, is a failure. In the template, "@@T" and 19 digits become the marker
 * with the number of the message, which keeps the length; the marker is found in whatever framing the server has.
 * Where the server compresses, messages are told by their order: a session's n-th is the n-th posted since it is open.
 *
 *   --port PORT[,PORT] --pid PID[,PID]  where sessions connect to, in turn, and whose CPU and memory are read
 *   --path PATH --header LINE           of each handshake
 *   --headers FILE                      a further line for each handshake: its token
 *   --extension NAME                    offer it; exit with 3 where the server does not take it
 *   --greeting FILE                     what to write once the handshake is answered: frames, ready to be sent
 *   --opening-messages N                a session is open once it has received so many
 *   --at-a-time N                       handshakes that wait for their answer
 *   --template FILE --post-port PORT    the request, and where it goes unless to the first of the ports
 *   --introduction FILE                 what to write first to a connection that posts
 *   --unanswered                        nothing is answered, so that all messages share one connection
 *   --deadline S                        give up when a stage takes so long
 *   --stepwise                          begin each stage when a line comes on standard input
 *   --stage open=N                      open sessions until there are so many
 *   --stage in-flight=N,messages=N      post at most so many, so many at a time; further:
 *       warm=N                          post so many before, which are not measured
 *       receipts=N                      sessions that each message reaches; all unless given
 *       cpu-milliseconds=N              no further ones once the measured ones have cost the servers so much CPU
 *       rate=N                          instead of as fast as they finish, post so many per second
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <getopt.h>
#include <stdbool.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <netinet/in.h>
#include <netinet/tcp.h>

#include "meters.h"

#include "frames.h"

#define MARKER "@@T"
enum {
    MARKER_DIGITS = 19,
    MARKER_BYTES = sizeof MARKER - 1 + MARKER_DIGITS,
    SESSIONS_PER_ADDRESS = 20000, /* Below the 28,000 ports that an address has. */
    EVENTS_AT_A_TIME = 512,
    CHUNK_BYTES = 256 * 1024,
    HEAD_BYTES = 4096,
    STAGES_AT_MOST = 64,
    PORTS_AT_MOST = 8,
    NOT_NEGOTIATED = 3,
};
static const double CPU_CHECK_SECONDS = 0.02;
static const double SETTLE_SECONDS = 0.3;

/* What an epoll event is about: the kind in the upper half of its data, an index in the lower. */
enum kind { SESSION, PUBLISHER, PACE };

enum session_state { AWAITS_HEAD, AWAITS_WELCOME, OPEN };

struct session {
    int fd;
    enum session_state state;
    struct frames frames;
    long received; /* Messages, those before it was open included. */
    long missed;   /* Messages that were posted before it was open. */
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

/* One --stage. */
struct stage {
    long open, in_flight, messages, warm, receipts, cpu_milliseconds, rate;
};

static struct {
    int ports[PORTS_AT_MOST], port_count, post_port, opening_messages, at_a_time;
    const char *path, *header, *headers, *extension, *greeting, *template, *introduction;
    bool is_unanswered, is_stepwise;
    double deadline_seconds;
    struct stage stages[STAGES_AT_MOST];
    int stage_count;
} options = {.path = "/", .at_a_time = 100, .deadline_seconds = 60};

static int poller;
static double deadline;
static char chunk[CHUNK_BYTES + MARKER_BYTES + 1];
static long received_bytes;

static struct session *sessions;
static int started, opened;
static FILE *headers;
static char greeting[HEAD_BYTES], introduction[HEAD_BYTES];
static size_t greeting_bytes, introduction_bytes;

static const struct stage *stage;
static struct publisher *publishers;
static struct message *messages;
static long posted, finished;
static char *template;
static size_t template_bytes;
static char *template_digits;
static uint64_t due; /* Messages of this stage that the pace has allowed so far. */
static double pace_began;
static long pace_from; /* The first message of the pace. */

/* -- files and sockets ------------------------------------------------------------------------------------------- */

static FILE *open_file(const char *path) {
    FILE *file = fopen(path, "r");
    if (!file) fail("cannot read %s: %m", path);
    return file;
}

static size_t read_small(const char *path, char *into) {
    if (!path) return 0;
    FILE *file = open_file(path);
    size_t size = fread(into, 1, HEAD_BYTES, file);
    fclose(file);
    if (size == HEAD_BYTES) fail("%s is too long", path);
    return size;
}

static void watch(int fd, enum kind kind, uint32_t index) {
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = (uint64_t)kind << 32 | index};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event)) fail("epoll: %m");
}

/* Connect from the n-th loopback address, since one address has too few ports for all sessions. */
static int dial(int port, int n) {
    int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    if (fd < 0) fail("socket: %m");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    /* The port is chosen by connect: bind would search longer and longer for one that nobody has at all. */
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
    struct sockaddr_in source = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK + n)};
    if (bind(fd, (struct sockaddr *)&source, sizeof source)) fail("bind: %m");
    struct sockaddr_in server = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
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

static long expected_receipts(void) { return stage->receipts < 0 ? opened : stage->receipts; }

static void finish_if_done(struct publisher *publisher) {
    if (!publisher->is_answered || messages[publisher->message].receipts < expected_receipts()) return;
    publisher->message = -1;
    finished++;
}

static void post(struct publisher *publisher) {
    struct message *message = &messages[posted];
    char digits[24];
    snprintf(digits, sizeof digits, "%0*ld", MARKER_DIGITS, posted);
    memcpy(template_digits, digits, MARKER_DIGITS);
    /* At a given pace a message begins when it is due: that we or the server are late must not flatter the figure. */
    message->began = stage->rate ? pace_began + (posted - pace_from + 1.0) / stage->rate : now();
    publisher->message = posted++;
    publisher->is_answered = options.is_unanswered;
    publisher->answer_bytes = publisher->answer_expects = 0;
    /* Blocking, which is safe: the server reads a request whole before it answers. */
    write_whole(publisher->fd, template, template_bytes);
}

static void receive(long at) {
    if (!stage || !stage->in_flight || at >= posted) fail("message %ld was received before it was sent", at);
    struct message *message = &messages[at];
    message->received = now();
    if (++message->receipts > expected_receipts())
        fail("message %ld was received more than %ld times", at, expected_receipts());
    if (message->receipts < expected_receipts()) return;
    for (int i = 0; i < stage->in_flight; i++)
        if (publishers[i].message == at) finish_if_done(&publishers[i]);
}

static void take_answer_head(struct publisher *publisher, ssize_t size) {
    long at = publisher->answer_bytes, room = HEAD_BYTES - at;
    long kept = size < room ? size : room;
    if (room <= 0) fail("an answer with a head over %d bytes", HEAD_BYTES);
    memcpy(publisher->head + at, chunk, kept);
    publisher->head[at + kept] = 0;
    char *end = strstr(publisher->head, "\r\n\r\n");
    char *length = strcasestr(publisher->head, "\r\ncontent-length:");
    if (!end) return;
    if (!length || length > end) fail("an answer without a length: %.200s", publisher->head);
    if (strncmp(publisher->head, "HTTP/1.1 202 ", 13) && strncmp(publisher->head, "HTTP/1.1 201 ", 13))
        fail("refused: %.1000s", publisher->head);
    publisher->answer_expects = end + 4 - publisher->head + atol(length + 17);
}

static void read_answer(struct publisher *publisher) {
    ssize_t size = read(publisher->fd, chunk, CHUNK_BYTES);
    if (size <= 0) fail("the server closed a connection that posts");
    if (options.is_unanswered) return;
    if (publisher->message < 0 || publisher->is_answered) fail("the server answered what was not asked");
    if (!publisher->answer_expects) take_answer_head(publisher, size);
    publisher->answer_bytes += size;
    if (publisher->answer_expects && publisher->answer_bytes >= publisher->answer_expects) {
        publisher->is_answered = true;
        if (!expected_receipts()) messages[publisher->message].received = now();
        finish_if_done(publisher);
    }
}

/* -- sessions ---------------------------------------------------------------------------------------------------- */

static void start_session(void) {
    static char own[8192], request[16384];
    struct session *session = &sessions[started];
    if (headers && !fgets(own, sizeof own, headers)) fail("there are fewer header lines than sessions");
    own[strcspn(own, "\n")] = 0;
    int port = options.ports[started % options.port_count];
    int size = snprintf(request, sizeof request,
                        "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
                        "%s%s%s%s%s%s%s\r\n",
                        options.path, port, options.extension ? "Sec-WebSocket-Extensions: " : "",
                        options.extension ? options.extension : "", options.extension ? "\r\n" : "",
                        options.header ? options.header : "", options.header ? "\r\n" : "", own, *own ? "\r\n" : "");
    if (size >= (int)sizeof request) fail("the header of session %d is too long", started);
    session->fd = dial(port, 1 + started / SESSIONS_PER_ADDRESS);
    watch(session->fd, SESSION, started++);
    write_whole(session->fd, request, size);
}

/* Returns the size of the head, which comes in one segment. */
static size_t take_head(struct session *session, size_t size) {
    chunk[size] = 0;
    char *end = strstr(chunk, "\r\n\r\n");
    if (strncmp(chunk, "HTTP/1.1 101 ", 13) || !end) fail("handshake refused: %.1000s", chunk);
    *end = 0;
    char *extensions = strcasestr(chunk, "\r\nsec-websocket-extensions:");
    if (options.extension && (!extensions || !strcasestr(extensions, options.extension))) {
        fprintf(stderr, "fanload: the server did not negotiate %s\n", options.extension);
        exit(NOT_NEGOTIATED);
    }
    session->state = AWAITS_WELCOME;
    write_whole(session->fd, greeting, greeting_bytes);
    return end + 4 - chunk;
}

static void find_markers(struct session *session, char *at, char *end) {
    char *marker;
    while ((marker = memmem(at, end - at, MARKER, sizeof MARKER - 1)) && end - marker >= MARKER_BYTES) {
        char number[MARKER_DIGITS + 1] = {0};
        memcpy(number, marker + sizeof MARKER - 1, MARKER_DIGITS);
        receive(atol(number));
        at = marker + MARKER_BYTES;
    }
    session->tail_bytes = end - at < MARKER_BYTES ? end - at : MARKER_BYTES - 1;
    memcpy(session->tail, end - session->tail_bytes, session->tail_bytes);
}

static void read_session(struct session *session) {
    memcpy(chunk, session->tail, session->tail_bytes);
    ssize_t size = read(session->fd, chunk + session->tail_bytes, CHUNK_BYTES);
    if (size <= 0) fail("the server closed session %td", session - sessions);
    received_bytes += size;
    char *at = chunk + session->tail_bytes, *end = at + size;
    if (session->state == AWAITS_HEAD) at += take_head(session, size);
    long before = session->received;
    session->received += frames_take(&session->frames, at, end - at);
    if (session->state != OPEN) {
        if (session->received < options.opening_messages) return;
        if (session->received > options.opening_messages) fail("more was received than an opening brings");
        session->state = OPEN;
        session->missed = posted;
        opened++;
    } else if (options.extension)
        for (; before < session->received; before++) receive(session->missed + before - options.opening_messages);
    else
        find_markers(session, chunk, end);
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
        fail("out of time: %d of %d sessions open, %ld messages sent, %ld of them complete", opened, started, posted,
             finished);
}

/* Lets the server finish what it does after a handshake, so that its memory is that of idle sessions. */
static void settle(void) {
    for (double until = now() + SETTLE_SECONDS; now() < until;) turn(10);
}

static int start_pace(void) {
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    long period = 1000000000L / stage->rate;
    struct timespec every = {period / 1000000000L, period % 1000000000L};
    struct itimerspec pace = {every, every};
    pace_began = now();
    pace_from = posted;
    due = 0;
    if (timer < 0 || timerfd_settime(timer, 0, &pace, NULL)) fail("timerfd: %m");
    watch(timer, PACE, timer);
    return timer;
}

static void post_until(long count, double cpu_limit) {
    double checked_at = now();
    bool is_enough = false;
    while (finished < posted || (posted < count && !is_enough)) {
        for (int i = 0; i < stage->in_flight && posted < count && !is_enough; i++)
            if (publishers[i].message < 0 && (!stage->rate || (uint64_t)(posted - pace_from) < due))
                post(&publishers[i]);
        turn(100);
        if (now() - checked_at > CPU_CHECK_SECONDS) {
            checked_at = now();
            is_enough = server_cpu_seconds() >= cpu_limit;
        }
    }
}

static void connect_publishers(void) {
    publishers = calloc(stage->in_flight, sizeof *publishers);
    for (int i = 0; i < stage->in_flight; i++) {
        bool is_shared = options.is_unanswered && i;
        publishers[i].fd = is_shared ? publishers[0].fd : dial(options.post_port, 0);
        publishers[i].message = -1;
        if (is_shared) continue;
        write_whole(publishers[i].fd, introduction, introduction_bytes);
        watch(publishers[i].fd, PUBLISHER, i);
    }
    if (introduction_bytes) settle();
}

static void disconnect_publishers(void) {
    for (int i = 0; i < stage->in_flight; i++)
        if (!i || !options.is_unanswered) close(publishers[i].fd);
    free(publishers);
}

/* -- the stages and their report --------------------------------------------------------------------------------- */

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
    long memory = server_memory_bytes();
    double cpu = server_cpu_seconds(), began = now();
    int before = opened;
    for (; opened < stage->open; turn(100))
        while (started < stage->open && started - opened < options.at_a_time) start_session();
    double seconds = now() - began;
    cpu = server_cpu_seconds() - cpu;
    settle();
    printf("{\"sessions\": %d, \"seconds\": %.4f, \"cpu_seconds\": %.6f, \"memory_bytes\": %ld}", opened - before,
           seconds, cpu, server_memory_bytes() - memory);
}

static void measure_messages(void) {
    connect_publishers();
    int timer = stage->rate ? start_pace() : -1;
    post_until(posted + stage->warm, 1e9);
    long from = posted, bytes = received_bytes;
    double began = now(), own_cpu = own_cpu_seconds(), cpu = server_cpu_seconds();
    post_until(posted + stage->messages, stage->cpu_milliseconds ? cpu + stage->cpu_milliseconds / 1e3 : 1e9);
    double ended = now();
    cpu = server_cpu_seconds() - cpu;
    own_cpu = own_cpu_seconds() - own_cpu;
    bytes = received_bytes - bytes;
    disconnect_publishers();
    if (timer >= 0) close(timer);
    long count = posted - from;
    if (!count) fail("no message was measured");
    double *latencies = sorted_latencies(from, count);
    printf("{\"sessions\": %d, \"messages\": %ld, \"seconds\": %.4f, \"cpu_seconds\": %.6f, \"load_cpu_seconds\": %.6f",
           opened, count, ended - began, cpu, own_cpu);
    printf(", \"began\": %.6f, \"ended\": %.6f, \"received_bytes\": %ld", began, ended, bytes);
    double p50 = latencies[count / 2], p99 = latencies[count * 99 / 100];
    printf(", \"p50_milliseconds\": %.4f, \"p99_milliseconds\": %.4f}", p50, p99);
    free(latencies);
}

static void read_template(void) {
    FILE *file = open_file(options.template);
    fseek(file, 0, SEEK_END);
    template_bytes = ftell(file);
    rewind(file);
    template = malloc(template_bytes);
    if (fread(template, 1, template_bytes, file) != template_bytes) fail("cannot read %s", options.template);
    fclose(file);
    char *marker = memmem(template, template_bytes, MARKER, sizeof MARKER - 1);
    if (!marker || marker + MARKER_BYTES > template + template_bytes) fail("the template has no marker");
    template_digits = marker + sizeof MARKER - 1;
}

static void prepare(void) {
    long session_count = 0, message_count = 0;
    for (int i = 0; i < options.stage_count; i++) {
        if (options.stages[i].open > session_count) session_count = options.stages[i].open;
        message_count += options.stages[i].warm + options.stages[i].messages;
    }
    sessions = calloc(session_count, sizeof *sessions);
    messages = calloc(message_count, sizeof *messages);
    greeting_bytes = read_small(options.greeting, greeting);
    introduction_bytes = read_small(options.introduction, introduction);
    if (options.headers) headers = open_file(options.headers);
    if (options.template) read_template();
}

/* -- options ----------------------------------------------------------------------------------------------------- */

static int read_numbers(char *text, int *into, int room) {
    int count = 0;
    for (char *at = strtok(text, ","); at; at = strtok(NULL, ",")) {
        if (count == room) fail("more than %d of a kind", room);
        into[count++] = atoi(at);
    }
    return count;
}

static void read_stage(char *text) {
    char *const names[] = {"open", "in-flight", "messages", "warm", "receipts", "cpu-milliseconds", "rate", NULL};
    if (options.stage_count == STAGES_AT_MOST) fail("more than %d stages", STAGES_AT_MOST);
    struct stage *into = &options.stages[options.stage_count++];
    *into = (struct stage){.receipts = -1};
    long *const fields[] = {&into->open,     &into->in_flight,        &into->messages, &into->warm,
                            &into->receipts, &into->cpu_milliseconds, &into->rate};
    while (*text) {
        char *value;
        int field = getsubopt(&text, names, &value);
        if (field < 0 || !value) fail("see the top of the source for what a stage is");
        *fields[field] = atol(value);
    }
    if (!into->open == !into->in_flight) fail("a stage either opens sessions or posts");
}

static void read_options(int argc, char **argv) {
    static const struct option known[] = {
        {"port", 1, 0, 'p'},       {"pid", 1, 0, 's'},       {"path", 1, 0, 'u'},
        {"header", 1, 0, 'l'},     {"headers", 1, 0, 'H'},   {"extension", 1, 0, 'e'},
        {"greeting", 1, 0, 'g'},   {"at-a-time", 1, 0, 'a'}, {"opening-messages", 1, 0, 'o'},
        {"template", 1, 0, 't'},   {"post-port", 1, 0, 'P'}, {"introduction", 1, 0, 'i'},
        {"unanswered", 0, 0, 'x'}, {"deadline", 1, 0, 'd'},  {"stage", 1, 0, 'S'},
        {"stepwise", 0, 0, 'w'},   {0, 0, 0, 0},
    };
    for (int option; (option = getopt_long(argc, argv, "", known, NULL)) != -1;) switch (option) {
        case 'p': options.port_count = read_numbers(optarg, options.ports, PORTS_AT_MOST); break;
        case 's': process_count = read_numbers(optarg, processes, PROCESSES_AT_MOST); break;
        case 'u': options.path = optarg; break;
        case 'l': options.header = optarg; break;
        case 'H': options.headers = optarg; break;
        case 'e': options.extension = optarg; break;
        case 'g': options.greeting = optarg; break;
        case 'o': options.opening_messages = atoi(optarg); break;
        case 'a': options.at_a_time = atoi(optarg); break;
        case 't': options.template = optarg; break;
        case 'P': options.post_port = atoi(optarg); break;
        case 'i': options.introduction = optarg; break;
        case 'x': options.is_unanswered = true; break;
        case 'd': options.deadline_seconds = atof(optarg); break;
        case 'S': read_stage(optarg); break;
        case 'w': options.is_stepwise = true; break;
        default: exit(2);
        }
    if (!options.port_count || !process_count || !options.stage_count) fail("see the top of the source");
    if (!options.post_port) options.post_port = options.ports[0];
}

/* Whoever gives the steps may end without a word: the end of the input is ours. */
static void await_step(void) {
    for (int read; (read = getchar()) != '\n';)
        if (read == EOF) exit(1);
}

int main(int argc, char **argv) {
    read_options(argc, argv);
    poller = epoll_create1(0);
    prepare();
    for (int i = 0; i < options.stage_count; i++) {
        stage = &options.stages[i];
        if (stage->in_flight && !options.template) fail("there is no template to post");
        if (options.is_stepwise) await_step();
        deadline = now() + options.deadline_seconds;
        if (stage->open)
            measure_opening();
        else
            measure_messages();
        putchar('\n');
        fflush(stdout);
    }
    return 0;
}
