/* SPDX-License-Identifier: Apache-2.0 */
/* HTTPS by libcurl: attempts, servers, waiting for operations. */
#include <curl/curl.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include <vdc/clock.h>
#include <vdc/entropy.h>
#include <vdc/id.h>

#include "cli.h"

/* A server that accepts no connection in this time is passed over. */
#define CONNECT_TIMEOUT_MS 3000
/* One long poll; the whole is bounded by --timeout. */
#define POLL_S 20
#define RETRY_NS (200 * VDC_MS)
#define ANSWER_MAX (64u << 20)

struct transfer {
    struct cli_answer *answer;
    const char *what;
    vdc_mono begin;
};

static size_t on_body(char *data, size_t size, size_t count, void *user)
{
    struct transfer *transfer = user;
    if (transfer->answer->body.len + size * count > ANSWER_MAX) {
        return 0; /* ends the transfer with an error */
    }
    vdc_buf_append(&transfer->answer->body, data, size * count);
    return size * count;
}

static size_t on_header(char *data, size_t size, size_t count, void *user)
{
    struct transfer *transfer = user;
    char line[128];
    size_t len = size * count;
    if (len < sizeof line) {
        memcpy(line, data, len);
        line[len] = 0;
        line[strcspn(line, "\r\n")] = 0;
        if (strncasecmp(line, "vdc-console-offset: ", 20) == 0) {
            transfer->answer->console_offset = strtoull(line + 20, NULL, 10);
        } else if (strncasecmp(line, "vdc-console-end: ", 17) == 0) {
            transfer->answer->console_end = strtoull(line + 17, NULL, 10);
        }
    }
    return len;
}

static int on_progress(void *user, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
    (void)a;
    (void)b;
    (void)c;
    (void)d;
    struct transfer *transfer = user;
    int64_t ms = vdc_mono_sub(vdc_clock_mono(), transfer->begin) / VDC_MS;
    if (ms > 500 && transfer->what != NULL) {
        cli_progress("%s ... %lld.%lld s", transfer->what, (long long)ms / 1000,
                     (long long)ms / 100 % 10);
    }
    return 0;
}

void cli_answer_deinit(struct cli_answer *answer)
{
    json_decref(answer->json);
    vdc_buf_deinit(&answer->body);
    *answer = (struct cli_answer){0};
}

static CURL *make_handle(struct cli *cli, struct transfer *transfer, char *error)
{
    CURL *curl = curl_easy_init();
    VDC_ASSERT(curl != NULL);
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, error);
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "https");
    curl_easy_setopt(curl, CURLOPT_PROXY, "");
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, (long)CONNECT_TIMEOUT_MS);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT, (long)(POLL_S + 15));
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    if (cli->ca[0] != 0) {
        curl_easy_setopt(curl, CURLOPT_CAINFO, cli->ca);
    }
    if (cli->cert[0] != 0) {
        curl_easy_setopt(curl, CURLOPT_SSLCERT, cli->cert);
        curl_easy_setopt(curl, CURLOPT_SSLKEY, cli->key);
    }
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, transfer);
    curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(curl, CURLOPT_HEADERDATA, transfer);
    curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, on_progress);
    curl_easy_setopt(curl, CURLOPT_XFERINFODATA, transfer);
    return curl;
}

static void make_url(const struct cli *cli, const char *path, struct vdc_buf *url)
{
    const char *server = cli->servers[cli->server];
    size_t len = strlen(server);
    bool scheme = strstr(server, "://") != NULL;
    vdc_buf_printf(url, "%s%.*s%s", scheme ? "" : "https://",
                   (int)(len > 0 && server[len - 1] == '/' ? len - 1 : len), server, path);
    if (cli->zone[0] != 0 && strncmp(path, "/v1/zones", 9) != 0) {
        vdc_buf_printf(url, "%czone=%s", strchr(path, '?') != NULL ? '&' : '?', cli->zone);
    }
}

