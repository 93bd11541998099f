/* SPDX-License-Identifier: Apache-2.0 */
#include "journal_sim_disk.h"

#include <errno.h>
#include <string.h>

#include <vdc/base.h>
#include <vdc/crc32c.h>

/* Descriptors: inode + FIRST_FD, and two that are none. */
#define DIR_FD 3
#define LOCK_FD 4
#define FIRST_FD 10

/* --- images --- */

static int image_find(const struct sim_image *image, const char *name)
{
    for (size_t i = 0; i < image->names_len; i++) {
        if (strcmp(image->names[i].name, name) == 0) {
            return (int)i;
        }
    }
    return -1;
}

static void image_remove(struct sim_image *image, const char *name, int inode)
{
    int at = image_find(image, name);
    if (at >= 0 && image->names[at].inode == inode) {
        image->names[at] = image->names[--image->names_len];
    }
}

static void image_put(struct sim_image *image, const char *name, int inode)
{
    int at = image_find(image, name);
    if (at < 0) {
        VDC_GROW(image->names, image->names_cap, image->names_len + 1);
        at = (int)image->names_len++;
        vdc_str_set(image->names[at].name, SIM_NAME_CAP, name);
    }
    image->names[at].inode = inode;
}

static int image_add_inode(struct sim_image *image)
{
    VDC_GROW(image->inodes, image->inodes_cap, image->inodes_len + 1);
    image->inodes[image->inodes_len] = (struct vdc_buf){0};
    return (int)image->inodes_len++;
}

static void image_copy(const struct sim_image *from, struct sim_image *to)
{
    *to = (struct sim_image){0};
    for (size_t i = 0; i < from->inodes_len; i++) {
        int inode = image_add_inode(to);
        vdc_buf_append(&to->inodes[inode], from->inodes[i].data, from->inodes[i].len);
    }
    for (size_t i = 0; i < from->names_len; i++) {
        image_put(to, from->names[i].name, from->names[i].inode);
    }
}

void sim_image_deinit(struct sim_image *image)
{
    for (size_t i = 0; i < image->inodes_len; i++) {
        vdc_buf_deinit(&image->inodes[i]);
    }
    free(image->inodes);
    free(image->names);
    *image = (struct sim_image){0};
}

uint64_t sim_image_hash(const struct sim_image *image)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < image->names_len; i++) {
        const struct sim_name *name = &image->names[i];
        const struct vdc_buf *bytes = &image->inodes[name->inode];
        uint32_t crc = vdc_crc32c(0, name->name, strlen(name->name));
        uint64_t high = vdc_crc32c(crc, bytes->data, bytes->len);
        sum +=
            (high << 32 | vdc_crc32c(~crc, bytes->data, bytes->len)) * UINT64_C(0x9e3779b97f4a7c15);
    }
    return sum;
}

static void file_set_length(struct vdc_buf *file, uint64_t len)
{
    if (len > file->len) {
        memset(vdc_buf_reserve(file, len - file->len), 0, len - file->len);
    }
    file->len = len;
}

static void file_write(struct vdc_buf *file, uint64_t offset, const uint8_t *data, size_t len)
{
    if (offset + len > file->len) {
        file_set_length(file, offset + len);
    }
    if (data == NULL) {
        memset(file->data + offset, 0, len);
    } else {
        memcpy(file->data + offset, data, len);
    }
}

/* All of an operation. */
static void image_apply(struct sim_image *image, const struct sim_op *op)
{
    switch (op->kind) {
    case SIM_MAKE:
        image_put(image, op->name, op->inode);
        break;
    case SIM_LENGTH:
        file_set_length(&image->inodes[op->inode], op->offset);
        break;
    case SIM_WRITE:
        file_write(&image->inodes[op->inode], op->offset, op->data, op->len);
        break;
    case SIM_RENAME:
        image_remove(image, op->name, op->inode);
        image_put(image, op->to, op->inode);
        break;
    case SIM_REMOVE:
        image_remove(image, op->name, op->inode);
        break;
    case SIM_SYNC:
    case SIM_SYNC_DIR:
    case SIM_APPENDED:
    case SIM_ACKED:
        break;
    }
}

/* --- choices --- */

unsigned sim_choose(struct sim_chooser *chooser, unsigned bound)
{
    if (chooser->prng != NULL) {
        return (unsigned)vdc_prng_below(chooser->prng, bound);
    }
    if (chooser->at == chooser->len) {
        size_t cap = chooser->cap;
        VDC_GROW(chooser->picks, cap, chooser->len + 1);
        VDC_GROW(chooser->radixes, chooser->cap, chooser->len + 1);
        chooser->picks[chooser->len] = 0;
        chooser->radixes[chooser->len++] = bound;
    }
    VDC_ASSERT(chooser->radixes[chooser->at] == bound);
    return chooser->picks[chooser->at++];
}

