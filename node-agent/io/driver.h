/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The driver of the node agent's core: journal, places, sessions, control socket and timer around one
 * loop. agent_driver_open() does all that blocks; then the loop runs until SIGTERM or SIGINT.
 */
#ifndef VDC_NODE_AGENT_DRIVER_H
#define VDC_NODE_AGENT_DRIVER_H

#include <uv.h>

#include "config.h"

struct driver;

enum vdc_rc agent_driver_open(uv_loop_t *loop, const struct agent_config *config,
                              const char *program_dir, struct driver **driver,
                              struct vdc_err *err) VDC_MUST_USE;
/* Ends everything of this process; guests go on. Their loop ends by itself then. */
void agent_driver_stop(struct driver *driver);
/* After the loop has ended. */
void agent_driver_free(struct driver *driver);

#endif
