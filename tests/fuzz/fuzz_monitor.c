/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a monitor reads from others: requests of clients, messages of QEMU, the launch
 * configuration; and what a node agent reads from a monitor. The first byte chooses. What was
 * decoded is encoded and must be decoded again to the same.
 */
#include <stdint.h>
#include <string.h>

#include <vdc/base.h>
#include <vdc/launch.h>
#include <vdc/line_reader.h>
#include <vdc/monitor_protocol.h>
#include <vdc/qmp.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void fuzz_request(const char *text, size_t len)
{
    struct vdc_monitor_request request;
    struct vdc_monitor_request again;
    struct vdc_buf line = {0};

    if (vdc_monitor_request_decode(text, len, &request, NULL) == VDC_RC_OK) {
        vdc_monitor_request_encode(&request, &line);
        VDC_ASSERT(vdc_monitor_request_decode(line.data, line.len, &again, NULL) == VDC_RC_OK);
        VDC_ASSERT(memcmp(&request, &again, sizeof(request)) == 0);
    }
    vdc_buf_deinit(&line);
}

static void fuzz_message(const char *text, size_t len)
{
    struct vdc_monitor_message message;
    struct vdc_monitor_message again;
    struct vdc_buf line = {0};

    if (vdc_monitor_message_decode(text, len, &message, NULL) != VDC_RC_OK) {
        return;
    }
    if (!message.has_console || message.console.len <= VDC_MONITOR_CONSOLE_READ_MAX) {
        vdc_monitor_message_encode(&message, &line);
        if (line.len <= VDC_MONITOR_LINE_MAX) {
            VDC_ASSERT(vdc_monitor_message_decode(line.data, line.len, &again, NULL) == VDC_RC_OK);
            VDC_ASSERT(message.console.len == again.console.len);
            vdc_monitor_message_deinit(&again);
        }
    }
    vdc_monitor_message_deinit(&message);
    vdc_buf_deinit(&line);
}

static void fuzz_launch(const char *text, size_t len)
{
    static struct vdc_launch launch;
    static struct vdc_launch again;

    if (vdc_launch_parse(text, len, &launch, NULL) == VDC_RC_OK) {
        vdc_autofree char *json = vdc_launch_to_json(&launch);
        VDC_ASSERT(strlen(json) > VDC_LAUNCH_TEXT_MAX ||
                   vdc_launch_parse(json, strlen(json), &again, NULL) == VDC_RC_OK);
    }
}

static void fuzz_lines(const char *text, size_t len)
{
    struct vdc_line_reader reader;
    size_t pos = 0;

    vdc_line_reader_init(&reader, 64);
    while (pos < len) {
        size_t piece = VDC_MIN((size_t)(unsigned char)text[pos] % 80 + 1, len - pos);
        char *line;
        size_t line_len;

        if (vdc_line_reader_feed(&reader, text + pos, piece) != VDC_RC_OK) {
            break;
        }
        while ((line = vdc_line_reader_take(&reader, &line_len)) != NULL) {
            VDC_ASSERT(line[line_len] == '\0' && memchr(line, '\n', line_len) == NULL);
        }
        pos += piece;
    }
    vdc_line_reader_deinit(&reader);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    vdc_autofree char *text = NULL;
    struct vdc_qmp_message qmp;
    size_t len;

    if (size == 0) {
        return 0;
    }
    len = size - 1;
    text = vdc_calloc(len + 1, 1);
    memcpy(text, data + 1, len);
    switch (data[0] % 5) {
    case 0:
        fuzz_request(text, len);
        break;
    case 1:
        fuzz_message(text, len);
        break;
    case 2:
        (void)!vdc_qmp_message_decode(text, len, &qmp, NULL);
        break;
    case 3:
        fuzz_launch(text, len);
        break;
    default:
        fuzz_lines(text, len);
        break;
    }
    return 0;
}
