/* SPDX-License-Identifier: Apache-2.0 */
/*
 * make_seeds DIR: inputs for the fuzzers whose formats programs write, in DIR/fuzz_tx,
 * DIR/fuzz_snapshot, DIR/fuzz_journal and DIR/fuzz_monitor (which exist). From them a corpus is made
 * anew when a format has changed: corpus/README.md.
 */
#include <stdio.h>
#include <string.h>

#include <vdc/allocdb.h>
#include <vdc/base.h>
#include <vdc/launch.h>
#include <vdc/monitor_protocol.h>

#define MIB (UINT64_C(1) << 20)

static const char *dir;

static void write_seed(const char *fuzzer, const char *name, const struct vdc_buf *bytes)
{
    vdc_autofree char *path = vdc_asprintf("%s/%s/%s", dir, fuzzer, name);
    FILE *file = fopen(path, "wb");
    if (file == NULL || fwrite(bytes->data, 1, bytes->len, file) != bytes->len ||
        fclose(file) != 0) {
        (void)fprintf(stderr, "%s: %m\n", path);
        exit(1);
    }
}

static struct vdc_id id_of(uint8_t number)
{
    return (struct vdc_id){.bytes = {number, [15] = 1}};
}

/* One of each kind, for the machine that fuzz_tx prepares: two CPUs, one NUMA node. */
static size_t make_ops(struct vdc_op *ops)
{
    static const uint16_t cpus[] = {0, 1};
    static const struct vdc_cpu_info infos[] = {{.number = 0}, {.number = 1, .core = 1}};
    static const struct vdc_numa_info numa[] = {{.memory_bytes = (UINT64_C(5) << 28) + 8192}};
    static const struct vdc_memory_block blocks[] = {{.addr = 0, .bytes = 2 * MIB}};
    const struct vdc_op all[] = {
        {.kind = VDC_OP_INVENTORY_SET, .inventory_set = {infos, 2, numa, 1}},
        {.kind = VDC_OP_DEVICE_ADD, .device_add = {.address = "0000:01:00.0"}},
        {.kind = VDC_OP_ZONE_SET,
         .zone_set = {.overcommit_milli = 4000, .cpu = {.milli = 1000}, .memory = {.milli = 1000}}},
        {.kind = VDC_OP_ZONE_EPOCH},
        {.kind = VDC_OP_INCARNATION_SET, .incarnation_set = {.incarnation = 3}},
        {.kind = VDC_OP_PARTITION_CREATE,
         .partition_create = {.id = id_of(1),
                              .name = "web",
                              .tenant = "acme",
                              .class_name = "gold",
                              .generation = 1,
                              .run = VDC_RUN_RUNNING,
                              .vcpus = 2,
                              .memory_bytes = 4 * MIB,
                              .config = (const uint8_t *)"{}",
                              .config_len = 2}},
        {.kind = VDC_OP_PARTITION_CREATE,
         .partition_create =
             {.id = id_of(2), .name = "io", .kind = VDC_PARTITION_IO, .generation = 1, .vcpus = 1}},
        {.kind = VDC_OP_CPU_ASSIGN, .cpu_assign = {.id = id_of(1), .cpus = cpus, .cpus_len = 1}},
        {.kind = VDC_OP_CPU_ASSIGN, .cpu_assign = {.id = id_of(2), .shared_milli = 500}},
        {.kind = VDC_OP_MEMORY_ASSIGN,
         .memory_assign = {.id = id_of(1), .bytes = 2 * MIB, .blocks = blocks, .blocks_len = 1}},
        {.kind = VDC_OP_MEMORY_ASSIGN,
         .memory_assign = {.id = id_of(2), .bytes = 12288, .numa = VDC_NUMA_ANY}},
        {.kind = VDC_OP_VOLUME_ATTACH, .volume_attach = {id_of(1), 1, id_of(9), VDC_VOLUME_WRITE}},
        {.kind = VDC_OP_PORT_CONNECT,
         .port_connect = {id_of(1), {2, 0, 0, 0, 0, 1}, "tap1", "lan"}},
        {.kind = VDC_OP_CHANNEL_CONNECT,
         .channel_connect = {.channel = id_of(7),
                             .endpoint = {id_of(1), id_of(2)},
                             .type = VDC_CHANNEL_BLOCK,
                             .version = 1,
                             .bytes = 8192,
                             .numa = VDC_NUMA_ANY}},
        {.kind = VDC_OP_FENCE_PROMISE, .fence_promise = {"n2", 4}},
        {.kind = VDC_OP_PARTITION_SET_RUN, .partition_set_run = {id_of(1), 1, VDC_RUN_STOPPED}},
        {.kind = VDC_OP_PARTITION_SET_GENERATION, .partition_set_generation = {id_of(1), 1, 2}},
        {.kind = VDC_OP_PARTITION_SET_CONFIG,
         .partition_set_config = {id_of(1), 2, (const uint8_t *)"{\"a\":1}", 7}},
        {.kind = VDC_OP_CHANNEL_DISCONNECT, .channel_disconnect = {id_of(7)}},
        {.kind = VDC_OP_PORT_DISCONNECT, .port_disconnect = {id_of(1), {2, 0, 0, 0, 0, 1}}},
        {.kind = VDC_OP_VOLUME_DETACH, .volume_detach = {id_of(1), id_of(9)}},
        {.kind = VDC_OP_MEMORY_RELEASE, .memory_release = {.id = id_of(1)}},
        {.kind = VDC_OP_CPU_RELEASE, .cpu_release = {.id = id_of(1)}},
        {.kind = VDC_OP_ZONE_TRANSFER, .zone_transfer = {.to = "", .memory_bytes = 4096}},
        {.kind = VDC_OP_PARTITION_DESTROY, .partition_destroy = {id_of(1), 2}},
        {.kind = VDC_OP_PARTITION_DESTROY, .partition_destroy = {id_of(2), 1}},
        {.kind = VDC_OP_ZONE_LEAVE},
    };
    memcpy(ops, all, sizeof(all));
    return VDC_COUNT_OF(all);
}

