/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A disk in memory under the journal's driver (vdc/journal_disk.h). While the driver runs it shows the
 * newest state of everything, as a page cache does, and keeps a log of what was asked of it. From the
 * log up to any point sim_crash makes what a power cut may leave:
 *
 *   - of a file, all that was written before its last sync; of each later write any subset of its
 *     sectors; of each later change of its length, that it happened or not;
 *   - of the directory, the names as of its last sync, and any subset of the later changes; a rename
 *     happens as a whole or not at all;
 *   - of the write that was under way, on request, its first bytes alone.
 *
 * This allows more than any one file system does, and less than a disk that lies about a sync.
 * The driver uses it from several threads; everything else is for one thread, while no journal is open.
 */
#ifndef VDC_JOURNAL_SIM_DISK_H
#define VDC_JOURNAL_SIM_DISK_H

#include <stdbool.h>

#include <uv.h>

#include <vdc/buf.h>
#include <vdc/journal_disk.h>
#include <vdc/prng.h>

#define SIM_SECTOR 512
#define SIM_NAME_CAP 96

enum sim_kind {
    SIM_MAKE,   /* name, inode */
    SIM_LENGTH, /* inode, offset: the length it has now; what is cut off is gone */
    SIM_WRITE,  /* inode, offset, len, data (NULL: zeros) */
    SIM_SYNC,   /* inode */
    SIM_SYNC_DIR,
    SIM_RENAME,   /* name, to, inode */
    SIM_REMOVE,   /* name, inode */
    SIM_APPENDED, /* sequence: the test gave it to the journal */
    SIM_ACKED     /* sequence: the journal said that it is durable */
};

struct sim_op {
    enum sim_kind kind;
    int inode;
    uint64_t offset;
    size_t len;
    uint8_t *data;
    uint64_t sequence;
    char name[SIM_NAME_CAP];
    char to[SIM_NAME_CAP];
};

struct sim_log {
    struct sim_op *ops;
    size_t len;
    size_t cap;
};

struct sim_name {
    char name[SIM_NAME_CAP];
    int inode;
};

/* Names and bytes; inode numbers are indexes. */
struct sim_image {
    struct vdc_buf *inodes;
    size_t inodes_len;
    size_t inodes_cap;
    struct sim_name *names;
    size_t names_len;
    size_t names_cap;
};

struct sim_disk {
    struct vdc_journal_disk calls; /* give &calls to the journal */
    uv_mutex_t mutex;
    struct sim_image base; /* durable at the beginning of the log */
    struct sim_image now;
    struct sim_log log;
    uint64_t capacity;    /* bytes of all files; UINT64_MAX at first */
    int sync_error;       /* what each sync returns; 0 */
    int write_error;      /* ... each write of records; 0 */
    bool hold_renames;    /* renames wait until this is false */
    unsigned slow_one_in; /* one in so many syncs takes longer than the others; 0: none does */
    unsigned syncs;
    bool rename_waits; /* one does */
    uv_cond_t released;
};

/* `from`: the files at the beginning, taken (left empty); NULL: none. */
void sim_disk_init(struct sim_disk *disk, struct sim_image *from);
void sim_disk_deinit(struct sim_disk *disk);
void sim_disk_mark(struct sim_disk *disk, enum sim_kind kind, uint64_t sequence);
void sim_disk_set_capacity(struct sim_disk *disk, uint64_t bytes);
void sim_disk_hold_renames(struct sim_disk *disk, bool hold);
bool sim_disk_rename_waits(struct sim_disk *disk);
/* Bytes that all files that have a name take. */
uint64_t sim_disk_used(struct sim_disk *disk);

void sim_image_deinit(struct sim_image *image);
/* The same for equal names and bytes. */
uint64_t sim_image_hash(const struct sim_image *image);

/* Makes choices: all combinations one after the other, or at random. */
struct sim_chooser {
    struct vdc_prng *prng; /* NULL: all */
    unsigned *picks;
    unsigned *radixes;
    size_t len;
    size_t cap;
    size_t at;
};
unsigned sim_choose(struct sim_chooser *chooser, unsigned bound);
/* The next combination; false after the last one. */
bool sim_choose_next(struct sim_chooser *chooser);
void sim_chooser_deinit(struct sim_chooser *chooser);

/* What a crash after `ops` operations of the log may leave, out is made new. */
void sim_crash(const struct sim_image *base, const struct sim_log *log, size_t ops,
               struct sim_chooser *chooser, struct sim_image *out);
/* The same, with all of what was done on the disk, and `cut` bytes of operation `ops`, a write. */
void sim_crash_torn(const struct sim_image *base, const struct sim_log *log, size_t ops, size_t cut,
                    struct sim_image *out);

#endif
