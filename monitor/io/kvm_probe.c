/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest is two instructions: increment a register, jump back. A timer's signal interrupts
 * KVM_RUN after VDC_KVM_PROBE_RUN_MS, then the register is the count (Linux: Documentation/virt/kvm
 * /api.rst). Registers and page tables for long mode are set directly, so no boot code is needed.
 *
 * Guest memory: 0x1000 the code, 0x2000 PML4, 0x3000 PDPT, 0x4000 PD (one 2 MiB page, identity).
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <vdc/base.h>
#include <vdc/clock.h>
#include <vdc/kvm_probe.h>

#define GUEST_BYTES (2U << 20)
#define CODE 0x1000
#define PML4 0x2000
#define PDPT 0x3000
#define PD 0x4000
/* Instructions of one turn of the loop. */
#define LOOP_INSTRUCTIONS 2

struct machine {
    int kvm;
    int vm;
    int vcpu;
    uint8_t *memory;
    struct kvm_run *run;
    size_t run_bytes;
};

/* What the child tells: a sentence if a step failed, else the two speeds. */
struct report {
    char failed[120];
    uint64_t real_per_s;
    uint64_t long_per_s;
};

static void on_alarm(int sig)
{
    (void)sig; /* its only work is to make KVM_RUN return EINTR */
}

