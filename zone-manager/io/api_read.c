/* SPDX-License-Identifier: Apache-2.0 */
/* GET: lists in pages, and single things, as the leader's core has them at this instant. */
#include <string.h>

#include <vdc/clock.h>

#include "api_internal.h"

void api_get_policy(struct manager *manager, struct vdc_http_request *request, const char *zone)
{
    struct seat *seat = api_pick_led_zone(manager, request, zone);
    if (seat == NULL) {
        return;
    }
    const struct vdc_policy_record *record = vdc_zone_policy_record(seat->core);
    char at[VDC_WALL_TEXT_CAP];
    vdc_wall_to_text(record->applied_at, at);
    api_json(request, 200,
             json_pack("{s:s, s:I, s:o, s:s, s:o}", "zone", seat->zone, "version",
                       (json_int_t)record->version, "applied_by", render_text(record->applied_by),
                       "applied_at", at, "policy", render_text(record->text)),
             NULL);
}

/* ---- lists ---- */

struct page {
    size_t limit;
    const char *cursor; /* "" = from the beginning */
    json_t *items;
    char last[VDC_NAME_CAP]; /* what the next page begins after */
};

/* False: a mistake has been answered. */
static bool page_begin(struct page *page, struct vdc_http_request *request)
{
    const char *limit = vdc_http_request_query(request, "limit");
    const char *cursor = vdc_http_request_query(request, "cursor");
    uint64_t number = MANAGER_PAGE_DEFAULT;
    if (limit != NULL && (!vdc_parse_u64(limit, MANAGER_PAGE_MAX, &number) || number == 0)) {
        api_problemf(request, VDC_RC_INVALID, "?limit= must be a number from 1 to %d",
                     MANAGER_PAGE_MAX);
        return false;
    }
    if (cursor != NULL && !vdc_name_valid(cursor)) {
        api_problemf(request, VDC_RC_INVALID, "?cursor= is not one that was given by a list");
        return false;
    }
    *page = (struct page){.limit = number, .cursor = cursor != NULL ? cursor : ""};
    page->items = json_array();
    return true;
}

static bool page_full(const struct page *page)
{
    return json_array_size(page->items) >= page->limit;
}

static void page_add(struct page *page, json_t *item, const char *name)
{
    json_array_append_new(page->items, item);
    vdc_str_set(page->last, sizeof page->last, name);
}

static void page_end(struct page *page, struct vdc_http_request *request, bool more)
{
    api_json(
        request, 200,
        json_pack("{s:o, s:s?}", "items", page->items, "next_cursor", more ? page->last : NULL),
        NULL);
}

void api_list_zones(struct manager *manager, struct vdc_http_request *request)
{
    struct page page;
    if (!page_begin(&page, request)) {
        return;
    }
    bool more = false;
    for (struct seat *seat = manager->seats; seat != NULL; seat = seat->next) {
        if (seat->record.policy_version == 0 || strcmp(seat->zone, page.cursor) <= 0) {
            continue;
        }
        if (page_full(&page)) {
            more = true;
            break;
        }
        page_add(&page, render_zone(seat), seat->zone);
    }
    page_end(&page, request, more);
}

void api_list_nodes(struct manager *manager, struct vdc_http_request *request)
{
    struct seat *seat = api_pick_led_zone(manager, request, NULL);
    struct page page;
    if (seat == NULL || !page_begin(&page, request)) {
        return;
    }
    struct vdc_zone_node_info info;
    vdc_mono now = vdc_clock_mono();
    const char *after = page.cursor;
    bool more = false;
    while (vdc_zone_node_next(seat->core, after, &info)) {
        if (page_full(&page)) {
            more = true;
            break;
        }
        page_add(&page, render_node(seat->core, &info, now), info.record->name);
        after = info.record->name;
    }
    page_end(&page, request, more);
}

