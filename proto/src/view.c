/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The view file: head, then a body of fixed offsets.
 *
 *       0  magic u64        16  seqlock u64 (odd: being written; 0: never written)
 *       8  version u32      24  lease deadline i64
 *      12  size u32         32  zeros
 *      64  body (struct body below): fixed fields, then three arrays of which only so much is written
 *          and read as is in use
 *
 * Every word of the body is stored with release and loaded with acquire order. A reader that saw a
 * word of a newer write therefore also sees the sequence lock's newer value when it looks again, and
 * retries. That needs no fences, costs nothing on x86, and is what the thread sanitizer understands.
 */
#include <vdc/view.h>

#include <sched.h>
#include <stddef.h>
#include <string.h>

#include <vdc/base.h>

#define MAGIC UINT64_C(0x3157454956434456) /* "VDCVIEW1" */
#define VERSION 2
#define BODY_AT 64
/* Failed tries between two sched_yield(): a writer that was preempted needs the CPU to go on. */
#define TRIES_PER_YIELD 32

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "the file is written as it lies in memory");

struct head {
    uint64_t magic;
    uint32_t version;
    uint32_t size;
    uint64_t seqlock;
    int64_t lease;
};

struct block {
    uint64_t addr;
    uint64_t bytes;
    uint32_t numa;
    uint32_t zero;
};

struct channel {
    uint8_t id[16];
    uint8_t peer[16];
    uint64_t bytes;
    uint32_t type;
    uint16_t version;
    uint16_t second;
    uint32_t blocks_at;
    uint32_t blocks_len;
};

struct body {
    uint8_t partition[16];
    char name[VDC_NAME_CAP];
    char zone[VDC_NAME_CAP];
    uint64_t sequence;
    uint64_t generation;
    uint64_t incarnation;
    uint32_t kind;
    uint32_t run;
    uint32_t vcpus;
    uint32_t cpu_milli;
    uint32_t cpus_len;
    uint32_t blocks_len;
    uint64_t memory_bytes;
    uint16_t cpus[VDC_VCPUS_MAX];
    uint32_t channels_len;
    uint32_t channels_total;
    uint32_t channel_blocks_len;
    uint32_t zero;
    struct block blocks[VDC_VIEW_BLOCKS_MAX];
    struct channel channels[VDC_VIEW_CHANNELS_MAX];
    struct block channel_blocks[VDC_VIEW_CHANNEL_BLOCKS_MAX];
};

_Static_assert(offsetof(struct head, seqlock) == 16 && offsetof(struct head, lease) == 24,
               "layout");
_Static_assert(sizeof(struct head) <= BODY_AT, "layout");
_Static_assert(offsetof(struct body, sequence) == 144 && offsetof(struct body, kind) == 168,
               "layout");
_Static_assert(offsetof(struct body, cpus) == 200 && offsetof(struct body, blocks) == 728,
               "layout");
_Static_assert(sizeof(struct channel) == 56 && sizeof(struct block) == 24, "layout");
_Static_assert(BODY_AT + sizeof(struct body) <= VDC_VIEW_BYTES, "the body fits in the file");
_Static_assert(sizeof(struct body) % 8 == 0, "the body is copied by words");

static const char *const RUN_NAMES[VDC_RUN_COUNT] = {"incoming", "running", "paused", "stopped",
                                                     "leaving"};
static const char *const KIND_NAMES[VDC_PARTITION_KIND_COUNT] = {"guest", "io", "system"};

const char *vdc_run_name(enum vdc_run run)
{
    return (unsigned)run < VDC_RUN_COUNT ? RUN_NAMES[run] : NULL;
}

const char *vdc_partition_kind_name(enum vdc_partition_kind kind)
{
    return (unsigned)kind < VDC_PARTITION_KIND_COUNT ? KIND_NAMES[kind] : NULL;
}

static void put_blocks(struct block *to, const struct vdc_memory_block *from, uint32_t len)
{
    for (uint32_t i = 0; i < len; i++) {
        to[i] = (struct block){.addr = from[i].addr, .bytes = from[i].bytes, .numa = from[i].numa};
    }
}

static void take_blocks(struct vdc_memory_block *to, const struct block *from, uint32_t len)
{
    for (uint32_t i = 0; i < len; i++) {
        to[i] = (struct vdc_memory_block){
            .addr = from[i].addr, .bytes = from[i].bytes, .numa = from[i].numa};
    }
}