bool sim_choose_next(struct sim_chooser *chooser)
{
    chooser->at = 0;
    while (chooser->len > 0) {
        if (++chooser->picks[chooser->len - 1] < chooser->radixes[chooser->len - 1]) {
            return true;
        }
        chooser->len--;
    }
    return false;
}

void sim_chooser_deinit(struct sim_chooser *chooser)
{
    free(chooser->picks);
    free(chooser->radixes);
}

/* --- crashes --- */

static bool is_of_dir(enum sim_kind kind)
{
    return kind == SIM_MAKE || kind == SIM_RENAME || kind == SIM_REMOVE;
}

/* The names; every inode exists, empty. */
static void crash_names(const struct sim_log *log, size_t ops, struct sim_chooser *chooser,
                        struct sim_image *out)
{
    size_t durable = 0;
    for (size_t i = 0; i < ops; i++) {
        durable = log->ops[i].kind == SIM_SYNC_DIR ? i : durable;
        while (log->ops[i].kind == SIM_MAKE && out->inodes_len <= (size_t)log->ops[i].inode) {
            (void)image_add_inode(out);
        }
    }
    for (size_t i = 0; i < ops; i++) {
        const struct sim_op *op = &log->ops[i];
        if (is_of_dir(op->kind) && (i < durable || sim_choose(chooser, 2) == 0)) {
            image_apply(out, op);
        }
    }
}

/* A write of which any sectors arrived. A sector that would change nothing is no choice. */
static void crash_write(struct vdc_buf *file, const struct sim_op *op, struct sim_chooser *chooser)
{
    uint64_t end = op->offset + op->len;
    if (end > file->len && sim_choose(chooser, 2) == 0) {
        file_set_length(file, end);
    }
    for (uint64_t from = op->offset; from < end && from < file->len;) {
        uint64_t to = VDC_MIN((from / SIM_SECTOR + 1) * SIM_SECTOR, end);
        size_t len = (size_t)(VDC_MIN(to, (uint64_t)file->len) - from);
        uint8_t zeros[SIM_SECTOR] = {0};
        const uint8_t *data = op->data == NULL ? zeros : op->data + (from - op->offset);
        if (memcmp(file->data + from, data, len) != 0 && sim_choose(chooser, 2) == 0) {
            memcpy(file->data + from, data, len);
        }
        from = to;
    }
}

static void crash_file(const struct sim_log *log, size_t ops, int inode,
                       struct sim_chooser *chooser, struct vdc_buf *file)
{
    size_t durable = 0;
    for (size_t i = 0; i < ops; i++) {
        durable = log->ops[i].kind == SIM_SYNC && log->ops[i].inode == inode ? i : durable;
    }
    for (size_t i = 0; i < ops; i++) {
        const struct sim_op *op = &log->ops[i];
        if (op->inode != inode || (op->kind != SIM_WRITE && op->kind != SIM_LENGTH)) {
            continue;
        }
        if (op->kind == SIM_LENGTH) {
            if (i < durable || op->offset == file->len || sim_choose(chooser, 2) == 0) {
                file_set_length(file, op->offset);
            }
        } else if (i < durable) {
            file_write(file, op->offset, op->data, op->len);
        } else {
            crash_write(file, op, chooser);
        }
    }
}

/* Of the spare and of half a snapshot only the name counts: nobody reads them. */
static bool is_read(const char *name)
{
    return strncmp(name, "journal-", 8) == 0 ||
           (strncmp(name, "snapshot-", 9) == 0 && strstr(name, ".tmp") == NULL);
}

void sim_crash(const struct sim_image *base, const struct sim_log *log, size_t ops,
               struct sim_chooser *chooser, struct sim_image *out)
{
    image_copy(base, out);
    crash_names(log, ops, chooser, out);
    for (size_t i = 0; i < out->names_len; i++) {
        if (is_read(out->names[i].name)) {
            int inode = out->names[i].inode;
            crash_file(log, ops, inode, chooser, &out->inodes[inode]);
        }
    }
}

void sim_crash_torn(const struct sim_image *base, const struct sim_log *log, size_t ops, size_t cut,
                    struct sim_image *out)
{
    image_copy(base, out);
    for (size_t i = 0; i <= ops; i++) {
        struct sim_op op = log->ops[i];
        while (op.kind == SIM_MAKE && out->inodes_len <= (size_t)op.inode) {
            (void)image_add_inode(out);
        }
        op.len = i == ops ? cut : op.len;
        image_apply(out, &op);
    }
}

/* --- the calls --- */

static struct sim_disk *enter(void *ctx)
{
    struct sim_disk *disk = ctx;
    uv_mutex_lock(&disk->mutex);
    return disk;
}

