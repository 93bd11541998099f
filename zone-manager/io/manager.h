/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The drivers of a zone manager, as main.c wires them: one loop thread, one etcd client, one listener
 * for nodes, one HTTPS server, and a *seat* for each zone that the store knows. A seat is either led
 * from here (then it has a core, vdc/zone.h) or by another manager (then its requests are forwarded).
 *
 *   seat.c     leadership in etcd, the core's events and updates, writes; load.c reads the records,
 *              watch.c learns of zones and leaders
 *   nodes.c    the sessions of nodes
 *   api*.c     routes, rights, answers, waiting; spec.c reads bodies, render.c writes JSON
 *   forward.c  hands a request to the manager that leads its zone
 *   config.c   the configuration file
 */
#ifndef VDC_MANAGER_H
#define VDC_MANAGER_H

#include <jansson.h>
#include <uthash.h>
#include <uv.h>

#include <vdc/etcd.h>
#include <vdc/http.h>
#include <vdc/http_client.h>
#include <vdc/link.h>
#include <vdc/zone.h>

/* Zones of one data center: a manager scans this list, and each has a core of its own. */
#define MANAGER_ZONES_MAX 256
/* Requests that wait for an operation (?wait=), all zones together: each holds a connection. */
#define MANAGER_WAITERS_MAX 4096
/* Longest ?wait=: below the idle time of the proxies that people put before an API. */
#define MANAGER_WAIT_MAX_MS INT64_C(300000)
/* Elements of one page of a list, and without ?limit=. */
#define MANAGER_PAGE_MAX 1000
#define MANAGER_PAGE_DEFAULT 100

#define MANAGER_PATH_CAP 1024

struct manager_config {
    char name[VDC_NAME_CAP];
    char api_listen[VDC_ADDRESS_CAP];
    char api_advertise[VDC_ADDRESS_CAP]; /* what other managers dial; default: api_listen */
    char nodes_listen[VDC_ADDRESS_CAP];
    char etcd_endpoints[VDC_ETCD_ENDPOINTS_MAX][VDC_ETCD_ENDPOINT_MAX + 1];
    size_t etcd_endpoints_len;
    char etcd_authority[VDC_ADDRESS_CAP]; /* "": none */
    char etcd_ca[MANAGER_PATH_CAP];       /* "": plain (a laboratory's loopback only) */
    char etcd_cert[MANAGER_PATH_CAP];
    char etcd_key[MANAGER_PATH_CAP];
    char tls_ca[MANAGER_PATH_CAP];
    char tls_cert[MANAGER_PATH_CAP];
    char tls_key[MANAGER_PATH_CAP];
    int64_t leader_ttl_s; /* 2..60 */
};

/* Reads the file; every mistake with line and column in err. */
enum vdc_rc manager_config_load(const char *path, struct manager_config *config,
                                struct vdc_err *err) VDC_MUST_USE;

struct manager;

/* One write of a core that waits for etcd: copies. */
struct seat_write {
    uint64_t id;
    struct vdc_zone_put *puts;
    size_t puts_len;
    struct seat_write *next;
};

/* The writes that one transaction carries. */
struct seat_batch {
    struct seat *seat;
    struct seat_write *writes;
    struct vdc_etcd_request *request;
    bool abandoned; /* leadership was lost meanwhile: nobody wants to know */
};

enum seat_state {
    SEAT_FOLLOWING,   /* somebody else leads, or nobody yet */
    SEAT_CAMPAIGNING, /* our transaction to become leader is under way */
    SEAT_LOADING,     /* leader: the records are being read */
    SEAT_LEADING,
};

struct seat {
    struct manager *manager;
    char zone[VDC_NAME_CAP];
    enum seat_state state;
    int64_t last_step_ns; /* what the core's last step took */
    struct vdc_zone_record record;
    /* As the store says; revision 0: nobody leads. */
    struct vdc_leader_record leader;
    int64_t leader_revision;
    int64_t leader_lease;
    bool listed;                    /* seen in the list of leaders that is being read */
    unsigned failures;              /* in a row, until a write succeeds */
    vdc_mono paused_until;          /* after a failure: no campaign before */
    char trouble[VDC_ERR_TEXT_MAX]; /* what the last failure was; "": none */
    /* While loading or leading. */
    struct vdc_zone *core;
    int64_t epoch;
    int64_t lease_id;  /* the store lease that our leadership hangs on */
    int64_t put_lease; /* of the last attempt to take the leader key, whose answer may be out */
    /* An epoch of ours that was given up: 0: none. A write of it whose answer we no longer wait for may
     * still come to pass, so nobody may lead with it again: our key is deleted first. */
    int64_t spent_epoch;
    bool abdicating; /* that is under way */
    bool retaking;   /* a transaction that hangs it on a new one is under way */
    unsigned lists_left;
    struct vdc_etcd_request *load;  /* the list or read under way */
    struct seat_write *writes_head; /* not yet sent; one batch is under way at a time */
    struct seat_write **writes_tail;
    struct seat_batch *batch;
    bool broken;      /* a write was lost on our side: resigns from the loop */
    uv_timer_t timer; /* leading: the core's deadline; else the end of a pause */
    struct seat *next;
};

