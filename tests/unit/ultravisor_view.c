/* SPDX-License-Identifier: Apache-2.0 */
/* The view: what a reader sees, and that it never sees half of a change. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>
#include <vdc/base.h>
#include <vdc/view.h>

static void *new_page(void)
{
    void *page = aligned_alloc(4096, VDC_VIEW_BYTES);
    memset(page, 0, VDC_VIEW_BYTES);
    return page;
}

/* Every field follows from `n`, so that a torn read shows. */
static void fill(struct vdc_view_content *content, uint64_t n)
{
    memset(content, 0, sizeof(*content));
    memset(content->partition.bytes, (int)(n % 255 + 1), 16);
    memset(content->name, 'a' + (int)(n % 26), 1 + n % 60);
    memset(content->zone, 'a' + (int)(n % 26), 1 + n % 7);
    content->sequence = n;
    content->generation = n * 3;
    content->incarnation = n * 5;
    content->kind = (enum vdc_partition_kind)(n % VDC_PARTITION_KIND_COUNT);
    content->run = (enum vdc_run)(n % VDC_RUN_COUNT);
    content->vcpus = 1 + n % VDC_VCPUS_MAX;
    content->cpu_milli = (uint32_t)n;
    content->cpus_len = n % (VDC_VCPUS_MAX + 1);
    content->blocks_len = n % 20;
    content->memory_bytes = n * 4096;
    for (uint32_t i = 0; i < content->cpus_len; i++) {
        content->cpus[i] = (uint16_t)(n + i);
    }
    for (uint32_t i = 0; i < content->blocks_len; i++) {
        content->blocks[i] =
            (struct vdc_memory_block){.addr = n + i, .bytes = n, .numa = (uint32_t)n % 64};
    }
    content->channels_len = n % 10;
    content->channels_total = content->channels_len + n % 3;
    for (uint32_t i = 0; i < content->channels_len; i++) {
        struct vdc_view_channel *channel = &content->channels[i];
        memset(channel->id.bytes, (int)(n + i) % 255 + 1, 16);
        memset(channel->peer.bytes, (int)(n + i) % 254 + 2, 16);
        channel->type = (enum vdc_channel_type)((n + i) % VDC_CHANNEL_TYPE_COUNT);
        channel->version = (uint16_t)n;
        channel->second = (n + i) % 2 == 0;
        channel->bytes = n + i;
        channel->blocks_at = content->channel_blocks_len;
        channel->blocks_len = 1 + i % 2;
        for (uint32_t b = 0; b < channel->blocks_len; b++) {
            content->channel_blocks[content->channel_blocks_len++] =
                (struct vdc_memory_block){.addr = n ^ i, .bytes = n + b, .numa = i};
        }
    }
}

static bool same_channels(const struct vdc_view_content *a, const struct vdc_view_content *b)
{
    bool equal = a->channels_len == b->channels_len && a->channels_total == b->channels_total &&
                 a->channel_blocks_len == b->channel_blocks_len;
    for (uint32_t i = 0; equal && i < a->channels_len; i++) {
        const struct vdc_view_channel *x = &a->channels[i];
        const struct vdc_view_channel *y = &b->channels[i];
        equal = vdc_id_equal(&x->id, &y->id) && vdc_id_equal(&x->peer, &y->peer) &&
                x->type == y->type && x->version == y->version && x->second == y->second &&
                x->bytes == y->bytes && x->blocks_at == y->blocks_at &&
                x->blocks_len == y->blocks_len;
    }
    for (uint32_t i = 0; equal && i < a->channel_blocks_len; i++) {
        const struct vdc_memory_block *x = &a->channel_blocks[i];
        const struct vdc_memory_block *y = &b->channel_blocks[i];
        equal = x->addr == y->addr && x->bytes == y->bytes && x->numa == y->numa;
    }
    return equal;
}

static bool same(const struct vdc_view_content *a, const struct vdc_view_content *b)
{
    bool equal = vdc_id_equal(&a->partition, &b->partition) && strcmp(a->name, b->name) == 0 &&
                 strcmp(a->zone, b->zone) == 0 && a->sequence == b->sequence &&
                 a->generation == b->generation && a->incarnation == b->incarnation &&
                 a->kind == b->kind && a->run == b->run && a->vcpus == b->vcpus &&
                 a->cpu_milli == b->cpu_milli && a->cpus_len == b->cpus_len &&
                 a->blocks_len == b->blocks_len && a->memory_bytes == b->memory_bytes &&
                 memcmp(a->cpus, b->cpus, a->cpus_len * sizeof(a->cpus[0])) == 0;
    for (uint32_t i = 0; equal && i < a->blocks_len; i++) {
        equal = a->blocks[i].addr == b->blocks[i].addr &&
                a->blocks[i].bytes == b->blocks[i].bytes && a->blocks[i].numa == b->blocks[i].numa;
    }
    return equal && same_channels(a, b);
}

Test(ultravisor_view, an_empty_file_is_not_published_and_has_no_lease)
{
    void *page = new_page();
    struct vdc_view_content out;
    cr_assert_eq(vdc_view_read(page, &out, NULL), VDC_RC_UNAVAILABLE);
    cr_assert_eq(vdc_view_lease(page), VDC_VIEW_LEASE_NEVER);
    free(page);
}

