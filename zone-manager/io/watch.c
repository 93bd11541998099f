/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the store says of zones and leaders: both prefixes are listed, then watched from there; where
 * the watch's history is gone, listed again. Each change goes to its seat.
 */
#include <string.h>

#include <vdc/log.h>

#include "seat_internal.h"

#define ZONES_PREFIX VDC_STORE_PREFIX "zones/"
#define LEADERS_PREFIX VDC_STORE_PREFIX "leaders/"

/* "…/leaders/prod" -> "prod"; NULL for keys below it (the fence of guarded writes). */
static const char *name_of(const char *key, const char *prefix)
{
    const char *name = key + strlen(prefix);
    return vdc_name_valid(name) ? name : NULL;
}

static void take_zone(struct manager *manager, const struct vdc_etcd_kv *kv)
{
    const char *name = name_of(kv->key, ZONES_PREFIX);
    struct vdc_zone_record record;
    struct vdc_err err = {0};
    if (name == NULL) {
        return;
    }
    if (vdc_zone_record_decode(kv->value, kv->value_len, &record, &err) != VDC_RC_OK) {
        vdc_log_error("%s: %s -> ignored", kv->key, vdc_err_text(&err));
        return;
    }
    if (strcmp(record.name, name) != 0) {
        vdc_log_error("%s: it holds the record of zone %s -> ignored", kv->key, record.name);
        return;
    }
    seat_learn(manager, &record);
}

/* The store, at this revision, has no leader key of the zone. */
static void lose_leader(struct seat *seat, int64_t revision)
{
    seat->leader_revision = 0;
    seat->leader_lease = 0;
    memset(&seat->leader, 0, sizeof seat->leader);
    if (seat->core != NULL && revision > seat->epoch) {
        seat_resign(seat, "the leader key is gone");
    }
    seat_campaign(seat);
}

static void take_leader(struct manager *manager, const struct vdc_etcd_kv *kv, bool deleted)
{
    const char *name = name_of(kv->key, LEADERS_PREFIX);
    if (name == NULL) {
        return;
    }
    struct seat *seat = seat_find(manager, name);
    if (seat == NULL) {
        seat = seat_open(manager, name); /* the zone's record is on its way */
    }
    if (seat == NULL) {
        return;
    }
    if (deleted) {
        lose_leader(seat, kv->mod_revision);
        return;
    }
    seat->listed = true;
    struct vdc_err err = {0};
    if (vdc_leader_record_decode(kv->value, kv->value_len, &seat->leader, &err) != VDC_RC_OK) {
        vdc_log_error("%s: %s", kv->key, vdc_err_text(&err));
    }
    if (seat->leader_revision != kv->create_revision) {
        vdc_log_info("zone %s: led by %s with epoch %lld", seat->zone, seat->leader.manager,
                     (long long)kv->create_revision);
    }
    seat->leader_revision = kv->create_revision;
    seat->leader_lease = kv->lease;
    if (seat->core != NULL && seat->epoch < kv->create_revision) {
        seat_resign(seat, "another manager leads");
    }
    if (!seat_adopt_own_key(seat) && seat->leader_revision == seat->spent_epoch) {
        manager_retry_later(manager); /* to give it back */
    }
}

static void on_zone_events(void *data, const struct vdc_etcd_event *events, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (!events[i].deleted) {
            take_zone(data, &events[i].kv);
        }
    }
}

static void on_leader_events(void *data, const struct vdc_etcd_event *events, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        take_leader(data, &events[i].kv, events[i].deleted);
    }
}

static void on_zones_compacted(void *data, int64_t revision)
{
    struct manager *manager = data;
    vdc_log_warn("watch of zones: history before %lld is gone -> listing again",
                 (long long)revision);
    vdc_etcd_watch_close(manager->watch_zones);
    manager->watch_zones = NULL;
    watch_zones(manager);
}

