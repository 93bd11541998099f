/* SPDX-License-Identifier: Apache-2.0 */
/* vdc-zone-manager: reads its configuration, opens the drivers on one loop, runs until a signal. */
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include <vdc/entropy.h>
#include <vdc/log.h>

#include "manager.h"

static const char usage[] =
    "Usage: vdc-zone-manager --config FILE [--debug]\n"
    "       vdc-zone-manager --help | --version\n"
    "\n"
    "Leads zones of a virtual data center: places, migrates and restarts partitions by the zones'\n"
    "policies, keeps all intent in etcd, serves the REST API. Run three or more; each zone has "
    "one\n"
    "leader at a time and another takes over within seconds.\n"
    "\n"
    "  --config FILE   YAML; see vdc-zone-manager(8)\n"
    "  --debug         log also what is of interest to developers\n";

static void on_etcd_trace(void *data, enum vdc_level level, const char *line)
{
    (void)data;
    vdc_log(level, "%s", line);
}

static enum vdc_rc open_tls(struct manager *manager, struct vdc_err *err)
{
    struct vdc_tls_config tls = {.ca_path = manager->config.tls_ca,
                                 .cert_path = manager->config.tls_cert,
                                 .key_path = manager->config.tls_key};
    enum vdc_rc rc = vdc_tls_context_create(manager->loop, &tls, &manager->tls, err);
    if (rc != VDC_RC_OK) {
        return rc;
    }
    const struct vdc_peer *self = vdc_tls_context_self(manager->tls);
    if (self->kind != VDC_PEER_MANAGER || strcmp(self->name, manager->config.name) != 0) {
        char text[VDC_PEER_TEXT_CAP];
        vdc_peer_to_text(self, text);
        return vdc_err_set(err, VDC_RC_INVALID,
                           "%s is the certificate of %s, not of "
                           "vdc://manager/%s",
                           tls.cert_path, text, manager->config.name);
    }
    tls.alpn = "http/1.1";
    return vdc_tls_context_create(manager->loop, &tls, &manager->tls_http, err);
}

static enum vdc_rc open_etcd(struct manager *manager, struct vdc_err *err)
{
    const struct manager_config *from = &manager->config;
    const char *endpoints[VDC_ETCD_ENDPOINTS_MAX];
    for (size_t i = 0; i < from->etcd_endpoints_len; i++) {
        endpoints[i] = from->etcd_endpoints[i];
    }
    struct vdc_etcd_config config = {.endpoints = endpoints,
                                     .endpoint_count = from->etcd_endpoints_len,
                                     .ca_path = from->etcd_ca[0] != 0 ? from->etcd_ca : NULL,
                                     .cert_path = from->etcd_cert[0] != 0 ? from->etcd_cert : NULL,
                                     .key_path = from->etcd_key[0] != 0 ? from->etcd_key : NULL,
                                     .authority =
                                         from->etcd_authority[0] != 0 ? from->etcd_authority : NULL,
                                     .attempt_timeout_ms = 1000,
                                     .on_trace = on_etcd_trace};
    vdc_entropy_fill(&config.seed, sizeof config.seed);
    return vdc_etcd_open(manager->loop, &config, &manager->etcd, err);
}

static enum vdc_rc open_all(struct manager *manager, struct vdc_err *err)
{
    enum vdc_rc rc = open_tls(manager, err);
    if (rc == VDC_RC_OK) {
        rc = open_etcd(manager, err);
    }
    if (rc == VDC_RC_OK) {
        rc = nodes_open(manager, err);
    }
    if (rc == VDC_RC_OK) {
        rc = api_open(manager, err);
    }
    if (rc == VDC_RC_OK) {
        rc = seats_open(manager, err);
    }
    return rc;
}

static void on_signal(uv_signal_t *handle, int number)
{
    vdc_log_info("%s -> stopping", strsignal(number));
    uv_stop(handle->loop);
}

static void on_etcd_closed(void *data)
{
    *(bool *)data = true;
}

static void on_grace_over(uv_timer_t *timer)
{
    *(bool *)timer->data = true;
}

static int run(struct manager *manager)
{
    uv_signal_t signals[2];
    static const int numbers[] = {SIGTERM, SIGINT};
    for (size_t i = 0; i < VDC_COUNT_OF(numbers); i++) {
        uv_signal_init(manager->loop, &signals[i]);
        uv_signal_start(&signals[i], on_signal, numbers[i]);
    }
    struct vdc_err err = {0};
    if (open_all(manager, &err) != VDC_RC_OK) {
        /* The system takes back what was opened: nothing has been promised to anybody yet. */
        vdc_log_error("%s", vdc_err_text(&err));
        return 1;
    }
    vdc_log_info("manager %s: API at %s, nodes at %s", manager->config.name,
                 manager->config.api_listen, manager->config.nodes_listen);
    uv_run(manager->loop, UV_RUN_DEFAULT);

    seats_close(manager);
    api_close(manager);
    nodes_close(manager);
    /* The lease's revocation lets a successor begin at once; it is worth a second, not more. */
    uv_timer_t grace;
    uv_timer_init(manager->loop, &grace);
    grace.data = &manager->revoked;
    uv_timer_start(&grace, on_grace_over, 1000, 0);
    while (!manager->revoked) {
        uv_run(manager->loop, UV_RUN_ONCE);
    }
    uv_close((uv_handle_t *)&grace, NULL);
    bool closed = false;
    vdc_etcd_close(manager->etcd, on_etcd_closed, &closed);
    while (!closed) {
        uv_run(manager->loop, UV_RUN_ONCE);
    }
    vdc_tls_context_unref(manager->tls);
    vdc_tls_context_unref(manager->tls_http);
    return 0;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {{"config", required_argument, NULL, 'c'},
                                            {"debug", no_argument, NULL, 'd'},
                                            {"help", no_argument, NULL, 'h'},
                                            {"version", no_argument, NULL, 'v'},
                                            {NULL, 0, NULL, 0}};
    const char *path = NULL;
    enum vdc_level level = VDC_LEVEL_INFO;
    int option;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (option) {
        case 'c':
            path = optarg;
            break;
        case 'd':
            level = VDC_LEVEL_DEBUG;
            break;
        case 'h':
            fputs(usage, stdout);
            return 0;
        case 'v':
            puts("vdc-zone-manager " VDC_VERSION);
            return 0;
        default:
            fputs(usage, stderr);
            return 2;
        }
    }
    if (path == NULL || optind != argc) {
        fputs(usage, stderr);
        return 2;
    }
    /* Before any thread: a peer that closes must give an error, not a signal. */
    signal(SIGPIPE, SIG_IGN);
    struct manager *manager = VDC_NEW(struct manager);
    struct vdc_err err = {0};
    if (manager_config_load(path, &manager->config, &err) != VDC_RC_OK) {
        fprintf(stderr, "vdc-zone-manager: %s\n", vdc_err_text(&err));
        return 1;
    }
    vdc_log_open("vdc-zone-manager", level);
    manager->loop = uv_default_loop();
    int status = run(manager);
    for (struct seat *seat = manager->seats, *next; seat != NULL; seat = next) {
        next = seat->next;
        free(seat);
    }
    free(manager);
    return status;
}
