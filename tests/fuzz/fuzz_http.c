/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP messages from anybody. The first byte says what the rest is: bit 0 a response, bit 1 an answer
 * to HEAD, the upper bits the size of the pieces it comes in. The same bytes must give the same
 * message however they are cut, within the bounds.
 */
#include <stdint.h>
#include <string.h>

#include <vdc/base.h>

#include "http_message.h"

#define BODY_MAX 4096

/* Feeds everything in pieces; returns the bytes that belong to the message. */
static size_t feed_all(struct http_message *message, const char *bytes, size_t len, size_t piece)
{
    size_t used = 0;
    while (used < len && message->phase != HTTP_WHOLE && message->phase != HTTP_BAD) {
        size_t now = VDC_MIN(piece, len - used);
        size_t took = http_message_feed(message, bytes + used, now);
        VDC_ASSERT(took <= now && (took > 0 || message->phase != HTTP_IN_HEAD));
        used += took;
    }
    return used;
}

static void check_message(const struct http_message *message)
{
    VDC_ASSERT(message->body.len <= BODY_MAX);
    VDC_ASSERT(message->field_count <= VDC_HTTP_HEADERS_MAX);
    VDC_ASSERT(message->phase != HTTP_BAD || message->error_status >= 400);
    for (size_t i = 0; i < message->field_count; i++) {
        VDC_ASSERT(message->fields[i].name[0] != '\0');
        VDC_ASSERT(strpbrk(message->fields[i].value, "\r\n") == NULL);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (len == 0) {
        return 0;
    }
    bool is_request = (data[0] & 1) == 0;
    const char *bytes = (const char *)data + 1;
    struct http_message whole;
    struct http_message cut;
    http_message_init(&whole, is_request, BODY_MAX);
    http_message_init(&cut, is_request, BODY_MAX);
    whole.skip_body = cut.skip_body = !is_request && (data[0] & 2) != 0;
    size_t used = feed_all(&whole, bytes, len - 1, len);
    size_t cut_used = feed_all(&cut, bytes, len - 1, (size_t)(data[0] >> 2) + 1);
    check_message(&whole);
    check_message(&cut);
    VDC_ASSERT(whole.phase == cut.phase);
    if (whole.phase == HTTP_WHOLE) {
        VDC_ASSERT(used == cut_used);
        VDC_ASSERT(whole.body.len == cut.body.len &&
                   memcmp(vdc_buf_text(&whole.body), vdc_buf_text(&cut.body), whole.body.len) == 0);
        VDC_ASSERT(whole.field_count == cut.field_count);
    }
    http_message_finish(&whole);
    struct http_target target;
    if (http_target_parse(&target, bytes, len - 1) == VDC_RC_OK) {
        VDC_ASSERT(target.path[0] == '/');
    }
    http_target_deinit(&target);
    http_message_deinit(&whole);
    http_message_deinit(&cut);
    return 0;
}