static struct vdc_tx tx_of(const struct vdc_op *op, uint8_t number)
{
    bool system = op->kind == VDC_OP_INVENTORY_SET || op->kind == VDC_OP_DEVICE_ADD;
    struct vdc_tx tx = {.request_id = system ? (struct vdc_id){0} : id_of((uint8_t)(100 + number)),
                        .epoch = system ? 0 : 1,
                        .role = system ? VDC_ROLE_SYSTEM : VDC_ROLE_COMMAND,
                        .kind = VDC_TX_APPLY,
                        .ops = op,
                        .ops_len = 1};
    vdc_str_set(tx.zone, sizeof(tx.zone), system ? "" : "prod");
    return tx;
}

static void append_tx(const struct vdc_tx *tx, struct vdc_buf *out)
{
    struct vdc_buf bytes = {0};
    vdc_tx_encode(tx, &bytes);
    const char len[2] = {(char)(bytes.len & 255), (char)(bytes.len >> 8)};
    vdc_buf_append(out, len, 2);
    vdc_buf_append(out, bytes.data, bytes.len);
    vdc_buf_deinit(&bytes);
}

/* A list of transactions, and a state with its snapshot and each record. */
static void make_transactions(void)
{
    struct vdc_op ops[64];
    size_t len = make_ops(ops);
    struct vdc_buf list = {0};
    struct vdc_allocdb *db = vdc_allocdb_create();
    for (size_t i = 0; i < len; i++) {
        struct vdc_tx tx = tx_of(&ops[i], (uint8_t)i);
        struct vdc_tx_result result;
        struct vdc_buf record = {0};
        struct vdc_buf snapshot = {0};
        vdc_autofree char *name = vdc_asprintf("%02zu-%s", i, vdc_op_name(ops[i].kind));
        append_tx(&tx, &list);
        if (vdc_allocdb_commit(db, &tx, &result, &record) != VDC_RC_OK) {
            (void)fprintf(stderr, "%s: %s\n", name, result.text);
        }
        if (record.len > 0 && i == 0) {
            struct vdc_buf input = {0};
            vdc_buf_append(&input, "\1", 1);
            vdc_buf_append(&input, record.data, record.len);
            write_seed("fuzz_snapshot", "record", &input);
            vdc_buf_deinit(&input);
        }
        vdc_buf_append(&snapshot, "\0", 1);
        vdc_allocdb_snapshot(db, &snapshot);
        write_seed("fuzz_snapshot", name, &snapshot);
        vdc_buf_deinit(&record);
        vdc_buf_deinit(&snapshot);
    }
    write_seed("fuzz_tx", "all", &list);
    vdc_buf_clear(&list);
    struct vdc_tx claim = tx_of(&ops[5], 90);
    claim.kind = VDC_TX_PREPARE;
    claim.claim = id_of(5);
    claim.ops_len = 2;
    append_tx(&claim, &list);
    claim.kind = VDC_TX_COMMIT_CLAIM;
    claim.request_id = id_of(91);
    claim.ops = NULL;
    claim.ops_len = 0;
    append_tx(&claim, &list);
    write_seed("fuzz_tx", "claim", &list);
    vdc_buf_deinit(&list);
    vdc_allocdb_destroy(db);
}