static void body_from_content(struct body *body, const struct vdc_view_content *content)
{
    memcpy(body->partition, content->partition.bytes, sizeof(body->partition));
    vdc_str_set(body->name, sizeof(body->name), content->name);
    vdc_str_set(body->zone, sizeof(body->zone), content->zone);
    body->sequence = content->sequence;
    body->generation = content->generation;
    body->incarnation = content->incarnation;
    body->kind = (uint32_t)content->kind;
    body->run = (uint32_t)content->run;
    body->vcpus = content->vcpus;
    body->cpu_milli = content->cpu_milli;
    body->cpus_len = content->cpus_len;
    body->blocks_len = content->blocks_len;
    body->memory_bytes = content->memory_bytes;
    memcpy(body->cpus, content->cpus, content->cpus_len * sizeof(content->cpus[0]));
    put_blocks(body->blocks, content->blocks, content->blocks_len);
    body->channels_len = content->channels_len;
    body->channels_total = content->channels_total;
    body->channel_blocks_len = content->channel_blocks_len;
    for (uint32_t i = 0; i < content->channels_len; i++) {
        const struct vdc_view_channel *from = &content->channels[i];
        struct channel *to = &body->channels[i];
        *to = (struct channel){
            .bytes = from->bytes,
            .type = (uint32_t)from->type,
            .version = from->version,
            .second = from->second,
            .blocks_at = from->blocks_at,
            .blocks_len = from->blocks_len,
        };
        memcpy(to->id, from->id.bytes, sizeof(to->id));
        memcpy(to->peer, from->peer.bytes, sizeof(to->peer));
    }
    put_blocks(body->channel_blocks, content->channel_blocks, content->channel_blocks_len);
}

/* What of a body is in use, as places and lengths. */
struct part {
    size_t at;
    size_t bytes;
};
#define PARTS 4

static void find_parts(const struct body *body, struct part parts[PARTS])
{
    parts[0] = (struct part){0, offsetof(struct body, blocks)};
    parts[1] = (struct part){offsetof(struct body, blocks),
                             VDC_MIN(body->blocks_len, (uint32_t)VDC_VIEW_BLOCKS_MAX) *
                                 sizeof(struct block)};
    parts[2] = (struct part){offsetof(struct body, channels),
                             VDC_MIN(body->channels_len, (uint32_t)VDC_VIEW_CHANNELS_MAX) *
                                 sizeof(struct channel)};
    parts[3] =
        (struct part){offsetof(struct body, channel_blocks),
                      VDC_MIN(body->channel_blocks_len, (uint32_t)VDC_VIEW_CHANNEL_BLOCKS_MAX) *
                          sizeof(struct block)};
}

static void store_words(void *to, const void *from, size_t bytes)
{
    uint64_t *words = to;
    for (size_t i = 0; i < bytes / 8; i++) {
        uint64_t word;
        memcpy(&word, (const char *)from + i * 8, 8);
        __atomic_store_n(&words[i], word, __ATOMIC_RELEASE);
    }
}

void vdc_view_publish(void *page, const struct vdc_view_content *content)
{
    VDC_ASSERT(((uintptr_t)page & 7) == 0);
    VDC_ASSERT(content->cpus_len <= VDC_VCPUS_MAX && content->vcpus <= VDC_VCPUS_MAX);
    VDC_ASSERT(content->blocks_len <= VDC_VIEW_BLOCKS_MAX);
    VDC_ASSERT(content->channels_len <= VDC_VIEW_CHANNELS_MAX &&
               content->channel_blocks_len <= VDC_VIEW_CHANNEL_BLOCKS_MAX);
    struct body body = {0};
    body_from_content(&body, content);

    struct head *head = page;
    uint64_t lock = __atomic_load_n(&head->seqlock, __ATOMIC_RELAXED);
    /* Odd already: the last writer died in between; its write is overwritten as one of ours. */
    lock |= 1;
    __atomic_store_n(&head->seqlock, lock, __ATOMIC_RELAXED);
    __atomic_store_n(&head->version, VERSION, __ATOMIC_RELEASE);
    __atomic_store_n(&head->size, VDC_VIEW_BYTES, __ATOMIC_RELEASE);
    __atomic_store_n(&head->magic, MAGIC, __ATOMIC_RELEASE);
    struct part parts[PARTS];
    find_parts(&body, parts);
    for (size_t i = 0; i < PARTS; i++) {
        store_words((char *)page + BODY_AT + parts[i].at, (const char *)&body + parts[i].at,
                    parts[i].bytes);
    }
    __atomic_store_n(&head->seqlock, lock + 1, __ATOMIC_RELEASE);
}

void vdc_view_set_lease(void *page, int64_t deadline_ns)
{
    struct head *head = page;
    __atomic_store_n(&head->lease, deadline_ns, __ATOMIC_RELEASE);
}

int64_t vdc_view_lease(const void *page)
{
    const struct head *head = page;
    return __atomic_load_n(&head->lease, __ATOMIC_ACQUIRE);
}

uint64_t vdc_view_version(const void *page)
{
    const struct head *head = page;
    return __atomic_load_n(&head->seqlock, __ATOMIC_ACQUIRE);
}

static void copy_words(void *to, const void *from, size_t bytes)
{
    const uint64_t *words = from;
    for (size_t i = 0; i < bytes / 8; i++) {
        uint64_t word = __atomic_load_n(&words[i], __ATOMIC_ACQUIRE);
        memcpy((char *)to + i * 8, &word, 8);
    }
}

/* One try; false: torn. A length out of bounds can be a torn one: it is clamped here and judged
 * only when the copy is known to be whole. */
