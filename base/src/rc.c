/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include <vdc/rc.h>

static const struct {
    const char *name;
    int http;
    bool retryable;
    const char *sentence;
} codes[] = {
#define X(name, http, retryable, sentence) {#name, http, retryable, sentence},
    VDC_RC_LIST(X)
#undef X
};

#define CODES (sizeof(codes) / sizeof(codes[0]))

static unsigned index_of(enum vdc_rc rc)
{
    return (unsigned)rc < CODES ? (unsigned)rc : (unsigned)VDC_RC_INTERNAL;
}

const char *vdc_rc_name(enum vdc_rc rc)
{
    return codes[index_of(rc)].name;
}

const char *vdc_rc_sentence(enum vdc_rc rc)
{
    return codes[index_of(rc)].sentence;
}

int vdc_rc_http_status(enum vdc_rc rc)
{
    return codes[index_of(rc)].http;
}

bool vdc_rc_retryable(enum vdc_rc rc)
{
    return codes[index_of(rc)].retryable;
}

enum vdc_rc vdc_rc_from_name(const char *name)
{
    for (unsigned i = 0; i < CODES; i++) {
        if (strcmp(codes[i].name, name) == 0) {
            return (enum vdc_rc)i;
        }
    }
    return VDC_RC_INTERNAL;
}
