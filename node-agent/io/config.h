/* SPDX-License-Identifier: Apache-2.0 */
/* The agent's configuration file (YAML); docs/man/vdc-node-agent.8 describes its fields. */
#ifndef VDC_NODE_AGENT_CONFIG_H
#define VDC_NODE_AGENT_CONFIG_H

#include <stdint.h>

#include <vdc/buf.h>
#include <vdc/err.h>
#include <vdc/limits.h>
#include <vdc/msg.h>

#include "discover.h"

/* Bytes of the file: a hundred times what a full one needs. */
#define AGENT_CONFIG_TEXT_MAX (UINT32_C(256) << 10)
#define AGENT_PATH_CAP 512
#define AGENT_MANAGERS_MAX 16

struct agent_config {
    char name[VDC_NAME_CAP];
    char rack[VDC_NAME_CAP];
    struct vdc_label labels[VDC_LABELS_MAX];
    size_t labels_len;
    char managers[AGENT_MANAGERS_MAX][VDC_ADDRESS_CAP]; /* "10.77.0.1:7444" */
    size_t managers_len;
    char address[VDC_ADDRESS_CAP]; /* where other nodes' relays reach this one */
    char state_dir[AGENT_PATH_CAP];
    char run_dir[AGENT_PATH_CAP]; /* on tmpfs: it must be empty after a reboot */
    char shared_dir[AGENT_PATH_CAP];
    char image_dir[AGENT_PATH_CAP];
    char tls_ca[AGENT_PATH_CAP];
    char tls_cert[AGENT_PATH_CAP];
    char tls_key[AGENT_PATH_CAP];
    struct discover_division division; /* what is offered to zones, what the node keeps */
    char cgroup[AGENT_PATH_CAP];       /* parent of the partitions' groups; "": no limits */
    uint32_t uid_base;                 /* partitions run as uid_base + slot */
};

/* INVALID with all complaints, one "FILE:LINE:COL: sentence" per line, in `complaints`; other codes
 * (the file cannot be read) with the sentence there. */
enum vdc_rc agent_config_load(const char *path, struct agent_config *config,
                              struct vdc_buf *complaints) VDC_MUST_USE;
/* The same from a text, for tests and fuzzing. */
enum vdc_rc agent_config_parse(const char *source, const char *text, size_t len,
                               struct agent_config *config,
                               struct vdc_buf *complaints) VDC_MUST_USE;

#endif
