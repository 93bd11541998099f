/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <vdc/base.h>
#include <vdc/qemu_args.h>

/* virtio-blk's serial number has 20 bytes (virtio 1.2, 5.2.6.1 VIRTIO_BLK_T_GET_ID). */
#define DISK_SERIAL_MAX 20

struct args {
    char **items;
    size_t len;
    size_t cap;
};

static void add(struct args *args, const char *fmt, ...) VDC_PRINTF(2, 3);

static void add(struct args *args, const char *fmt, ...)
{
    va_list list;
    char *text = NULL;

    va_start(list, fmt);
    VDC_ASSERT(vasprintf(&text, fmt, list) >= 0);
    va_end(list);
    VDC_GROW(args->items, args->cap, args->len + 2);
    args->items[args->len++] = text;
    args->items[args->len] = NULL;
}

static void add2(struct args *args, const char *option, const char *value)
{
    add(args, "%s", option);
    add(args, "%s", value);
}

static void add_machine(struct args *args, const struct vdc_qemu_hardware *hardware)
{
    uint64_t memory = hardware->memory_bytes - VDC_QEMU_MEMORY_TRIM;

    VDC_ASSERT(hardware->memory_bytes > VDC_QEMU_MEMORY_TRIM && memory % 1024 == 0);
    add2(args, "-machine", "q35,memory-backend=ram,vmport=off,smbus=off,sata=off");
    if (hardware->kvm) {
        add2(args, "-accel", "kvm");
        add2(args, "-cpu", "host");
    } else {
        add(args, "-accel");
        add(args, "tcg,tb-size=%d", VDC_QEMU_TCG_CACHE_MIB);
        add2(args, "-cpu", "max");
    }
    add(args, "-smp");
    add(args, "%u", hardware->vcpus);
    add(args, "-m");
    add(args, "%lluK", (unsigned long long)(memory / 1024));
    /* Shared, so that I/O partitions can map it. */
    add(args, "-object");
    add(args, "memory-backend-memfd,id=ram,size=%lluK,share=on",
        (unsigned long long)(memory / 1024));
}

static void add_channels(struct args *args)
{
    add(args, "-chardev");
    add(args, "socket,id=qmp,fd=%d", VDC_QEMU_FD_QMP);
    add2(args, "-mon", "chardev=qmp,mode=control");
    add(args, "-chardev");
    add(args, "socket,id=console,fd=%d", VDC_QEMU_FD_CONSOLE);
    add2(args, "-serial", "chardev:console");
    add2(args, "-device", "virtio-serial-pci,id=serial0");
    add(args, "-chardev");
    add(args, "socket,id=agent,fd=%d", VDC_QEMU_FD_AGENT);
    add2(args, "-device", "virtserialport,chardev=agent,name=agent,id=agent0");
}

static void add_disk(struct args *args, const struct vdc_qemu_hardware *hardware, uint32_t i)
{
    const struct vdc_launch_disk *disk = &hardware->launch->disks[i];
    const char *direct = hardware->direct[i] ? "on" : "off";
    int fd = VDC_QEMU_FD_DISK + 2 * (int)i;

    add(args, "-add-fd");
    add(args, "fd=%d,set=%u", fd, i + 1);
    if (!disk->readonly) {
        add(args, "-add-fd");
        add(args, "fd=%d,set=%u", fd + 1, i + 1);
    }
    add(args, "-blockdev");
    add(args,
        "driver=file,node-name=file%u,filename=/dev/fdset/%u,read-only=%s,aio=threads,locking=on,"
        "cache.direct=%s,cache.no-flush=off,discard=unmap",
        i, i + 1, disk->readonly ? "on" : "off", direct);
    add(args, "-blockdev");
    add(args,
        "driver=raw,node-name=disk%u,file=file%u,read-only=%s,cache.direct=%s,cache.no-flush=off,"
        "discard=unmap",
        i, i, disk->readonly ? "on" : "off", direct);
    add(args, "-device");
    add(args, "virtio-blk-pci,drive=disk%u,id=disk-%s,serial=%.*s", i, disk->id, DISK_SERIAL_MAX,
        disk->id);
}

/* Whether the kernel arguments have one that begins with `prefix`. */
static bool has_argument(const char *append, const char *prefix)
{
    const char *at = append;

    while ((at = strstr(at, prefix)) != NULL) {
        if (at == append || at[-1] == ' ') {
            return true;
        }
        at++;
    }
    return false;
}

static void add_kernel(struct args *args, const struct vdc_qemu_hardware *hardware)
{
    const char *append = hardware->launch->append;
    vdc_autofree char *tsc = vdc_asprintf(" tsc_early_khz=%u", hardware->tsc_khz);

    add2(args, "-kernel", hardware->kernel);
    if (hardware->initrd != NULL) {
        add2(args, "-initrd", hardware->initrd);
    }
    /* A guest that measures its clock on a busy machine may fail and then wait for ever for a
     * timer that it has switched off; told the frequency, it need not measure. */
    add(args, "-append");
    add(args, "%s%s%s", append, has_argument(append, "console=") ? "" : " console=ttyS0",
        has_argument(append, "tsc_early_khz=") || hardware->tsc_khz == 0 ? "" : tsc);
}

char **vdc_qemu_args_make(const struct vdc_qemu_hardware *hardware)
{
    struct args args = {0};

    add(&args, "qemu-system-x86_64");
    add(&args, "-name");
    add(&args, "guest=%s,debug-threads=on", hardware->launch->name);
    add(&args, "-S");
    add2(&args, "-nodefaults", "-no-user-config");
    add2(&args, "-display", "none");
    if (hardware->sandbox) {
        add2(&args, "-sandbox",
             "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny");
    }
    add_machine(&args, hardware);
    add_channels(&args);
    for (uint32_t i = 0; i < hardware->launch->disk_count; i++) {
        add_disk(&args, hardware, i);
    }
    add2(&args, "-object", "rng-builtin,id=rng0");
    add2(&args, "-device", "virtio-rng-pci,rng=rng0");
    add2(&args, "-device", "pvpanic-pci");
    add2(&args, "-action", "panic=pause");
    add_kernel(&args, hardware);
    if (hardware->incoming) {
        add2(&args, "-incoming", "defer");
    }
    return args.items;
}

void vdc_qemu_args_free(char **args)
{
    for (size_t i = 0; args != NULL && args[i] != NULL; i++) {
        free(args[i]);
    }
    free(args);
}

uint64_t vdc_qemu_memory_limit(uint64_t memory_bytes, uint32_t vcpus, bool kvm)
{
    uint64_t cache = kvm ? 0 : (uint64_t)VDC_QEMU_TCG_CACHE_MIB << 20;

    return memory_bytes + cache + VDC_QEMU_OVERHEAD_BYTES +
           vcpus * VDC_QEMU_OVERHEAD_PER_VCPU_BYTES;
}
