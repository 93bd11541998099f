/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include <criterion/criterion.h>

#include <vdc/base.h>
#include <vdc/qemu_args.h>
#include <vdc/qmp.h>

static struct vdc_qmp_message message;

static enum vdc_rc decode(const char *line)
{
    return vdc_qmp_message_decode(line, strlen(line), &message, NULL);
}

Test(monitor_qmp, commands_are_what_qemu_reads)
{
    struct vdc_buf line = {0};
    const struct vdc_qmp_params params = {
        .incoming = false, .max_bandwidth = 1 << 30, .downtime_ms = 50};

    vdc_qmp_command_encode(VDC_QMP_STOP, NULL, 3, &line);
    cr_assert_str_eq(vdc_buf_text(&line), "{\"execute\":\"stop\",\"id\":3}\n");
    vdc_buf_clear(&line);
    vdc_qmp_command_encode(VDC_QMP_MIGRATION_PARAMETERS, &params, 4, &line);
    cr_assert_str_eq(vdc_buf_text(&line),
                     "{\"execute\":\"migrate-set-parameters\",\"id\":4,\"arguments\":{"
                     "\"max-bandwidth\":1073741824,\"downtime-limit\":50}}\n");
    vdc_buf_clear(&line);
    vdc_qmp_command_encode(VDC_QMP_MIGRATION_CAPABILITIES, &params, 5, &line);
    cr_assert_not_null(strstr(vdc_buf_text(&line), "pause-before-switchover"));
    vdc_buf_deinit(&line);
}

Test(monitor_qmp, messages_of_qemu_7_2_are_understood)
{
    cr_assert_eq(decode("{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 22, \"minor\": 2, "
                        "\"major\": 7}, \"package\": \"Debian\"}, \"capabilities\": [\"oob\"]}}"),
                 VDC_RC_OK);
    cr_assert_eq(message.kind, VDC_QMP_GREETING);
    cr_assert_eq(decode("{\"timestamp\": {\"seconds\": 1, \"microseconds\": 2}, \"event\": "
                        "\"SHUTDOWN\", \"data\": {\"guest\": true, \"reason\": "
                        "\"guest-shutdown\"}}"),
                 VDC_RC_OK);
    cr_assert_eq(message.event, VDC_QMP_EVENT_SHUTDOWN);
    cr_assert(message.by_guest);
    cr_assert_str_eq(message.reason, "guest-shutdown");
    cr_assert_eq(decode("{\"id\": 7, \"error\": {\"class\": \"GenericError\", \"desc\": \"no\"}}"),
                 VDC_RC_OK);
    cr_assert_eq(message.kind, VDC_QMP_ERROR);
    cr_assert_eq(message.id, 7);
    cr_assert_str_eq(message.error, "no");
    cr_assert_eq(decode("{\"return\": {\"status\": \"completed\", \"downtime\": 12, "
                        "\"total-time\": 530, \"ram\": {\"total\": 5, \"remaining\": 0}}, "
                        "\"id\": 8}"),
                 VDC_RC_OK);
    cr_assert_eq(message.migration, VDC_QMP_MIGRATION_COMPLETED);
    cr_assert_eq(message.downtime_ms, 12);
    cr_assert_eq(message.ram_total, 5);
    cr_assert_eq(decode("{\"event\": \"NEW_ONE\"}"), VDC_RC_OK);
    cr_assert_eq(message.event, VDC_QMP_EVENT_OTHER);
}

Test(monitor_qmp, what_is_no_message_is_refused)
{
    static const char *const lines[] = {
        "", "{", "null", "[]", "{}", "{\"event\":1}", "{\"error\":1}", "\xff\xfe", "{\"return\""};

    for (size_t i = 0; i < VDC_COUNT_OF(lines); i++) {
        cr_assert_eq(decode(lines[i]), VDC_RC_PROTOCOL, "%s", lines[i]);
    }
}

Test(monitor_qmp, a_line_over_the_limit_is_refused_and_one_at_it_is_not)
{
    vdc_autofree char *line = vdc_calloc(VDC_QMP_LINE_MAX + 2, 1);
    static const char head[] = "{\"return\":{}";

    memset(line, ' ', VDC_QMP_LINE_MAX + 1);
    memcpy(line, head, sizeof(head) - 1);
    line[VDC_QMP_LINE_MAX - 1] = '}';
    cr_assert_eq(vdc_qmp_message_decode(line, VDC_QMP_LINE_MAX, &message, NULL), VDC_RC_OK);
    cr_assert_eq(vdc_qmp_message_decode(line, VDC_QMP_LINE_MAX + 1, &message, NULL),
                 VDC_RC_PROTOCOL);
}