static void on_leaders_compacted(void *data, int64_t revision)
{
    struct manager *manager = data;
    vdc_log_warn("watch of leaders: history before %lld is gone -> listing again",
                 (long long)revision);
    vdc_etcd_watch_close(manager->watch_leaders);
    manager->watch_leaders = NULL;
    watch_zones(manager);
}

static void on_zones_listed(void *data, enum vdc_rc rc, const struct vdc_etcd_kv *kvs, size_t count,
                            int64_t revision, bool more, const struct vdc_err *err)
{
    static const struct vdc_etcd_watch_calls calls = {.on_events = on_zone_events,
                                                      .on_compacted = on_zones_compacted};
    struct manager *manager = data;
    manager->listing_zones = more;
    if (rc == VDC_RC_CANCELLED) {
        return;
    }
    if (rc != VDC_RC_OK) {
        vdc_log_warn("store: list of zones: %s -> again", vdc_err_text(err));
        manager_retry_later(manager);
        return;
    }
    for (size_t i = 0; i < count; i++) {
        take_zone(manager, &kvs[i]);
    }
    manager->zones_known = manager->zones_known || !more;
    if (!more && manager->watch_zones == NULL &&
        vdc_etcd_watch_open(manager->etcd, ZONES_PREFIX, revision + 1, &calls, manager,
                            &manager->watch_zones) != VDC_RC_OK) {
        manager_retry_later(manager);
    }
}

static void on_leaders_listed(void *data, enum vdc_rc rc, const struct vdc_etcd_kv *kvs,
                              size_t count, int64_t revision, bool more, const struct vdc_err *err)
{
    static const struct vdc_etcd_watch_calls calls = {.on_events = on_leader_events,
                                                      .on_compacted = on_leaders_compacted};
    struct manager *manager = data;
    manager->listing_leaders = more;
    if (rc == VDC_RC_CANCELLED) {
        return;
    }
    if (rc != VDC_RC_OK) {
        vdc_log_warn("store: list of leaders: %s -> again", vdc_err_text(err));
        manager_retry_later(manager);
        return;
    }
    for (size_t i = 0; i < count; i++) {
        take_leader(manager, &kvs[i], false);
    }
    if (!more && manager->watch_leaders == NULL &&
        vdc_etcd_watch_open(manager->etcd, LEADERS_PREFIX, revision + 1, &calls, manager,
                            &manager->watch_leaders) != VDC_RC_OK) {
        manager_retry_later(manager);
    }
    /* Zones without a leader key are known to be free only now. One that was known and is not in the list
     * went while nobody watched: its deletion may have been compacted away, so nothing else tells. */
    for (struct seat *seat = manager->seats; !more && seat != NULL; seat = seat->next) {
        if (seat->leader_revision != 0 && !seat->listed) {
            vdc_log_info("zone %s: not in the list of leaders -> nobody leads it", seat->zone);
            lose_leader(seat, revision);
        } else {
            seat_campaign(seat);
        }
    }
}

static void list_leaders(struct manager *manager)
{
    for (struct seat *seat = manager->seats; seat != NULL; seat = seat->next) {
        seat->listed = false;
    }
    manager->listing_leaders =
        vdc_etcd_list(manager->etcd, LEADERS_PREFIX, on_leaders_listed, manager, NULL) == VDC_RC_OK;
}

void watch_zones(struct manager *manager)
{
    /* One list at a time: two would clear each other's marks. */
    if (manager->watch_leaders == NULL && !manager->listing_leaders) {
        list_leaders(manager);
    }
    if (manager->watch_zones == NULL && !manager->listing_zones) {
        manager->listing_zones =
            vdc_etcd_list(manager->etcd, ZONES_PREFIX, on_zones_listed, manager, NULL) == VDC_RC_OK;
    }
    if ((manager->watch_leaders == NULL && !manager->listing_leaders) ||
        (manager->watch_zones == NULL && !manager->listing_zones)) {
        manager_retry_later(manager);
    }
}