/* Programs of fuzz_journal: see there. */
static void make_journals(void)
{
    static const struct {
        const char *name;
        const char *bytes;
        size_t len;
    } seeds[] = {
#define SEED(name, text) {name, text, sizeof(text) - 1}
        SEED("one", "\1\0\1\7" /* segment 1, salt 7 */
                    "\1\1\1\3abc"
                    "\1\2\2\2de"
                    "\1\3\2\1f"
                    "\3\20"),
        SEED("two", "\1\0\1\7\1\1\1\1a\1\2\2\1b\0\3\11\1\3\3\1c\1\4\4\1d\3\10"),
        SEED("torn", "\1\0\1\7\1\1\1\1a\1\2\2\4bbbb\1\3\2\4cccc\4\140\0\1\3\10"),
        SEED("damage", "\1\0\1\7\1\1\1\1a\1\2\2\1b\1\3\3\1c\4\150\0\1\3\10"),
        SEED("snapshot", "\1\5\2\1x\0\1\7\1\1\1\1a\1\2\2\1b\1\3\3\1c\3\10"),
        SEED("gap", "\1\0\1\7\1\1\1\1a\0\4\11\1\4\4\1b"),
        SEED("raw", "\0VDCJRNL1\2\0\0\0"),
#undef SEED
    };
    for (size_t i = 0; i < VDC_COUNT_OF(seeds); i++) {
        struct vdc_buf bytes = {0};
        vdc_buf_append(&bytes, seeds[i].bytes, seeds[i].len);
        write_seed("fuzz_journal", seeds[i].name, &bytes);
        vdc_buf_deinit(&bytes);
    }
}

/* What fuzz_monitor does with the rest is the first byte's matter. */
static void write_line(const char *name, char what, const struct vdc_buf *line)
{
    struct vdc_buf input = {0};
    vdc_buf_append(&input, &what, 1);
    vdc_buf_append(&input, line->data, line->len);
    if (input.data[input.len - 1] == '\n') {
        input.len--;
    }
    write_seed("fuzz_monitor", name, &input);
    vdc_buf_deinit(&input);
}

static void make_lines(void)
{
    const struct vdc_monitor_request request = {.id = 7,
                                                .command = VDC_MONITOR_MIGRATE_OUT,
                                                .unix_path = "/run/x",
                                                .max_bandwidth = 9,
                                                .downtime_ms = 5};
    struct vdc_monitor_message state = {
        .kind = VDC_MONITOR_MESSAGE_STATE,
        .has_state = true,
        .state = {.name = "web", .reason = "r", .generation = 3, .accelerator = "kvm"}};
    struct vdc_monitor_message reply = {.kind = VDC_MONITOR_MESSAGE_REPLY, .id = 7, .error = ""};
    struct vdc_launch launch = {.name = "web",
                                .kernel = "/k",
                                .append = "a",
                                .lease = true,
                                .uid = 70000,
                                .gid = 70000,
                                .grace_ms = 1000,
                                .stop_timeout_s = 5};
    struct vdc_buf line = {0};
    vdc_monitor_request_encode(&request, &line);
    write_line("request", 0, &line);
    vdc_buf_clear(&line);
    vdc_monitor_message_encode(&state, &line);
    write_line("state", 1, &line);
    vdc_buf_clear(&line);
    vdc_monitor_message_encode(&reply, &line);
    write_line("reply", 1, &line);
    vdc_buf_clear(&line);
    vdc_buf_puts(&line, "{\"event\":\"MIGRATION\",\"data\":{\"status\":\"completed\"}}");
    write_line("qmp-event", 2, &line);
    vdc_buf_clear(&line);
    vdc_buf_puts(&line, "{\"id\":3,\"return\":{\"status\":\"running\"}}");
    write_line("qmp-answer", 2, &line);
    vdc_buf_clear(&line);
    vdc_autofree char *json = vdc_launch_to_json(&launch);
    vdc_buf_puts(&line, json);
    write_line("launch", 3, &line);
    vdc_buf_clear(&line);
    vdc_buf_puts(&line, "one\ntwo\r\nthree\n");
    write_line("lines", 4, &line);
    vdc_buf_deinit(&line);
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        (void)fprintf(stderr, "make_seeds DIR\n");
        return 2;
    }
    dir = argv[1];
    make_transactions();
    make_journals();
    make_lines();
    return 0;
}