/* One attempt. OK: there is an answer, whatever it says. */
static CURLcode attempt(struct cli *cli, const char *method, const char *path,
                        struct curl_slist *headers, const char *body, struct transfer *transfer,
                        char *error)
{
    CURL *curl = make_handle(cli, transfer, error);
    struct vdc_buf url = {0};
    make_url(cli, path, &url);
    error[0] = 0;
    curl_easy_setopt(curl, CURLOPT_URL, url.data);
    curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, method);
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    if (body != NULL) {
        curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)strlen(body));
        curl_easy_setopt(curl, CURLOPT_POSTFIELDS, body);
    }
    vdc_buf_clear(&transfer->answer->body);
    CURLcode code = curl_easy_perform(curl);
    if (code == CURLE_OK) {
        curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &transfer->answer->status);
    } else if (error[0] == 0) {
        snprintf(error, CURL_ERROR_SIZE, "%s", curl_easy_strerror(code));
    }
    vdc_buf_deinit(&url);
    curl_easy_cleanup(curl);
    return code;
}

static void pause_ns(int64_t ns)
{
    struct timespec time = {.tv_sec = ns / VDC_SECOND, .tv_nsec = ns % VDC_SECOND};
    nanosleep(&time, NULL);
}

/* A certificate that is refused will be refused again. */
static bool is_final(CURLcode code)
{
    return code == CURLE_PEER_FAILED_VERIFICATION || code == CURLE_SSL_CERTPROBLEM ||
           code == CURLE_SSL_CACERT_BADFILE || code == CURLE_UNSUPPORTED_PROTOCOL ||
           code == CURLE_URL_MALFORMAT || code == CURLE_WRITE_ERROR;
}

void cli_request(struct cli *cli, const char *method, const char *path, const char *type,
                 const char *body, const char *what, struct cli_answer *answer)
{
    *answer = (struct cli_answer){0};
    struct curl_slist *headers = curl_slist_append(NULL, "Accept: application/json");
    headers = curl_slist_append(headers, "Expect:");
    char line[256];
    if (body != NULL) {
        snprintf(line, sizeof line, "Content-Type: %s", type);
        headers = curl_slist_append(headers, line);
    }
    if (strcmp(method, "GET") != 0) {
        uint64_t seed;
        struct vdc_prng prng;
        char key[VDC_ID_TEXT_CAP];
        vdc_entropy_fill(&seed, sizeof seed);
        vdc_prng_init(&prng, seed);
        struct vdc_id id = vdc_id_make(&prng);
        vdc_id_to_text(&id, key);
        snprintf(line, sizeof line, "Idempotency-Key: %.200s",
                 cli->idempotency_key != NULL ? cli->idempotency_key : key);
        headers = curl_slist_append(headers, line);
    }
    struct transfer transfer = {.answer = answer, .what = what, .begin = vdc_clock_mono()};
    vdc_mono end = cli->deadline;
    char error[CURL_ERROR_SIZE];
    for (size_t tries = 1;; tries++) {
        answer->status = 0;
        CURLcode code = attempt(cli, method, path, headers, body, &transfer, error);
        /* 503 and 504 are said by managers while a zone has no leader; the same request with the
         * same key is asked again. */
        bool again =
            code != CURLE_OK ? !is_final(code) : answer->status == 503 || answer->status == 504;
        if (!again || vdc_mono_reached(vdc_clock_mono(), end)) {
            break;
        }
        if (code != CURLE_OK) {
            cli->server = (cli->server + 1) % cli->servers_len;
        }
        if (code == CURLE_OK || tries % cli->servers_len == 0) {
            cli_progress("%s: %s -> trying again", what,
                         code != CURLE_OK ? error : "no leader yet");
            pause_ns(RETRY_NS);
        }
    }
    curl_slist_free_all(headers);
    cli_progress_end();
    if (answer->status == 0) {
        cli_error("%s: %s: %s; is a manager running there, and are --ca, --cert and --key right?",
                  what, cli->servers[cli->server], error);
        return;
    }
    if (answer->body.len > 0) {
        answer->json = json_loadb(answer->body.data, answer->body.len, 0, NULL);
    }
}

