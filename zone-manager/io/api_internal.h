/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the REST API ask of each other. Each of these functions answers its request, now or
 * later, unless it says otherwise. */
#ifndef VDC_MANAGER_API_INTERNAL_H
#define VDC_MANAGER_API_INTERNAL_H

#include "manager.h"

#define API_PROBLEM_TYPE "application/problem+json"

/* ---- api.c ---- */

/* The zone that the request is about: `name` where that is not NULL or "", else ?zone=, else the only
 * one. NULL: answered. */
struct seat *api_pick_zone(struct manager *manager, struct vdc_http_request *request,
                           const char *name);
/* As api_pick_zone(), but led from here: else it has been forwarded and NULL is returned. */
struct seat *api_pick_led_zone(struct manager *manager, struct vdc_http_request *request,
                               const char *name);

/* ---- api_answer.c ---- */

void api_problemf(struct vdc_http_request *request, enum vdc_rc rc, const char *fmt, ...)
    VDC_PRINTF(3, 4);
/* SHA-256 of method, path and body: the same request has the same. Answers nothing. */
void api_hash_request(const struct vdc_http_request *request, uint8_t digest[32]);
/* False: the Idempotency-Key is not valid, which has been answered. */
bool api_check_key(struct vdc_http_request *request);
/* Hands the request to the core. `asked` is filled except token, key, digest and user. */
void api_submit(struct seat *seat, struct vdc_http_request *request,
                struct vdc_zone_request *asked);
/* The manager stops: whoever waits is told. */
void api_end_waiters(struct manager *manager);

/* ---- api_read.c ---- */

void api_list_zones(struct manager *manager, struct vdc_http_request *request);
void api_list_nodes(struct manager *manager, struct vdc_http_request *request);
void api_list_partitions(struct manager *manager, struct vdc_http_request *request);
void api_list_operations(struct manager *manager, struct vdc_http_request *request);
void api_get_policy(struct manager *manager, struct vdc_http_request *request, const char *zone);
void api_get_node(struct manager *manager, struct vdc_http_request *request, const char *name);
/* `explain`: only why it is where it is. */
void api_get_partition(struct manager *manager, struct vdc_http_request *request, const char *name,
                       bool explain);
void api_get_operation(struct manager *manager, struct vdc_http_request *request, const char *name);

/* ---- api_change.c ---- */

void api_put_policy(struct manager *manager, struct vdc_http_request *request, const char *zone);
void api_create_partition(struct manager *manager, struct vdc_http_request *request);
void api_change_partition(struct manager *manager, struct vdc_http_request *request,
                          const char *name, enum vdc_zone_request_kind kind);
void api_read_console(struct manager *manager, struct vdc_http_request *request, const char *name);

#endif