void api_list_partitions(struct manager *manager, struct vdc_http_request *request)
{
    struct seat *seat = api_pick_led_zone(manager, request, NULL);
    struct page page;
    if (seat == NULL || !page_begin(&page, request)) {
        return;
    }
    struct vdc_zone_partition_info info;
    const char *after = page.cursor;
    bool more = false;
    while (vdc_zone_partition_next(seat->core, after, &info)) {
        if (page_full(&page)) {
            more = true;
            break;
        }
        page_add(&page, render_partition(&info), info.record->spec.name);
        after = info.record->spec.name;
    }
    page_end(&page, request, more);
}

void api_list_operations(struct manager *manager, struct vdc_http_request *request)
{
    struct seat *seat = api_pick_led_zone(manager, request, NULL);
    struct page page;
    if (seat == NULL || !page_begin(&page, request)) {
        return;
    }
    struct vdc_id after;
    bool from_begin = page.cursor[0] == 0;
    if (!from_begin && !vdc_id_from_text(page.cursor, &after)) {
        json_decref(page.items);
        api_problemf(request, VDC_RC_INVALID, "?cursor= is not one that was given by a list");
        return;
    }
    if (!from_begin && vdc_zone_operation_find(seat->core, &after) == NULL) {
        /* To end the list here would hide what comes after it. */
        json_decref(page.items);
        api_problemf(request, VDC_RC_STALE,
                     "?cursor= is an operation that is not kept any more; list from the beginning");
        return;
    }
    const struct vdc_operation_record *record =
        vdc_zone_operation_next(seat->core, from_begin ? NULL : &after);
    for (; record != NULL && !page_full(&page);
         record = vdc_zone_operation_next(seat->core, &record->id)) {
        char id[VDC_ID_TEXT_CAP];
        vdc_id_to_text(&record->id, id);
        page_add(&page, render_operation(record), id);
    }
    page_end(&page, request, record != NULL);
}

/* ---- one thing ---- */

void api_get_node(struct manager *manager, struct vdc_http_request *request, const char *name)
{
    struct seat *seat = api_pick_led_zone(manager, request, NULL);
    struct vdc_zone_node_info info;
    if (seat == NULL) {
        return;
    }
    if (!vdc_zone_node_find(seat->core, name, &info)) {
        api_problemf(request, VDC_RC_NOT_FOUND, "zone %s has no node \"%.64s\"", seat->zone, name);
        return;
    }
    api_json(request, 200, render_node_whole(seat->core, &info, vdc_clock_mono()), NULL);
}

void api_get_partition(struct manager *manager, struct vdc_http_request *request, const char *name,
                       bool explain)
{
    struct seat *seat = api_pick_led_zone(manager, request, NULL);
    struct vdc_zone_partition_info info;
    if (seat == NULL) {
        return;
    }
    if (!vdc_zone_partition_find(seat->core, name, &info)) {
        api_problemf(request, VDC_RC_NOT_FOUND, "zone %s has no partition \"%.64s\"", seat->zone,
                     name);
        return;
    }
    if (explain) {
        api_json(request, 200,
                 json_pack("{s:s, s:s?, s:I, s:o}", "partition", info.record->spec.name, "node",
                           info.record->owner[0] != 0 ? info.record->owner : NULL, "policy_version",
                           (json_int_t)info.record->policy_version, "verdict",
                           render_text(info.record->verdict != NULL ? info.record->verdict
                                                                    : "not placed yet")),
                 NULL);
        return;
    }
    api_json(request, 200, render_partition(&info), NULL);
}

void api_get_operation(struct manager *manager, struct vdc_http_request *request, const char *name)
{
    struct seat *seat = api_pick_led_zone(manager, request, NULL);
    struct vdc_id id;
    if (seat == NULL) {
        return;
    }
    const struct vdc_operation_record *record =
        vdc_id_from_text(name, &id) ? vdc_zone_operation_find(seat->core, &id) : NULL;
    if (record == NULL) {
        api_problemf(request, VDC_RC_NOT_FOUND, "zone %s has no operation \"%.64s\" (any more)",
                     seat->zone, name);
        return;
    }
    api_json(request, 200, render_operation(record), NULL);
}