/* What to do next, where the answer does not say it by itself. */
static void say_hint(const struct cli_answer *answer, const char *code, const char *detail)
{
    static const char *const nouns[] = {"partition", "node", "operation", "zone"};
    const char *operation = cli_text_at(answer->json, "operation.id");
    if (strcmp(code, "NOT_FOUND") == 0) {
        for (size_t i = 0; i < VDC_COUNT_OF(nouns); i++) {
            char missing[32];
            snprintf(missing, sizeof missing, " no %s ", nouns[i]);
            if (strstr(detail, missing) != NULL) {
                fprintf(stderr, "  vdc %s list shows what there is\n", nouns[i]);
                return;
            }
        }
    } else if (strcmp(code, "EXISTS") == 0) {
        fprintf(stderr, "  choose another name, or look at it: vdc partition show NAME\n");
    } else if (strcmp(code, "FORBIDDEN") == 0 || strcmp(code, "UNAUTHENTICATED") == 0) {
        fprintf(stderr, "  --cert and --key (or VDC_CERT, VDC_KEY) say who asks\n");
    } else if (answer->status == 503 || answer->status == 504) {
        fprintf(stderr, "  vdc zone list shows who leads; --timeout SECONDS waits longer\n");
    } else if (strcmp(code, "REFUSED") != 0 && operation[0] != 0) {
        fprintf(stderr, "  vdc operation show %s has the whole story\n", operation);
    }
}

/* The verdict behind the error's line, which is its first line mostly. */
static void say_verdict(const char *verdict, const char *detail)
{
    size_t len = strlen(detail);
    if (strncmp(verdict, detail, len) == 0 && (verdict[len] == '\n' || verdict[len] == 0)) {
        verdict += len + (verdict[len] == '\n');
    }
    len = strlen(verdict);
    if (len > 0) {
        fprintf(stderr, "%s%s", verdict, verdict[len - 1] == '\n' ? "" : "\n");
    }
}

int cli_check(struct cli *cli, const struct cli_answer *answer, const char *what)
{
    if (answer->status >= 200 && answer->status < 300) {
        return CLI_DONE;
    }
    if (answer->status == 0) {
        return CLI_UNREACHABLE;
    }
    const char *code = cli_text_at(answer->json, "code");
    const char *detail = cli_text_at(answer->json, "detail");
    if (!cli_is_table(cli) && answer->json != NULL) {
        cli_print_value(cli, answer->json);
    }
    if (answer->json == NULL) {
        cli_error("%s: the server answered with status %ld and no reason; is it a zone manager?",
                  what, answer->status);
        return CLI_FAILED;
    }
    cli_error("%s: %s", what, detail[0] != 0 ? detail : cli_text_at(answer->json, "title"));
    const json_t *errors = json_object_get(answer->json, "errors");
    size_t i;
    json_t *item;
    json_array_foreach(errors, i, item)
    {
        const json_t *at = json_object_get(item, "line");
        if (at != NULL) {
            fprintf(stderr, "  line %lld, column %lld: %s\n", (long long)json_integer_value(at),
                    (long long)json_integer_value(json_object_get(item, "column")),
                    cli_text_at(item, "message"));
        } else {
            fprintf(stderr, "  %s: %s\n", cli_text_at(item, "pointer"),
                    cli_text_at(item, "message"));
        }
    }
    say_verdict(cli_text_at(answer->json, "verdict"), detail);
    say_hint(answer, code, detail);
    if (strcmp(code, "REFUSED") == 0) {
        return CLI_REFUSED;
    }
    if (json_object_get(answer->json, "operation") != NULL) {
        return CLI_FAILED; /* it was taken, tried, and has ended */
    }
    if (answer->status == 503 || answer->status == 504) {
        return CLI_UNREACHABLE;
    }
    return answer->status == 409 || answer->status == 412 ? CLI_CONFLICT : CLI_FAILED;
}

json_t *cli_get(struct cli *cli, const char *path, const char *what, int *status)
{
    struct cli_answer answer;
    cli_request(cli, "GET", path, NULL, NULL, what, &answer);
    *status = cli_check(cli, &answer, what);
    json_t *json = NULL;
    if (*status == CLI_DONE && answer.json == NULL) {
        cli_error("%s: the answer is not JSON", what);
        *status = CLI_FAILED;
    } else if (*status == CLI_DONE) {
        json = json_incref(answer.json);
    }
    cli_answer_deinit(&answer);
    return json;
}