static int leave(struct sim_disk *disk, int rc)
{
    uv_mutex_unlock(&disk->mutex);
    return rc;
}

/* Logs and does. */
static struct sim_op *operate(struct sim_disk *disk, struct sim_op op)
{
    VDC_GROW(disk->log.ops, disk->log.cap, disk->log.len + 1);
    disk->log.ops[disk->log.len] = op;
    image_apply(&disk->now, &op);
    return &disk->log.ops[disk->log.len++];
}

static uint64_t used(const struct sim_disk *disk)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < disk->now.names_len; i++) {
        sum += disk->now.inodes[disk->now.names[i].inode].len;
    }
    return sum;
}

/* Whether a file may grow to `len`. */
static bool has_space(const struct sim_disk *disk, int inode, uint64_t len)
{
    uint64_t now = disk->now.inodes[inode].len;
    return len <= now || used(disk) + (len - now) <= disk->capacity;
}

static int sim_open_dir(void *ctx, const char *path, bool make)
{
    (void)ctx;
    (void)path;
    (void)make;
    return DIR_FD;
}

static int sim_lock(void *ctx, int dir)
{
    (void)ctx;
    (void)dir;
    return LOCK_FD;
}

static int sim_open(void *ctx, int dir, const char *name, bool make)
{
    struct sim_disk *disk = enter(ctx);
    (void)dir;
    int at = image_find(&disk->now, name);
    if (at < 0 && !make) {
        return leave(disk, -ENOENT);
    }
    int inode = at < 0 ? image_add_inode(&disk->now) : disk->now.names[at].inode;
    if (make) {
        struct sim_op op = {.kind = at < 0 ? SIM_MAKE : SIM_LENGTH, .inode = inode};
        vdc_str_set(op.name, sizeof(op.name), name);
        (void)operate(disk, op);
    }
    return leave(disk, inode + FIRST_FD);
}

static int sim_reserve(void *ctx, int fd, uint64_t len)
{
    struct sim_disk *disk = enter(ctx);
    if (!has_space(disk, fd - FIRST_FD, len)) {
        return leave(disk, -ENOSPC);
    }
    if (disk->now.inodes[fd - FIRST_FD].len < len) {
        (void)operate(disk,
                      (struct sim_op){.kind = SIM_LENGTH, .inode = fd - FIRST_FD, .offset = len});
    }
    return leave(disk, 0);
}

static ssize_t sim_write(void *ctx, int fd, const void *data, size_t len, uint64_t offset)
{
    struct sim_disk *disk = enter(ctx);
    if (disk->write_error != 0) {
        return leave(disk, disk->write_error);
    }
    if (!has_space(disk, fd - FIRST_FD, offset + len)) {
        return leave(disk, -ENOSPC);
    }
    (void)operate(disk, (struct sim_op){.kind = SIM_WRITE,
                                        .inode = fd - FIRST_FD,
                                        .offset = offset,
                                        .len = len,
                                        .data = vdc_memdup(data, len)});
    (void)leave(disk, 0);
    return (ssize_t)len;
}

static int sim_zero(void *ctx, int fd, uint64_t from, uint64_t to)
{
    struct sim_disk *disk = enter(ctx);
    if (!has_space(disk, fd - FIRST_FD, to)) {
        return leave(disk, -ENOSPC);
    }
    (void)operate(disk, (struct sim_op){.kind = SIM_WRITE,
                                        .inode = fd - FIRST_FD,
                                        .offset = from,
                                        .len = (size_t)(to - from)});
    return leave(disk, 0);
}

static int sim_sync(void *ctx, int fd)
{
    struct sim_disk *disk = enter(ctx);
    if (disk->sync_error != 0) {
        return leave(disk, disk->sync_error);
    }
    bool slow = disk->slow_one_in > 0 && ++disk->syncs % disk->slow_one_in == 0;
    if (slow) {
        /* It begins late, so that the driver's other threads get ahead of it. */
        (void)leave(disk, 0);
        uv_sleep(1);
        (void)enter(ctx);
    }
    (void)operate(disk, (struct sim_op){.kind = SIM_SYNC, .inode = fd - FIRST_FD});
    return leave(disk, 0);
}

static int sim_sync_dir(void *ctx, int dir)
{
    struct sim_disk *disk = enter(ctx);
    (void)dir;
    (void)operate(disk, (struct sim_op){.kind = SIM_SYNC_DIR, .inode = -1});
    return leave(disk, 0);
}