struct session {
    uint32_t magic;
    struct manager *manager;
    uint64_t id;
    struct vdc_link *link;
    struct vdc_msg *hello; /* NULL until it came */
    bool choked;           /* a message could not be queued: it is ended from the loop */
    UT_hash_handle hh;     /* by id */
};

struct waiter;

struct manager {
    uv_loop_t *loop;
    struct manager_config config;
    struct vdc_tls_context *tls;      /* for links */
    struct vdc_tls_context *tls_http; /* the same files, with ALPN */
    struct vdc_etcd *etcd;
    struct vdc_etcd_lease *lease; /* of our leaderships; NULL while none is wanted */
    int64_t lease_id;
    vdc_mono leading_until; /* sent + TTL of the last confirmed keep-alive */
    struct vdc_etcd_watch *watch_zones;
    struct vdc_etcd_watch *watch_leaders;
    uv_timer_t retry; /* of whatever failed: lists of zones, a lost lease, campaigns */
    struct vdc_link_listener *nodes;
    struct vdc_http_server *api;
    struct vdc_http_client *client;
    struct seat *seats;       /* by name */
    struct session *sessions; /* by id, in the order of coming */
    uint64_t session_last;
    uv_timer_t sweep;
    struct waiter *waiters;
    size_t waiters_len;
    uint64_t token_last;
    bool listing_zones; /* a list is under way */
    bool listing_leaders;
    bool zones_known; /* listed once: before that nobody can say that there is no zone */
    bool stopping;
    bool revoked; /* while stopping: the lease has been given back, or it was tried */
};

/* ---- seat.c ---- */

/* Lists zones and leaders, watches them, keeps the store lease; from then on all by itself. */
enum vdc_rc seats_open(struct manager *manager, struct vdc_err *err) VDC_MUST_USE;
/* Gives up every leadership and destroys the cores; `revoked` is set when the lease is given back. */
void seats_close(struct manager *manager);
struct seat *seat_find(struct manager *manager, const char *zone); /* NULL: no such zone */
/* The store has this zone: gives it a seat, which tries to lead it. */
void seat_learn(struct manager *manager, const struct vdc_zone_record *record);
/* Gives the core one event (now and wall are filled in) and carries its update out. Only while it
 * has a core. */
void seat_step(struct seat *seat, struct vdc_zone_event *event);
/* Led from here and loaded: the readers and requests work. */
bool seat_leads(const struct seat *seat);

/* ---- nodes.c ---- */

enum vdc_rc nodes_open(struct manager *manager, struct vdc_err *err) VDC_MUST_USE;
void nodes_close(struct manager *manager);
/* Tells a core that has just been loaded of every session there is. */
void nodes_introduce(struct seat *seat);
/* False if there is no such session any more. */
bool nodes_send(struct manager *manager, uint64_t session, const struct vdc_msg *msg);

/* ---- api.c, api_answer.c ---- */

enum vdc_rc api_open(struct manager *manager, struct vdc_err *err) VDC_MUST_USE;
void api_close(struct manager *manager);
/* The core's answer to the request with that token. */
void api_answer(struct seat *seat, const struct vdc_zone_answer *answer);
/* After each step: answers those who wait for operations that have ended. */
void api_check_waiters(struct seat *seat);
/* Leadership of the zone is lost: all its waiters are told to ask again. */
void api_fail_waiters(struct seat *seat);
/* application/problem+json. `extra` (may be NULL) is taken over; its members are added. */
void api_problem(struct vdc_http_request *request, enum vdc_rc rc, const char *detail,
                 json_t *extra);
/* `body` is taken over. `location` may be NULL. */
void api_json(struct vdc_http_request *request, int status, json_t *body, const char *location);
/* Who really asks: the user of the certificate, or the one that a forwarding manager names. */
const char *api_user(const struct vdc_http_request *request);

/* ---- forward.c ---- */

/* Sends the request to the zone's leader and its answer back; answers NO_LEADER where there is none. */
void forward_request(struct seat *seat, struct vdc_http_request *request);
/* The header with which a manager names the user it speaks for. */
#define FORWARD_USER_HEADER "vdc-user"

/* ---- spec.c ---- */

/* Bodies of requests. On failure the answer has been sent (problem+json with pointers). */
bool spec_read_create(struct vdc_http_request *request, struct vdc_partition_spec *spec);
/* {"target": "n3"}, both optional. */
bool spec_read_migrate(struct vdc_http_request *request, char target[VDC_NAME_CAP]);
/* No body, or {}. */
bool spec_read_empty(struct vdc_http_request *request);
/* {"policy": "text"}, or the text itself with a YAML content type. *text is allocated. */
bool spec_read_policy(struct vdc_http_request *request, char **text);

/* ---- render.c: new references ---- */

/* A JSON text of what may hold user input that was cut in the middle of a character: what is no UTF-8
 * is repaired (vdc/utf8.h). Never NULL. */
json_t *render_text(const char *text);
json_t *render_operation(const struct vdc_operation_record *record);
json_t *render_partition(const struct vdc_zone_partition_info *info);
json_t *render_node(const struct vdc_zone *zone, const struct vdc_zone_node_info *info,
                    vdc_mono now);
/* With NUMA nodes, system partitions and devices: too much for lists. */
json_t *render_node_whole(const struct vdc_zone *zone, const struct vdc_zone_node_info *info,
                          vdc_mono now);
json_t *render_zone(const struct seat *seat);

#endif