json_t *cli_list(struct cli *cli, const char *path, const char *what, int *status)
{
    json_t *all = json_array();
    char page[CLI_PATH_CAP];
    snprintf(page, sizeof page, "%s?limit=500", path);
    for (;;) {
        json_t *answer = cli_get(cli, page, what, status);
        if (answer == NULL) {
            json_decref(all);
            return NULL;
        }
        json_array_extend(all, json_object_get(answer, "items"));
        const char *next = json_string_value(json_object_get(answer, "next_cursor"));
        if (next != NULL) {
            snprintf(page, sizeof page, "%s?limit=500&cursor=%s", path, next);
        }
        json_decref(answer);
        if (next == NULL) {
            return all;
        }
    }
}

static bool has_ended(const json_t *operation)
{
    const char *state = cli_text_at(operation, "state");
    return strcmp(state, "queued") != 0 && strcmp(state, "running") != 0;
}

/* Polls until the operation has ended or the time is over; the last answer stays in *answer. */
static int await_operation(struct cli *cli, struct cli_answer *answer, const char *what)
{
    int status = CLI_DONE;
    while (status == CLI_DONE && !has_ended(answer->json)) {
        char path[CLI_PATH_CAP];
        snprintf(path, sizeof path, "/v1/operations/%s", cli_text_at(answer->json, "id"));
        if (vdc_mono_reached(vdc_clock_mono(), cli->deadline)) {
            cli_error("%s: still at step %s after %lld s; it goes on: vdc operation show %s", what,
                      cli_text_at(answer->json, "step"), (long long)cli->timeout_s,
                      cli_text_at(answer->json, "id"));
            return CLI_FAILED;
        }
        cli_progress("%s: %s", what, cli_text_at(answer->json, "step"));
        pause_ns(100 * VDC_MS);
        cli_answer_deinit(answer);
        cli_request(cli, "GET", path, NULL, NULL, what, answer);
        status = cli_check(cli, answer, what);
    }
    return status;
}

/* "migrate web: done, stood still for 12.4 ms", then why it is where it is. */
static void print_done(const json_t *operation, const char *what, const char *state)
{
    const char *verdict = cli_text_at(operation, "verdict");
    size_t len = strlen(verdict);
    double downtime_ms = json_number_value(cli_at(operation, "downtime_ms"));
    char stood[48] = "";
    if (downtime_ms > 0) {
        snprintf(stood, sizeof stood, ", stood still for %.1f ms", downtime_ms);
    }
    printf("%s: %s%s\n%s%s", what, state[0] != 0 ? state : "done", stood, verdict,
           len > 0 && verdict[len - 1] != '\n' ? "\n" : "");
}

int cli_mutate(struct cli *cli, const char *method, const char *path, json_t *body,
               const char *what)
{
    char *text = body != NULL ? json_dumps(body, JSON_COMPACT) : NULL;
    char whole[CLI_PATH_CAP];
    /* With ?wait= the answer of a short operation needs no second request. */
    snprintf(whole, sizeof whole, cli->wait ? "%s?wait=%ds" : "%s", path, POLL_S);
    struct cli_answer answer;
    cli_request(cli, method, whole, "application/json", text, what, &answer);
    free(text);
    json_decref(body);
    int status = cli_check(cli, &answer, what);
    if (status == CLI_DONE && cli->wait) {
        status = await_operation(cli, &answer, what);
    }
    if (status == CLI_DONE && answer.json != NULL) {
        const char *state = cli_text_at(answer.json, "state");
        bool failed = strcmp(state, "failed") == 0 || strcmp(state, "cancelled") == 0;
        if (!cli_is_table(cli)) {
            cli_print_value(cli, answer.json);
        } else if (!failed) {
            print_done(answer.json, what, state);
        }
        if (failed) {
            cli_error("%s: %s: %s\n  vdc operation show %s has the whole story", what, state,
                      cli_text_at(answer.json, "error"), cli_text_at(answer.json, "id"));
            status = CLI_FAILED;
        }
    }
    cli_answer_deinit(&answer);
    return status;
}