static int sim_rename(void *ctx, int dir, const char *from, const char *to)
{
    struct sim_disk *disk = enter(ctx);
    (void)dir;
    while (disk->hold_renames) {
        disk->rename_waits = true;
        uv_cond_wait(&disk->released, &disk->mutex);
    }
    disk->rename_waits = false;
    int at = image_find(&disk->now, from);
    if (at < 0) {
        return leave(disk, -ENOENT);
    }
    struct sim_op op = {.kind = SIM_RENAME, .inode = disk->now.names[at].inode};
    vdc_str_set(op.name, sizeof(op.name), from);
    vdc_str_set(op.to, sizeof(op.to), to);
    (void)operate(disk, op);
    return leave(disk, 0);
}

static int sim_remove(void *ctx, int dir, const char *name)
{
    struct sim_disk *disk = enter(ctx);
    (void)dir;
    int at = image_find(&disk->now, name);
    if (at < 0) {
        return leave(disk, -ENOENT);
    }
    struct sim_op op = {.kind = SIM_REMOVE, .inode = disk->now.names[at].inode};
    vdc_str_set(op.name, sizeof(op.name), name);
    (void)operate(disk, op);
    return leave(disk, 0);
}

static void sim_close(void *ctx, int fd)
{
    (void)ctx;
    (void)fd;
}

static int sim_list(void *ctx, int dir, int (*each)(void *arg, const char *name), void *arg)
{
    struct sim_disk *disk = enter(ctx);
    (void)dir;
    size_t len = disk->now.names_len;
    struct sim_name *names = len == 0 ? NULL : vdc_memdup(disk->now.names, len * sizeof(names[0]));
    (void)leave(disk, 0);
    int rc = 0;
    for (size_t i = 0; i < len && rc == 0; i++) {
        rc = each(arg, names[i].name);
    }
    free(names);
    return rc;
}

static int sim_map(void *ctx, int dir, const char *name, void **data, size_t *len)
{
    struct sim_disk *disk = enter(ctx);
    (void)dir;
    *data = NULL;
    *len = 0;
    int at = image_find(&disk->now, name);
    if (at < 0) {
        return leave(disk, -ENOENT);
    }
    const struct vdc_buf *bytes = &disk->now.inodes[disk->now.names[at].inode];
    if (bytes->len > 0) {
        *data = vdc_memdup(bytes->data, bytes->len);
        *len = bytes->len;
    }
    return leave(disk, 0);
}

static void sim_unmap(void *ctx, void *data, size_t len)
{
    (void)ctx;
    (void)len;
    free(data);
}

/* --- the disk --- */

void sim_disk_init(struct sim_disk *disk, struct sim_image *from)
{
    *disk = (struct sim_disk){.calls = {.ctx = disk,
                                        .open_dir = sim_open_dir,
                                        .lock = sim_lock,
                                        .open = sim_open,
                                        .reserve = sim_reserve,
                                        .write = sim_write,
                                        .zero = sim_zero,
                                        .sync = sim_sync,
                                        .sync_dir = sim_sync_dir,
                                        .rename = sim_rename,
                                        .remove = sim_remove,
                                        .close = sim_close,
                                        .list = sim_list,
                                        .map = sim_map,
                                        .unmap = sim_unmap},
                              .capacity = UINT64_MAX};
    VDC_ASSERT(uv_mutex_init(&disk->mutex) == 0);
    VDC_ASSERT(uv_cond_init(&disk->released) == 0);
    if (from != NULL) {
        disk->base = *from;
        *from = (struct sim_image){0};
        image_copy(&disk->base, &disk->now);
    }
}

void sim_disk_deinit(struct sim_disk *disk)
{
    for (size_t i = 0; i < disk->log.len; i++) {
        free(disk->log.ops[i].data);
    }
    free(disk->log.ops);
    sim_image_deinit(&disk->base);
    sim_image_deinit(&disk->now);
    uv_cond_destroy(&disk->released);
    uv_mutex_destroy(&disk->mutex);
}

void sim_disk_mark(struct sim_disk *disk, enum sim_kind kind, uint64_t sequence)
{
    (void)enter(disk);
    (void)operate(disk, (struct sim_op){.kind = kind, .inode = -1, .sequence = sequence});
    (void)leave(disk, 0);
}

void sim_disk_set_capacity(struct sim_disk *disk, uint64_t bytes)
{
    (void)enter(disk);
    disk->capacity = bytes;
    (void)leave(disk, 0);
}

void sim_disk_hold_renames(struct sim_disk *disk, bool hold)
{
    (void)enter(disk);
    disk->hold_renames = hold;
    uv_cond_broadcast(&disk->released);
    (void)leave(disk, 0);
}

bool sim_disk_rename_waits(struct sim_disk *disk)
{
    (void)enter(disk);
    bool waits = disk->rename_waits;
    (void)leave(disk, 0);
    return waits;
}

uint64_t sim_disk_used(struct sim_disk *disk)
{
    (void)enter(disk);
    uint64_t sum = used(disk);
    (void)leave(disk, 0);
    return sum;
}