Test(ultravisor_view, what_was_published_is_read_and_the_lease_stays)
{
    void *page = new_page();
    struct vdc_view_content in;
    struct vdc_view_content out;
    vdc_view_set_lease(page, 12345);
    for (uint64_t n = 1; n < 600; n++) {
        uint64_t version = vdc_view_version(page);
        fill(&in, n);
        vdc_view_publish(page, &in);
        cr_assert_neq(vdc_view_version(page), version);
        cr_assert_eq(vdc_view_read(page, &out, NULL), VDC_RC_OK);
        cr_assert(same(&in, &out));
    }
    cr_assert_eq(vdc_view_lease(page), 12345);
    free(page);
}

Test(ultravisor_view, the_largest_content_fits)
{
    void *page = new_page();
    struct vdc_view_content in;
    struct vdc_view_content out;
    fill(&in, VDC_VCPUS_MAX - 1);
    in.cpus_len = VDC_VCPUS_MAX;
    in.blocks_len = VDC_VIEW_BLOCKS_MAX;
    in.blocks[VDC_VIEW_BLOCKS_MAX - 1].addr = 77;
    in.channels_len = VDC_VIEW_CHANNELS_MAX;
    in.channels_total = 1000000;
    in.channel_blocks_len = VDC_VIEW_CHANNEL_BLOCKS_MAX;
    in.channels[VDC_VIEW_CHANNELS_MAX - 1].version = 9;
    in.channel_blocks[VDC_VIEW_CHANNEL_BLOCKS_MAX - 1].addr = 78;
    vdc_view_publish(page, &in);
    cr_assert_eq(vdc_view_read(page, &out, NULL), VDC_RC_OK);
    cr_assert(same(&in, &out));
    free(page);
}

Test(ultravisor_view, a_write_that_was_left_half_done_is_reported_and_then_repaired)
{
    void *page = new_page();
    struct vdc_view_content in;
    struct vdc_view_content out;
    struct vdc_err err;
    fill(&in, 5);
    vdc_view_publish(page, &in);
    ((uint64_t *)page)[2]++; /* the sequence lock: odd */
    cr_assert_eq(vdc_view_read(page, &out, &err), VDC_RC_UNAVAILABLE);
    fill(&in, 6);
    vdc_view_publish(page, &in);
    cr_assert_eq(vdc_view_read(page, &out, &err), VDC_RC_OK);
    cr_assert(same(&in, &out));
    free(page);
}

Test(ultravisor_view, other_versions_and_lengths_out_of_bounds_are_corrupt)
{
    struct vdc_view_content in;
    struct vdc_view_content out;
    struct vdc_err err;
    fill(&in, 5);
    static const size_t words[] = {
        0, 2, 64 / 4 + 42, 64 / 4 + 43, 64 / 4 + 44, 64 / 4 + 46, 64 / 4 + 47,
        /* channels: how many, their blocks; the first one's type,
                                    * whether it is the second end, where its blocks begin, how many */
        64 / 4 + 178, 64 / 4 + 180, (64 + 25304 + 40) / 4, (64 + 25304 + 44) / 4,
        (64 + 25304 + 48) / 4, (64 + 25304 + 52) / 4};
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        uint32_t *page = new_page();
        vdc_view_publish(page, &in);
        page[words[i]] = 0x7fffffff;
        cr_assert_eq(vdc_view_read(page, &out, &err), VDC_RC_CORRUPT, "word %zu", words[i]);
        free(page);
    }
}

struct hammer {
    void *page;
    int stop; /* atomic */
};

static void *write_for_ever(void *arg)
{
    struct hammer *hammer = arg;
    struct vdc_view_content content;
    for (uint64_t n = 1; __atomic_load_n(&hammer->stop, __ATOMIC_ACQUIRE) == 0; n++) {
        fill(&content, n);
        vdc_view_publish(hammer->page, &content);
        vdc_view_set_lease(hammer->page, (int64_t)n);
    }
    return NULL;
}

Test(ultravisor_view, a_reader_never_sees_half_of_a_change)
{
    struct hammer hammer = {.page = new_page()};
    struct vdc_view_content out;
    struct vdc_view_content expected;
    pthread_t thread;
    cr_assert_eq(pthread_create(&thread, NULL, write_for_ever, &hammer), 0);
    uint64_t last = 0;
    for (uint32_t reads = 0; reads < 100000;) {
        enum vdc_rc rc = vdc_view_read(hammer.page, &out, NULL);
        if (rc == VDC_RC_UNAVAILABLE) {
            continue; /* not published yet, or the writer was not given the CPU */
        }
        cr_assert_eq(rc, VDC_RC_OK);
        fill(&expected, out.sequence);
        cr_assert(same(&expected, &out), "torn at %lu", (unsigned long)out.sequence);
        cr_assert_geq(out.sequence, last);
        last = out.sequence;
        reads++;
    }
    __atomic_store_n(&hammer.stop, 1, __ATOMIC_RELEASE);
    cr_assert_eq(pthread_join(thread, NULL), 0);
    cr_assert_gt(last, 1);
    free(hammer.page);
}
