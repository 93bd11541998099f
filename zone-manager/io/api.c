/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The REST API (docs/api.md): who may ask, which zone a request is about, and the routes.
 * api_answer.c answers and waits, api_read.c and api_change.c do what the routes say.
 */
#include <string.h>

#include <vdc/log.h>

#include "api_internal.h"

/* ---- zones ---- */

/* The zone a request is about: named by ?zone= (or `name`), or the only one. NULL: answered. */
struct seat *api_pick_zone(struct manager *manager, struct vdc_http_request *request,
                           const char *name)
{
    if (name == NULL || name[0] == 0) {
        name = vdc_http_request_query(request, "zone");
    }
    if (name != NULL) {
        struct seat *seat = seat_find(manager, name);
        if (seat == NULL || seat->record.policy_version == 0) {
            api_problemf(request, VDC_RC_NOT_FOUND,
                         "there is no zone \"%.64s\"; apply a policy to create it", name);
            return NULL;
        }
        return seat;
    }
    struct seat *only = NULL;
    for (struct seat *seat = manager->seats; seat != NULL; seat = seat->next) {
        if (seat->record.policy_version == 0) {
            continue;
        }
        if (only != NULL) {
            api_problemf(request, VDC_RC_INVALID,
                         "there are several zones: say which by ?zone=NAME");
            return NULL;
        }
        only = seat;
    }
    if (only == NULL) {
        api_problemf(request, VDC_RC_NOT_FOUND,
                     "there is no zone yet; apply a policy to create one");
    }
    return only;
}

/* As pick_zone, but led from here: else it has been forwarded and NULL is returned. */
struct seat *api_pick_led_zone(struct manager *manager, struct vdc_http_request *request,
                               const char *name)
{
    struct seat *seat = api_pick_zone(manager, request, name);
    if (seat != NULL && !seat_leads(seat)) {
        forward_request(seat, request);
        return NULL;
    }
    return seat;
}

/* ---- routes ---- */

/* "/v1/partitions/web/start" -> {"partitions", "web", "start"}; parts beyond three: 0. */
struct path {
    char text[512];
    const char *part[3];
    size_t parts;
};

static bool split_path(const char *from, struct path *path)
{
    *path = (struct path){.part = {"", "", ""}};
    if (strncmp(from, "/v1/", 4) != 0 || !vdc_str_copy(path->text, sizeof path->text, from + 4)) {
        return false;
    }
    char *rest = path->text;
    char *part;
    while ((part = strsep(&rest, "/")) != NULL) {
        if (part[0] == 0 || path->parts == 3 || strlen(part) > VDC_NAME_MAX) {
            return false;
        }
        path->part[path->parts++] = part;
    }
    return path->parts > 0;
}

/* `allowed`: the methods that the path knows, as the Allow header lists them (RFC 9110, 15.5.6). */
static void method_not_allowed(struct vdc_http_request *request, const char *allowed)
{
    char detail[256];
    snprintf(detail, sizeof detail, "%.160s takes %s", request->path, allowed);
    json_t *body = json_pack("{s:s, s:s, s:i, s:o, s:s}", "type", "urn:vdc:problem:METHOD", "title",
                             "that method is not for this path", "status", 405, "detail",
                             render_text(detail), "code", "METHOD");
    VDC_ASSERT(body != NULL);
    char *text = json_dumps(body, JSON_COMPACT);
    VDC_ASSERT(text != NULL);
    struct vdc_http_header allow = {"allow", allowed};
    vdc_http_respond(request, 405, API_PROBLEM_TYPE, text, strlen(text), &allow, 1);
    free(text);
    json_decref(body);
}

static void route_partition(struct manager *manager, struct vdc_http_request *request,
                            const struct path *path)
{
    static const struct {
        const char *verb;
        enum vdc_zone_request_kind kind;
    } verbs[] = {
        {"start", VDC_REQUEST_START}, {"stop", VDC_REQUEST_STOP}, {"migrate", VDC_REQUEST_MIGRATE}};
    bool get = request->method == VDC_HTTP_GET;
    if (path->parts == 2 && get) {
        api_get_partition(manager, request, path->part[1], false);
    } else if (path->parts == 2 && request->method == VDC_HTTP_DELETE) {
        api_change_partition(manager, request, path->part[1], VDC_REQUEST_DESTROY);
    } else if (path->parts == 2) {
        method_not_allowed(request, "GET, DELETE");
    } else if (strcmp(path->part[2], "console") == 0 || strcmp(path->part[2], "explain") == 0) {
        if (!get) {
            method_not_allowed(request, "GET");
        } else if (path->part[2][0] == 'c') {
            api_read_console(manager, request, path->part[1]);
        } else {
            api_get_partition(manager, request, path->part[1], true);
        }
    } else {
        for (size_t i = 0; i < VDC_COUNT_OF(verbs); i++) {
            if (strcmp(path->part[2], verbs[i].verb) == 0) {
                if (request->method == VDC_HTTP_POST) {
                    api_change_partition(manager, request, path->part[1], verbs[i].kind);
                } else {
                    method_not_allowed(request, "POST");
                }
                return;
            }
        }
        api_problemf(request, VDC_RC_NOT_FOUND, "a partition has no \"%s\"", path->part[2]);
    }
}

