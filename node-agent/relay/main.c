/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vdc-relay: carries one migration stream between a unix socket and a mutual-TLS connection to the
 * relay of another node. Exit code 0: both ends closed in order; 1: it failed, with a message; 2:
 * usage.
 */
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <uv.h>

#include <vdc/base.h>

#include "relay.h"

#define TIMEOUT_DEFAULT_S 60
#define TIMEOUT_MAX_S 86400

struct options {
    const char *listen_ip;
    const char *port;
    const char *connect;
    const char *unix_path;
    const char *peer;
    const char *timeout;
    struct vdc_tls_config tls;
};

static const char usage[] =
    "Usage: vdc-relay {--listen IP [--port N] | --connect HOST:PORT} --unix PATH\n"
    "                 --peer vdc://KIND/NAME --ca FILE --cert FILE --key FILE\n"
    "                 [--timeout-s N]\n"
    "\n"
    "Carries one migration stream between a unix socket and a mutual-TLS connection to PEER.\n"
    "When it is ready it says \"port N\" on standard output (N is 0 with --connect).\n";

static bool read_options(int argc, char **argv, struct options *options)
{
    static const struct option table[] = {
        {"listen", required_argument, NULL, 'l'},    {"port", required_argument, NULL, 'p'},
        {"connect", required_argument, NULL, 'c'},   {"unix", required_argument, NULL, 'u'},
        {"peer", required_argument, NULL, 'e'},      {"ca", required_argument, NULL, 'a'},
        {"cert", required_argument, NULL, 'r'},      {"key", required_argument, NULL, 'k'},
        {"timeout-s", required_argument, NULL, 't'}, {NULL, 0, NULL, 0}};
    const char **targets[128] = {['l'] = &options->listen_ip,     ['p'] = &options->port,
                                 ['c'] = &options->connect,       ['u'] = &options->unix_path,
                                 ['e'] = &options->peer,          ['a'] = &options->tls.ca_path,
                                 ['r'] = &options->tls.cert_path, ['k'] = &options->tls.key_path,
                                 ['t'] = &options->timeout};
    int option;
    while ((option = getopt_long(argc, argv, "", table, NULL)) != -1) {
        if (option == '?') {
            return false;
        }
        *targets[option] = optarg;
    }
    return optind == argc && (options->listen_ip != NULL) != (options->connect != NULL) &&
           options->unix_path != NULL && options->peer != NULL && options->tls.ca_path != NULL &&
           options->tls.cert_path != NULL && options->tls.key_path != NULL;
}

static int fail(const struct vdc_err *err)
{
    fprintf(stderr, "vdc-relay: %s\n", vdc_err_text(err));
    return 1;
}

static int run(uv_loop_t *loop, const struct options *options, const struct relay_config *config)
{
    struct vdc_tls_context *context;
    struct vdc_err err;
    if (vdc_tls_context_create(loop, &options->tls, &context, &err) != VDC_RC_OK) {
        return fail(&err);
    }
    struct relay *relay;
    enum vdc_rc rc = relay_open(context, config, &relay, &err);
    vdc_tls_context_unref(context);
    if (rc == VDC_RC_OK) {
        /* Also says that the unix socket listens: with --connect the port is 0. */
        printf("port %u\n", config->listen_at != NULL ? (unsigned)relay_port(relay) : 0U);
        fflush(stdout);
    }
    uv_run(loop, UV_RUN_DEFAULT);
    if (rc == VDC_RC_OK) {
        rc = relay_result(relay, &err);
    }
    relay_free(relay);
    return rc == VDC_RC_OK ? 0 : fail(&err);
}

int main(int argc, char **argv)
{
    struct options options = {.port = "0"};
    if (argc == 2 && strcmp(argv[1], "--help") == 0) {
        fputs(usage, stdout);
        return 0;
    }
    if (!read_options(argc, argv, &options)) {
        fputs(usage, stderr);
        return 2;
    }
    struct relay_config config = {.unix_path = options.unix_path, .address = options.connect};
    uint64_t timeout_s = TIMEOUT_DEFAULT_S;
    if (options.timeout != NULL &&
        (!vdc_parse_u64(options.timeout, TIMEOUT_MAX_S, &timeout_s) || timeout_s == 0)) {
        fprintf(stderr, "vdc-relay: --timeout-s %s: wanted 1 to %d\n", options.timeout,
                TIMEOUT_MAX_S);
        return 2;
    }
    config.timeout_s = (uint32_t)timeout_s;
    if (vdc_peer_parse(options.peer, strlen(options.peer), &config.peer) != VDC_RC_OK) {
        fprintf(stderr, "vdc-relay: --peer %s: wanted vdc://KIND/NAME\n", options.peer);
        return 2;
    }
    vdc_autofree char *listen_at = NULL;
    if (options.listen_ip != NULL) {
        bool is_v6 = strchr(options.listen_ip, ':') != NULL;
        listen_at = vdc_asprintf(is_v6 ? "[%s]:%s" : "%s:%s", options.listen_ip, options.port);
        config.listen_at = listen_at;
    }
    uv_loop_t loop;
    uv_loop_init(&loop);
    int code = run(&loop, &options, &config);
    uv_loop_close(&loop);
    return code;
}
