/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The result codes of the whole project: one list, from which the names, the sentences, the HTTP
 * statuses and the "is it worth trying again" are made. Foreign codes (errno, gRPC, libuv, QMP) are
 * translated once, in the driver that owns the dependency.
 */
#ifndef VDC_RC_H
#define VDC_RC_H

#include <stdbool.h>

/* X(name, HTTP status, retryable, sentence) */
#define VDC_RC_LIST(X)                                                             \
    X(OK, 200, false, "done")                                                      \
    X(INVALID, 400, false, "the input is not valid")                               \
    X(UNAUTHENTICATED, 401, false, "who is asking is not known")                   \
    X(FORBIDDEN, 403, false, "this identity may not do that")                      \
    X(NOT_FOUND, 404, false, "there is no such thing")                             \
    X(EXISTS, 409, false, "it exists already")                                     \
    X(CONFLICT, 409, false, "the state does not allow it")                         \
    X(REFUSED, 409, false, "refused by policy")                                    \
    X(STALE, 412, false, "made from a state, epoch or generation that has passed") \
    X(TOO_LARGE, 413, false, "larger than the limit")                              \
    X(LIMIT, 429, true, "a limit is reached")                                      \
    X(NO_SPACE, 507, true, "no resource of that kind is free")                     \
    X(UNSUPPORTED, 501, false, "not supported")                                    \
    X(UNAVAILABLE, 503, true, "the other side cannot be reached")                  \
    X(NO_LEADER, 503, true, "the zone has no leader at this moment")               \
    X(TIMEOUT, 504, true, "no answer in time")                                     \
    X(UNKNOWN_OUTCOME, 504, true, "it is not known whether it took effect")        \
    X(CANCELLED, 409, false, "cancelled")                                          \
    X(CORRUPT, 500, false, "stored data is damaged")                               \
    X(PROTOCOL, 502, false, "the other side broke the protocol")                   \
    X(END, 500, false, "the other side closed the connection")                     \
    X(IO, 500, false, "input or output failed")                                    \
    X(INTERNAL, 500, false, "a defect of this program")

enum vdc_rc {
#define X(name, http, retryable, sentence) VDC_RC_##name,
    VDC_RC_LIST(X)
#undef X
};

#define VDC_MUST_USE __attribute__((warn_unused_result))
#define VDC_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#define VDC_NORETURN __attribute__((noreturn))

/* "NOT_FOUND". Never NULL, also for a number that is no code. */
const char *vdc_rc_name(enum vdc_rc rc);
/* "there is no such thing". */
const char *vdc_rc_sentence(enum vdc_rc rc);
/* The status of an HTTP answer that carries this code. */
int vdc_rc_http_status(enum vdc_rc rc);
/* Whether the same request may succeed later without being changed. */
bool vdc_rc_retryable(enum vdc_rc rc);
/* The code of a name, VDC_RC_INTERNAL for an unknown one (a newer peer's code). */
enum vdc_rc vdc_rc_from_name(const char *name);

#endif