Test(monitor_qmp, every_truncation_of_a_message_is_refused)
{
    static const char line[] = "{\"event\":\"MIGRATION\",\"data\":{\"status\":\"pre-switchover\"}}";

    for (size_t len = 0; len < sizeof(line) - 1; len++) {
        cr_assert_eq(vdc_qmp_message_decode(line, len, &message, NULL), VDC_RC_PROTOCOL);
    }
    cr_assert_eq(decode(line), VDC_RC_OK);
    cr_assert_eq(message.migration, VDC_QMP_MIGRATION_PRE_SWITCHOVER);
}

Test(monitor_qmp, long_texts_are_cut_and_absurd_numbers_bounded)
{
    vdc_autofree char *text = vdc_calloc(10001, 1);
    vdc_autofree char *line = NULL;

    memset(text, 'x', 10000);
    line = vdc_asprintf("{\"id\":1,\"error\":{\"desc\":\"%s\"}}", text);
    cr_assert_eq(decode(line), VDC_RC_OK);
    cr_assert_eq(strlen(message.error), VDC_QMP_TEXT_CAP - 1);
    cr_assert_eq(decode("{\"id\":-1,\"return\":{\"downtime\":-5,\"ram\":{\"total\":-1,"
                        "\"page-size\":9223372036854775807,"
                        "\"dirty-pages-rate\":9223372036854775807}}}"),
                 VDC_RC_OK);
    cr_assert_eq(message.id, 0);
    cr_assert_eq(message.downtime_ms, -1);
    cr_assert_eq(message.ram_total, 0);
    cr_assert_eq(message.dirty_bytes_per_s, INT64_MAX);
}

/* ---- the command line ---- */

static bool has(char **args, const char *option, const char *value)
{
    for (size_t i = 0; args[i] != NULL; i++) {
        if (strcmp(args[i], option) == 0 &&
            (value == NULL || (args[i + 1] != NULL && strcmp(args[i + 1], value) == 0))) {
            return true;
        }
    }
    return false;
}

Test(monitor_qmp, the_command_line_keeps_memory_off_the_lossy_sizes)
{
    struct vdc_launch launch = {.name = "web-1", .append = "quiet"};
    struct vdc_qemu_hardware hardware = {.launch = &launch,
                                         .kernel = "/boot/kernel",
                                         .vcpus = 2,
                                         .memory_bytes = 128 << 20,
                                         .sandbox = true,
                                         .tsc_khz = 2596124};
    char **args = vdc_qemu_args_make(&hardware);

    cr_assert(has(args, "-m", "131064K"));
    cr_assert_neq(131064 % 256, 0);
    cr_assert(has(args, "-object", "memory-backend-memfd,id=ram,size=131064K,share=on"));
    cr_assert(has(args, "-smp", "2"));
    cr_assert(has(args, "-append", "quiet console=ttyS0 tsc_early_khz=2596124"));
    cr_assert(has(args, "-S", NULL));
    cr_assert_not(has(args, "-incoming", NULL));
    cr_assert(has(args, "-sandbox",
                  "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"));
    vdc_qemu_args_free(args);
    vdc_str_set(launch.append, sizeof(launch.append), "console=hvc0 tsc_early_khz=1");
    hardware.incoming = true;
    args = vdc_qemu_args_make(&hardware);
    cr_assert(has(args, "-append", "console=hvc0 tsc_early_khz=1"));
    cr_assert(has(args, "-incoming", "defer"));
    vdc_qemu_args_free(args);
}

Test(monitor_qmp, disks_are_passed_as_descriptors)
{
    struct vdc_launch launch = {.name = "web-1", .disk_count = 2};
    struct vdc_qemu_hardware hardware = {.launch = &launch,
                                         .kernel = "/boot/kernel",
                                         .vcpus = 1,
                                         .memory_bytes = 128 << 20,
                                         .direct = {true, false}};
    char **args;

    vdc_str_set(launch.disks[0].id, VDC_NAME_CAP, "root");
    vdc_str_set(launch.disks[1].id, VDC_NAME_CAP, "a-name-longer-than-twenty-bytes");
    launch.disks[1].readonly = true;
    args = vdc_qemu_args_make(&hardware);
    cr_assert(has(args, "-add-fd", "fd=10,set=1"));
    cr_assert(has(args, "-add-fd", "fd=11,set=1"));
    cr_assert(has(args, "-add-fd", "fd=12,set=2"));
    cr_assert_not(has(args, "-add-fd", "fd=13,set=2"));
    cr_assert(has(args, "-blockdev",
                  "driver=file,node-name=file0,filename=/dev/fdset/1,read-only=off,aio=threads,"
                  "locking=on,cache.direct=on,cache.no-flush=off,discard=unmap"));
    cr_assert(has(args, "-device",
                  "virtio-blk-pci,drive=disk1,id=disk-a-name-longer-than-twenty-bytes,"
                  "serial=a-name-longer-than-t"));
    vdc_qemu_args_free(args);
}