static void route(struct manager *manager, struct vdc_http_request *request,
                  const struct path *path)
{
    const char *noun = path->part[0];
    const char *name = path->part[1];
    bool get = request->method == VDC_HTTP_GET;
    bool list = path->parts == 1;
    bool one = path->parts == 2;
    if (strcmp(noun, "partitions") == 0 && !list) {
        route_partition(manager, request, path);
    } else if (strcmp(noun, "partitions") == 0 && request->method == VDC_HTTP_POST) {
        api_create_partition(manager, request);
    } else if (strcmp(noun, "partitions") == 0) {
        if (get) {
            api_list_partitions(manager, request);
        } else {
            method_not_allowed(request, "GET, POST");
        }
    } else if (strcmp(noun, "zones") == 0 && path->parts == 3 &&
               strcmp(path->part[2], "policy") == 0 && vdc_name_valid(name)) {
        if (get) {
            api_get_policy(manager, request, name);
        } else if (request->method == VDC_HTTP_PUT) {
            api_put_policy(manager, request, name);
        } else {
            method_not_allowed(request, "GET, PUT");
        }
    } else if (!(list || one) || (strcmp(noun, "nodes") != 0 && strcmp(noun, "operations") != 0 &&
                                  strcmp(noun, "zones") != 0)) {
        api_problemf(request, VDC_RC_NOT_FOUND, "there is nothing at %.200s", request->path);
    } else if (!get) {
        method_not_allowed(request, "GET");
    } else if (strcmp(noun, "nodes") == 0 && list) {
        api_list_nodes(manager, request);
    } else if (strcmp(noun, "nodes") == 0) {
        api_get_node(manager, request, name);
    } else if (strcmp(noun, "operations") == 0 && list) {
        api_list_operations(manager, request);
    } else if (strcmp(noun, "operations") == 0) {
        api_get_operation(manager, request, name);
    } else if (list) {
        api_list_zones(manager, request);
    } else {
        struct seat *seat = api_pick_zone(manager, request, name);
        if (seat != NULL) {
            api_json(request, 200, render_zone(seat), NULL);
        }
    }
}

/* Query parameters that some route knows: a misspelt one must not pass silently. */
static bool check_query(struct vdc_http_request *request)
{
    static const char *const known[] = {"wait", "zone", "limit", "cursor", "offset", "max"};
    const char *name;
    const char *value;
    for (size_t i = 0; vdc_http_request_query_at(request, i, &name, &value); i++) {
        bool found = false;
        for (size_t k = 0; k < VDC_COUNT_OF(known) && !found; k++) {
            found = strcmp(known[k], name) == 0;
        }
        if (!found) {
            api_problemf(request, VDC_RC_INVALID, "unknown query parameter \"%.64s\"", name);
            return false;
        }
    }
    return true;
}

static void on_request(void *data, struct vdc_http_request *request)
{
    struct manager *manager = data;
    struct path path;
    if (strcmp(request->path, "/healthz") == 0 || strcmp(request->path, "/readyz") == 0) {
        bool ready = manager->watch_zones != NULL && manager->watch_leaders != NULL;
        if (request->path[1] == 'r' && !ready) {
            api_problemf(request, VDC_RC_UNAVAILABLE, "the store has not answered yet");
        } else {
            vdc_http_respond(request, 200, "text/plain", "ok\n", 3, NULL, 0);
        }
    } else if (request->peer.kind != VDC_PEER_USER && request->peer.kind != VDC_PEER_MANAGER) {
        char peer[VDC_PEER_TEXT_CAP];
        vdc_peer_to_text(&request->peer, peer);
        api_problemf(request, VDC_RC_FORBIDDEN, "%s is not a user: the API is for vdc://user/NAME",
                     peer);
    } else if (!split_path(request->path, &path)) {
        api_problemf(request, VDC_RC_NOT_FOUND, "there is nothing at %.200s", request->path);
    } else if (!manager->zones_known) {
        /* A manager that has just begun: "there is no zone" would be a wrong answer, not a missing one. */
        api_problemf(request, VDC_RC_UNAVAILABLE,
                     "this manager has not read the zones from the store yet; ask again");
    } else if (check_query(request)) {
        route(manager, request, &path);
    }
}

static void on_refused(void *data, const struct vdc_err *why)
{
    (void)data;
    vdc_log_warn("api: %s", vdc_err_text(why));
}

enum vdc_rc api_open(struct manager *manager, struct vdc_err *err)
{
    struct vdc_http_server_config config = {.address = manager->config.api_listen,
                                            .on_request = on_request,
                                            .data = manager,
                                            .on_refused = on_refused};
    manager->client = vdc_http_client_create(manager->tls_http);
    if (vdc_http_server_open(manager->tls_http, &config, &manager->api, err) != VDC_RC_OK) {
        return vdc_err_wrap(err, "listen for the API");
    }
    return VDC_RC_OK;
}

void api_close(struct manager *manager)
{
    api_end_waiters(manager);
    vdc_http_server_close(manager->api);
    manager->api = NULL;
    vdc_http_client_destroy(manager->client);
    manager->client = NULL;
}
