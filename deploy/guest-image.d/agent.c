/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The program that a laboratory guest runs: it counts, so that others can see whether time was
 * lost.
 *
 * It is started by the initramfs's init script as process 1, once /proc, /sys and /dev are mounted
 * and the virtio modules are in. Every 100 ms it takes the next number, writes it to its disk, and
 * only when the disk has acknowledged it prints it on the console. So a number on the console is a
 * number that no crash may lose, and a hole or a repetition in the numbers is a guest that went
 * back in time.
 *
 *   GUEST UP name=db-1 first=42        the first line; 42 is the first number that will be printed
 *   COUNT 42                           one line for each number, one write(2) each
 *   GUEST ERROR ...                    a sentence about what doesn't work
 *   GUEST DOWN after=57                the power button was pressed; then the guest powers off
 *
 * The disk (/dev/vda) holds two records of 4096 bytes, written in turn, so a record torn by a crash
 * leaves the one before it whole. A disk whose first bytes are neither zero nor ours belongs to
 * someone else: the agent says so and leaves it alone. Without a disk the count lives in memory
 * only.
 *
 * A virtio-serial port named "agent" answers `ping` with `pong COUNT`, one line each way.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/input.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/reboot.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#define PERIOD_NS 100000000L
#define SLOT_SIZE 4096
#define SLOTS 2
#define DISK_WAIT_MS 10000
#define INPUT_MAX 8
#define LINE_MAX_LEN 256
#define ERROR_EVERY_TICKS 10

static const char RECORD_MAGIC[8] = "VDCCNT1";

/* One slot of the disk, little-endian as the machine is. `check` covers all that stands before it.
 */
struct record {
    char magic[8];
    uint64_t count;
    uint64_t check;
    char unused[SLOT_SIZE - 24];
};
_Static_assert(sizeof(struct record) == SLOT_SIZE, "a record is one slot");

struct agent {
    char name[64];
    int console;
    int disk;              /* -1: no disk, the count is in memory */
    struct record *record; /* aligned for O_DIRECT */
    uint64_t count; /* last number that is safe; printed unless the guest is in the middle of it */
    unsigned int n_failed; /* disk writes failed in a row */
    int inputs[INPUT_MAX]; /* where the power button is seen */
    int n_inputs;
    int port;       /* virtio-serial, -1: none yet */
    bool port_idle; /* nobody on the other side of the port: don't poll it before the next tick */
    char line[LINE_MAX_LEN];
    size_t line_len;
};

/* Says one line on the console in a single write, so that no other line can come in between. */
__attribute__((format(printf, 2, 3))) static void say(const struct agent *agent, const char *format,
                                                      ...)
{
    char text[LINE_MAX_LEN];
    va_list args;

    va_start(args, format);
    int n = vsnprintf(text, sizeof(text) - 1, format, args);
    va_end(args);
    if (n < 0) {
        return;
    }
    size_t len = (size_t)n < sizeof(text) - 2 ? (size_t)n : sizeof(text) - 2;
    text[len++] = '\n';
    while (write(agent->console, text, len) < 0 && errno == EINTR) {
    }
}

/* FNV-1a with 64 bits: it only has to tell a torn or empty record from a whole one. */
static uint64_t record_check(const struct record *record)
{
    const unsigned char *bytes = (const unsigned char *)record;
    uint64_t hash = UINT64_C(0xcbf29ce484222325);

    for (size_t i = 0; i < offsetof(struct record, check); i++) {
        hash = (hash ^ bytes[i]) * UINT64_C(0x100000001b3);
    }
    return hash;
}

/* The word after `key` on the kernel's command line, or `fallback`. */
static void read_kernel_argument(const char *key, char *out, size_t size, const char *fallback)
{
    static char text[4096];
    int fd = open("/proc/cmdline", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);

    if (fd >= 0) {
        close(fd);
    }
    snprintf(out, size, "%s", fallback);
    text[n > 0 ? n : 0] = '\0';
    for (char *word = strtok(text, " \n"); word != NULL; word = strtok(NULL, " \n")) {
        if (strncmp(word, key, strlen(key)) == 0) {
            snprintf(out, size, "%s", word + strlen(key));
        }
    }
}

