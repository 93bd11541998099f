/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any manager takes any request; one that concerns a zone led elsewhere is sent to that leader as it
 * is, with the name of its user, and the answer sent back as it is. The leader takes that name from
 * managers only. A forwarded request is not forwarded again: with the leadership moving, the client is
 * told to repeat it instead.
 */
#include <string.h>

#include <vdc/log.h>

#include "manager.h"

/* Longer than the longest ?wait=. */
#define FORWARD_TIMEOUT_MS (MANAGER_WAIT_MAX_MS + 15000)

/* Headers that mean something to the leader. */
static const char *const passed[] = {"content-type", "idempotency-key", "accept", "if-match"};

static void on_done(void *data, enum vdc_rc rc, const struct vdc_http_response *response,
                    const struct vdc_err *why)
{
    struct vdc_http_request *request = data;
    if (rc != VDC_RC_OK) {
        char detail[VDC_ERR_TEXT_MAX];
        snprintf(detail, sizeof detail,
                 "the zone's leader could not be asked: %.600s; ask again with the same "
                 "Idempotency-Key",
                 vdc_err_text(why));
        api_problem(request, rc == VDC_RC_UNKNOWN_OUTCOME ? rc : VDC_RC_UNAVAILABLE, detail, NULL);
        return;
    }
    static const char *const back[] = {
        "location", "etag", "retry-after", "allow", "vdc-console-offset", "vdc-console-end"};
    struct vdc_http_header headers[VDC_COUNT_OF(back)];
    size_t count = 0;
    for (size_t i = 0; i < VDC_COUNT_OF(back); i++) {
        const char *value = vdc_http_response_header(response, back[i]);
        if (value != NULL) {
            headers[count++] = (struct vdc_http_header){back[i], value};
        }
    }
    vdc_http_respond(request, response->status, vdc_http_response_header(response, "content-type"),
                     response->body, response->body_len, headers, count);
}

void forward_request(struct seat *seat, struct vdc_http_request *request)
{
    struct manager *manager = seat->manager;
    bool forwarded = vdc_http_request_header(request, FORWARD_USER_HEADER) != NULL;
    bool ours = strcmp(seat->leader.manager, manager->config.name) == 0;
    if (seat->leader_revision == 0 || forwarded || ours) {
        char detail[VDC_ERR_TEXT_MAX + 256];
        if (seat->leader_revision != 0) {
            snprintf(detail, sizeof detail,
                     "zone %s has no leader that is ready, becoming so: %s; ask again soon",
                     seat->zone, seat->leader.manager);
        } else if (seat->trouble[0] != 0) {
            snprintf(detail, sizeof detail,
                     "zone %s has no leader: manager %s tried and failed: %s; it tries again",
                     seat->zone, manager->config.name, seat->trouble);
        } else {
            snprintf(detail, sizeof detail, "zone %s has no leader at this moment; ask again soon",
                     seat->zone);
        }
        api_problem(request, VDC_RC_NO_LEADER, detail, NULL);
        return;
    }
    struct vdc_http_header headers[VDC_COUNT_OF(passed) + 1];
    size_t count = 0;
    headers[count++] = (struct vdc_http_header){FORWARD_USER_HEADER, request->peer.name};
    for (size_t i = 0; i < VDC_COUNT_OF(passed); i++) {
        const char *value = vdc_http_request_header(request, passed[i]);
        if (value != NULL) {
            headers[count++] = (struct vdc_http_header){passed[i], value};
        }
    }
    struct vdc_http_call_config config = {.method = request->method,
                                          .address = seat->leader.api,
                                          .expected = {.kind = VDC_PEER_MANAGER},
                                          .target = request->target,
                                          .headers = headers,
                                          .header_count = count,
                                          .body = request->body,
                                          .body_len = request->body_len,
                                          .timeout_ms = FORWARD_TIMEOUT_MS};
    vdc_str_set(config.expected.name, VDC_NAME_CAP, seat->leader.manager);
    struct vdc_http_call *call;
    struct vdc_err err = {0};
    enum vdc_rc rc = vdc_http_client_send(manager->client, &config, on_done, request, &call, &err);
    if (rc != VDC_RC_OK) {
        api_problem(request, rc, vdc_err_text(&err), NULL);
    }
}