static bool copy_body(const void *page, struct body *body, uint64_t *lock)
{
    const struct head *head = page;
    *lock = __atomic_load_n(&head->seqlock, __ATOMIC_ACQUIRE);
    if ((*lock & 1) != 0) {
        return false;
    }
    const char *from = (const char *)page + BODY_AT;
    copy_words(body, from, offsetof(struct body, blocks));
    struct part parts[PARTS];
    find_parts(body, parts);
    for (size_t i = 1; i < PARTS; i++) {
        copy_words((char *)body + parts[i].at, from + parts[i].at, parts[i].bytes);
    }
    return __atomic_load_n(&head->seqlock, __ATOMIC_RELAXED) == *lock;
}

static bool text_ends(const char *text, size_t cap)
{
    return memchr(text, 0, cap) != NULL;
}

/* What is wrong with a whole body; NULL: nothing. */
static const char *judge_body(const struct body *body)
{
    if (!text_ends(body->name, sizeof(body->name)) || !text_ends(body->zone, sizeof(body->zone))) {
        return "a name does not end";
    }
    if (body->kind >= VDC_PARTITION_KIND_COUNT || body->run >= VDC_RUN_COUNT) {
        return "unknown kind or run state";
    }
    if (body->vcpus > VDC_VCPUS_MAX || body->cpus_len > VDC_VCPUS_MAX) {
        return "too many CPUs";
    }
    if (body->blocks_len > VDC_VIEW_BLOCKS_MAX) {
        return "too many memory blocks";
    }
    if (body->channels_len > VDC_VIEW_CHANNELS_MAX || body->channels_total < body->channels_len ||
        body->channel_blocks_len > VDC_VIEW_CHANNEL_BLOCKS_MAX) {
        return "too many channels";
    }
    for (uint32_t i = 0; i < body->channels_len; i++) {
        const struct channel *channel = &body->channels[i];
        if (channel->type >= VDC_CHANNEL_TYPE_COUNT || channel->second > 1 ||
            channel->blocks_at > body->channel_blocks_len ||
            channel->blocks_len > body->channel_blocks_len - channel->blocks_at) {
            return "a channel out of bounds";
        }
    }
    return NULL;
}

static void content_from_body(struct vdc_view_content *out, const struct body *body)
{
    memcpy(out->partition.bytes, body->partition, sizeof(body->partition));
    memcpy(out->name, body->name, sizeof(out->name));
    memcpy(out->zone, body->zone, sizeof(out->zone));
    out->sequence = body->sequence;
    out->generation = body->generation;
    out->incarnation = body->incarnation;
    out->kind = (enum vdc_partition_kind)body->kind;
    out->run = (enum vdc_run)body->run;
    out->vcpus = body->vcpus;
    out->cpu_milli = body->cpu_milli;
    out->cpus_len = body->cpus_len;
    out->blocks_len = body->blocks_len;
    out->memory_bytes = body->memory_bytes;
    memcpy(out->cpus, body->cpus, sizeof(out->cpus));
    take_blocks(out->blocks, body->blocks, body->blocks_len);
    out->channels_len = body->channels_len;
    out->channels_total = body->channels_total;
    out->channel_blocks_len = body->channel_blocks_len;
    for (uint32_t i = 0; i < body->channels_len; i++) {
        const struct channel *from = &body->channels[i];
        struct vdc_view_channel *to = &out->channels[i];
        *to = (struct vdc_view_channel){
            .type = (enum vdc_channel_type)from->type,
            .version = from->version,
            .second = from->second != 0,
            .bytes = from->bytes,
            .blocks_at = from->blocks_at,
            .blocks_len = from->blocks_len,
        };
        memcpy(to->id.bytes, from->id, sizeof(from->id));
        memcpy(to->peer.bytes, from->peer, sizeof(from->peer));
    }
    take_blocks(out->channel_blocks, body->channel_blocks, body->channel_blocks_len);
}

enum vdc_rc vdc_view_read(const void *page, struct vdc_view_content *out, struct vdc_err *err)
{
    const struct head *head = page;
    struct body body;
    uint64_t lock = 0;
    uint32_t tries = 0;
    while (!copy_body(page, &body, &lock)) {
        if (++tries >= VDC_VIEW_RETRIES_MAX) {
            return vdc_err_set(err, VDC_RC_UNAVAILABLE, "view: torn for %u reads", tries);
        }
        if (tries % TRIES_PER_YIELD == 0) {
            (void)sched_yield();
        }
    }
    uint64_t magic = __atomic_load_n(&head->magic, __ATOMIC_ACQUIRE);
    if (lock == 0 && magic == 0) {
        return vdc_err_set(err, VDC_RC_UNAVAILABLE, "view: nothing published yet");
    }
    uint32_t version = __atomic_load_n(&head->version, __ATOMIC_ACQUIRE);
    uint32_t size = __atomic_load_n(&head->size, __ATOMIC_ACQUIRE);
    if (magic != MAGIC || version != VERSION || size != VDC_VIEW_BYTES) {
        return vdc_err_set(err, VDC_RC_CORRUPT, "view: no view of version %d", VERSION);
    }
    const char *wrong = judge_body(&body);
    if (wrong != NULL) {
        return vdc_err_set(err, VDC_RC_CORRUPT, "view: %s", wrong);
    }
    content_from_body(out, &body);
    return VDC_RC_OK;
}