/* The console passes bytes through as they are: no echo, no carriage returns added. */
static void open_console(struct agent *agent)
{
    struct termios mode;

    agent->console = open("/dev/console", O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (agent->console < 0) {
        agent->console = STDOUT_FILENO;
    }
    if (tcgetattr(agent->console, &mode) == 0) {
        cfmakeraw(&mode);
        (void)tcsetattr(agent->console, TCSANOW, &mode);
    }
}

/* Is there a virtio block device at all? Its /dev node may come a little after its driver. */
static bool has_block_device(void)
{
    DIR *dir = opendir("/sys/bus/virtio/devices");
    bool found = false;

    for (struct dirent *entry; dir != NULL && (entry = readdir(dir)) != NULL;) {
        char path[sizeof("/sys/bus/virtio/devices//device") + sizeof(entry->d_name)], text[16] = "";
        snprintf(path, sizeof(path), "/sys/bus/virtio/devices/%s/device", entry->d_name);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd >= 0) {
            if (read(fd, text, sizeof(text) - 1) > 0 && strtoul(text, NULL, 16) == 2) {
                found = true;
            }
            close(fd);
        }
    }
    if (dir != NULL) {
        closedir(dir);
    }
    return found;
}

/* Reads both slots; the highest whole one is the last number that was acknowledged.
   Returns false if the disk is not ours or can't be read: then nothing may be written to it. */
static bool load_count(struct agent *agent)
{
    static const char zero[sizeof(RECORD_MAGIC)];

    for (int slot = 0; slot < SLOTS; slot++) {
        struct record *record = agent->record;
        if (pread(agent->disk, record, SLOT_SIZE, (off_t)slot * SLOT_SIZE) != SLOT_SIZE) {
            say(agent, "GUEST ERROR read of slot %d: %s", slot, strerror(errno));
            return false;
        }
        if (memcmp(record->magic, RECORD_MAGIC, sizeof(RECORD_MAGIC)) != 0) {
            if (memcmp(record->magic, zero, sizeof(zero)) != 0) {
                say(agent, "GUEST ERROR /dev/vda holds something else in slot %d; left alone",
                    slot);
                return false;
            }
        } else if (record->check == record_check(record) && record->count > agent->count) {
            agent->count = record->count;
        }
    }
    return true;
}

/* Opens the disk if there is one. Returns false if there is one and it must not be used. */
static bool open_disk(struct agent *agent)
{
    agent->disk = -1;
    if (!has_block_device()) {
        return true;
    }
    for (int waited_ms = 0; agent->disk < 0; waited_ms += 10) {
        agent->disk = open("/dev/vda", O_RDWR | O_DIRECT | O_SYNC | O_CLOEXEC);
        if (agent->disk < 0 && (errno != ENOENT || waited_ms >= DISK_WAIT_MS)) {
            say(agent, "GUEST ERROR open /dev/vda: %s", strerror(errno));
            return false;
        }
        if (agent->disk < 0) {
            usleep(10000);
        }
    }
    return load_count(agent);
}

/* Makes `count` safe: on disk if there is one. False: not safe, it must not be printed. */
static bool store_count(struct agent *agent, uint64_t count)
{
    if (agent->disk < 0) {
        return true;
    }
    struct record *record = agent->record;
    memset(record, 0, sizeof(*record));
    memcpy(record->magic, RECORD_MAGIC, sizeof(RECORD_MAGIC));
    record->count = count;
    record->check = record_check(record);
    if (pwrite(agent->disk, record, SLOT_SIZE, (off_t)(count % SLOTS) * SLOT_SIZE) == SLOT_SIZE) {
        agent->n_failed = 0;
        return true;
    }
    if (agent->n_failed++ % ERROR_EVERY_TICKS == 0) {
        say(agent, "GUEST ERROR write of count %" PRIu64 ": %s", count, strerror(errno));
    }
    return false;
}

static void tick(struct agent *agent)
{
    if (store_count(agent, agent->count + 1)) {
        agent->count++;
        say(agent, "COUNT %" PRIu64, agent->count);
    }
}

/* Drivers bind in their own time, so this is asked again at each tick until something is there. */
static void find_devices(struct agent *agent)
{
    for (int i = 0; agent->n_inputs == 0 && i < INPUT_MAX; i++) {
        char path[32];
        snprintf(path, sizeof(path), "/dev/input/event%d", i);
        int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
        if (fd < 0) {
            break;
        }
        agent->inputs[agent->n_inputs++] = fd;
        for (int next = i + 1; next < INPUT_MAX; next++) {
            snprintf(path, sizeof(path), "/dev/input/event%d", next);
            if ((fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC)) >= 0) {
                agent->inputs[agent->n_inputs++] = fd;
            }
        }
    }
    DIR *dir = agent->port < 0 ? opendir("/sys/class/virtio-ports") : NULL;
    for (struct dirent *entry; dir != NULL && (entry = readdir(dir)) != NULL;) {
        char path[sizeof("/sys/class/virtio-ports//name") + sizeof(entry->d_name)], text[32] = "";
        snprintf(path, sizeof(path), "/sys/class/virtio-ports/%s/name", entry->d_name);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd >= 0) {
            if (read(fd, text, sizeof(text) - 1) > 0 && strncmp(text, "agent", 5) == 0) {
                snprintf(path, sizeof(path), "/dev/%s", entry->d_name);
                agent->port = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
            }
            close(fd);
        }
    }
    if (dir != NULL) {
        closedir(dir);
    }
}