static const char *machine_open(struct machine *machine)
{
    struct kvm_userspace_memory_region region = {.memory_size = GUEST_BYTES};
    int run_bytes;

    machine->kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    if (machine->kvm < 0) {
        return "open /dev/kvm";
    }
    if (ioctl(machine->kvm, KVM_GET_API_VERSION, 0) != KVM_API_VERSION) {
        return "KVM has another API version";
    }
    machine->vm = ioctl(machine->kvm, KVM_CREATE_VM, 0);
    if (machine->vm < 0) {
        return "create a virtual machine";
    }
    machine->memory = mmap(NULL, GUEST_BYTES, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (machine->memory == MAP_FAILED) {
        return "map guest memory";
    }
    region.userspace_addr = (uint64_t)(uintptr_t)machine->memory;
    if (ioctl(machine->vm, KVM_SET_USER_MEMORY_REGION, &region) != 0) {
        return "give it memory";
    }
    machine->vcpu = ioctl(machine->vm, KVM_CREATE_VCPU, 0);
    run_bytes = ioctl(machine->kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
    if (machine->vcpu < 0 || run_bytes < (int)sizeof(struct kvm_run)) {
        return "create a virtual CPU";
    }
    machine->run_bytes = (size_t)run_bytes;
    machine->run =
        mmap(NULL, machine->run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, machine->vcpu, 0);
    return machine->run == MAP_FAILED ? "map the virtual CPU" : NULL;
}

static void use_real_mode(struct machine *machine, struct kvm_sregs *sregs)
{
    /* inc eax; jmp -4 */
    static const uint8_t loop[] = {0x66, 0x40, 0xeb, 0xfc};

    memcpy(machine->memory + CODE, loop, sizeof(loop));
    sregs->cs.base = 0;
    sregs->cs.selector = 0;
}

static void use_long_mode(struct machine *machine, struct kvm_sregs *sregs)
{
    /* inc rax; jmp -5 */
    static const uint8_t loop[] = {0x48, 0xff, 0xc0, 0xeb, 0xfb};
    const uint64_t present_write = 3;
    const uint64_t large_page = 0x80;
    struct kvm_segment code = {
        .limit = 0xffffffff, .selector = 8, .type = 11, .present = 1, .s = 1, .l = 1, .g = 1};
    struct kvm_segment data = {
        .limit = 0xffffffff, .selector = 16, .type = 3, .present = 1, .s = 1, .db = 1, .g = 1};
    uint64_t entry;

    memcpy(machine->memory + CODE, loop, sizeof(loop));
    entry = PDPT | present_write;
    memcpy(machine->memory + PML4, &entry, sizeof(entry));
    entry = PD | present_write;
    memcpy(machine->memory + PDPT, &entry, sizeof(entry));
    entry = present_write | large_page;
    memcpy(machine->memory + PD, &entry, sizeof(entry));
    sregs->cr3 = PML4;
    sregs->cr4 = 0x20;       /* PAE */
    sregs->cr0 = 0x80050033; /* PG AM WP NE ET MP PE */
    sregs->efer = 0x500;     /* LME LMA */
    sregs->cs = code;
    sregs->ds = sregs->es = sregs->fs = sregs->gs = sregs->ss = data;
}

/* Runs the loop; NULL and the speed, or what failed. */
static const char *measure(struct machine *machine,
                           void (*use_mode)(struct machine *, struct kvm_sregs *), uint64_t *per_s)
{
    const struct itimerval timer = {.it_value.tv_usec = VDC_KVM_PROBE_RUN_MS * 1000};
    struct kvm_regs regs = {.rip = CODE, .rflags = 2};
    struct kvm_sregs sregs;
    vdc_mono begin;
    int64_t ns;

    if (ioctl(machine->vcpu, KVM_GET_SREGS, &sregs) != 0) {
        return "read registers";
    }
    use_mode(machine, &sregs);
    if (ioctl(machine->vcpu, KVM_SET_SREGS, &sregs) != 0 ||
        ioctl(machine->vcpu, KVM_SET_REGS, &regs) != 0) {
        return "set registers";
    }
    begin = vdc_clock_mono();
    if (setitimer(ITIMER_REAL, &timer, NULL) != 0) {
        return "set a timer";
    }
    if (ioctl(machine->vcpu, KVM_RUN, 0) == 0 && machine->run->exit_reason != KVM_EXIT_INTR) {
        errno = 0;
        return "run a loop of two instructions";
    }
    ns = vdc_mono_sub(vdc_clock_mono(), begin);
    if (ioctl(machine->vcpu, KVM_GET_REGS, &regs) != 0) {
        return "read registers";
    }
    *per_s = (uint64_t)((__uint128_t)regs.rax * LOOP_INSTRUCTIONS * VDC_SECOND / (uint64_t)ns);
    return NULL;
}

VDC_NORETURN static void run_probe_child(int fd)
{
    struct sigaction action = {.sa_handler = on_alarm};
    struct report report = {0};
    struct machine machine;
    const char *failed;

    (void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    (void)sigaction(SIGALRM, &action, NULL);
    failed = machine_open(&machine);
    if (failed == NULL) {
        failed = measure(&machine, use_real_mode, &report.real_per_s);
    }
    if (failed == NULL) {
        failed = measure(&machine, use_long_mode, &report.long_per_s);
    }
    if (failed != NULL) {
        (void)snprintf(report.failed, sizeof(report.failed), "cannot %s%s%s", failed,
                       errno == 0 ? "" : ": ", errno == 0 ? "" : strerror(errno));
    }
    (void)!write(fd, &report, sizeof(report));
    _exit(0);
}

static bool read_report(int fd, struct report *report)
{
    struct pollfd poll_fd = {.fd = fd, .events = POLLIN};

    return poll(&poll_fd, 1, VDC_KVM_PROBE_TIMEOUT_MS) == 1 &&
           read(fd, report, sizeof(*report)) == (ssize_t)sizeof(*report);
}

static void judge(struct vdc_kvm_probe *probe, const struct report *report)
{
    uint64_t least = VDC_MIN(report->real_per_s, report->long_per_s);

    probe->real_instructions_per_s = report->real_per_s;
    probe->long_instructions_per_s = report->long_per_s;
    if (report->failed[0] != '\0') {
        (void)snprintf(probe->reason, sizeof(probe->reason), "KVM %s -> TCG", report->failed);
        return;
    }
    probe->usable = least >= VDC_KVM_INSTRUCTIONS_PER_S_MIN;
    (void)snprintf(probe->reason, sizeof(probe->reason),
                   "KVM runs %.1f million instructions/s in real mode, %.1f in long mode, limit "
                   "%.0f -> %s",
                   (double)report->real_per_s / 1e6, (double)report->long_per_s / 1e6,
                   (double)VDC_KVM_INSTRUCTIONS_PER_S_MIN / 1e6, probe->usable ? "KVM" : "TCG");
}

void vdc_kvm_probe(struct vdc_kvm_probe *probe)
{
    struct report report = {0};
    int fds[2];
    pid_t pid;

    *probe = (struct vdc_kvm_probe){0};
    if (access("/dev/kvm", R_OK | W_OK) != 0) {
        (void)snprintf(probe->reason, sizeof(probe->reason), "/dev/kvm: %s -> TCG",
                       strerror(errno));
        return;
    }
    if (pipe2(fds, O_CLOEXEC) != 0) {
        (void)snprintf(probe->reason, sizeof(probe->reason), "pipe: %s -> TCG", strerror(errno));
        return;
    }
    pid = fork();
    if (pid == 0) {
        run_probe_child(fds[1]);
    }
    (void)close(fds[1]);
    if (pid < 0 || !read_report(fds[0], &report)) {
        (void)snprintf(report.failed, sizeof(report.failed), "did not finish a probe in %d ms",
                       VDC_KVM_PROBE_TIMEOUT_MS);
    }
    (void)close(fds[0]);
    if (pid > 0) {
        (void)kill(pid, SIGKILL);
        (void)waitpid(pid, NULL, 0);
    }
    judge(probe, &report);
}

#if defined(__x86_64__)
/* Counter and clock read together: of several tries the one with the least time between two
 * readings of the clock, so that an interruption does not count. */
static void read_tsc(uint64_t *tsc, int64_t *ns)
{
    int64_t best = INT64_MAX;

    for (int i = 0; i < 8; i++) {
        vdc_mono before = vdc_clock_mono();
        uint64_t value = __builtin_ia32_rdtsc();
        int64_t width = vdc_mono_sub(vdc_clock_mono(), before);

        if (width < best) {
            best = width;
            *tsc = value;
            *ns = before.ns + width / 2;
        }
    }
}

uint32_t vdc_tsc_khz(void)
{
    const struct timespec pause_time = {.tv_nsec = 10 * VDC_MS};
    uint64_t tsc[2] = {0, 0};
    int64_t ns[2] = {0, 0};

    read_tsc(&tsc[0], &ns[0]);
    (void)nanosleep(&pause_time, NULL);
    read_tsc(&tsc[1], &ns[1]);
    if (ns[1] <= ns[0] || tsc[1] <= tsc[0]) {
        return 0;
    }
    return (uint32_t)((__uint128_t)(tsc[1] - tsc[0]) * 1000000U / (uint64_t)(ns[1] - ns[0]));
}
#else
uint32_t vdc_tsc_khz(void)
{
    return 0;
}
#endif