static void power_off(struct agent *agent)
{
    say(agent, "GUEST DOWN after=%" PRIu64, agent->count);
    if (agent->disk >= 0) {
        (void)fsync(agent->disk);
    }
    sync();
    (void)tcdrain(agent->console); /* the last line must be out before the machine is */
    (void)reboot(RB_POWER_OFF);
}

static void serve_input(struct agent *agent, int fd)
{
    struct input_event event;

    while (read(fd, &event, sizeof(event)) == (ssize_t)sizeof(event)) {
        if (event.type == EV_KEY && event.code == KEY_POWER && event.value == 1) {
            power_off(agent);
        }
    }
}

/* Answers complete lines; a line that is too long is thrown away whole. */
static void serve_port(struct agent *agent)
{
    ssize_t n =
        read(agent->port, agent->line + agent->line_len, sizeof(agent->line) - agent->line_len);

    if (n <= 0) {
        agent->port_idle = true;
        return;
    }
    agent->line_len += (size_t)n;
    for (char *end; (end = memchr(agent->line, '\n', agent->line_len)) != NULL;) {
        char answer[64];
        size_t used = (size_t)(end - agent->line) + 1;
        *end = '\0';
        if (strcmp(agent->line, "ping") == 0) {
            snprintf(answer, sizeof(answer), "pong %" PRIu64 "\n", agent->count);
        } else {
            snprintf(answer, sizeof(answer), "unknown command\n");
        }
        if (write(agent->port, answer, strlen(answer)) < 0) {
            agent->port_idle = true;
        }
        agent->line_len -= used;
        memmove(agent->line, agent->line + used, agent->line_len);
    }
    if (agent->line_len == sizeof(agent->line)) {
        agent->line_len = 0;
    }
}

/* Waits until `deadline` (CLOCK_MONOTONIC), serving the power button and the port meanwhile. */
static void wait_until(struct agent *agent, const struct timespec *deadline)
{
    for (;;) {
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        struct timespec left = {deadline->tv_sec - now.tv_sec, deadline->tv_nsec - now.tv_nsec};
        if (left.tv_nsec < 0) {
            left.tv_sec--;
            left.tv_nsec += 1000000000L;
        }
        if (left.tv_sec < 0) {
            return;
        }
        struct pollfd fds[INPUT_MAX + 1];
        nfds_t n = 0;
        for (int i = 0; i < agent->n_inputs; i++) {
            fds[n++] = (struct pollfd){.fd = agent->inputs[i], .events = POLLIN};
        }
        /* A port without a peer reports a hang-up again and again: it would make this loop spin. */
        if (agent->port >= 0 && !agent->port_idle) {
            fds[n++] = (struct pollfd){.fd = agent->port, .events = POLLIN};
        }
        if (ppoll(fds, n, &left, NULL) <= 0) {
            continue;
        }
        for (nfds_t i = 0; i < n; i++) {
            if (fds[i].fd == agent->port && fds[i].revents != 0) {
                if (fds[i].revents & POLLIN) {
                    serve_port(agent);
                } else {
                    agent->port_idle = true;
                }
            } else if (fds[i].revents & POLLIN) {
                serve_input(agent, fds[i].fd);
            }
        }
    }
}

int main(void)
{
    static struct agent agent = {.disk = -1, .port = -1};
    struct timespec next;

    open_console(&agent);
    read_kernel_argument("vdc.name=", agent.name, sizeof(agent.name), "guest");
    agent.record =
        mmap(NULL, SLOT_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (agent.record == MAP_FAILED) {
        say(&agent, "GUEST ERROR no memory");
        for (;;) {
            pause();
        }
    }
    bool usable = open_disk(&agent);
    if (usable) {
        say(&agent, "GUEST UP name=%s first=%" PRIu64, agent.name, agent.count + 1);
    }
    clock_gettime(CLOCK_MONOTONIC, &next);
    for (;;) {
        struct timespec now;
        if (usable) {
            tick(&agent);
        }
        find_devices(&agent);
        agent.port_idle = false;
        next.tv_nsec += PERIOD_NS;
        if (next.tv_nsec >= 1000000000L) {
            next.tv_sec++;
            next.tv_nsec -= 1000000000L;
        }
        /* After a pause the count goes on from now: one number per period, no burst to catch up. */
        clock_gettime(CLOCK_MONOTONIC, &now);
        if (now.tv_sec > next.tv_sec || (now.tv_sec == next.tv_sec && now.tv_nsec > next.tv_nsec)) {
            next = now;
        }
        wait_until(&agent, &next);
    }
}
