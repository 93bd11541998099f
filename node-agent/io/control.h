/* SPDX-License-Identifier: Apache-2.0 */
/*
 * RUN/agent.sock: whoever may open it (0600) gets the tables of `show` as text, then the end. It
 * changes nothing.
 */
#ifndef VDC_NODE_AGENT_CONTROL_H
#define VDC_NODE_AGENT_CONTROL_H

#include <uv.h>

#include <vdc/agent.h>

struct control;

enum vdc_rc agent_control_open(uv_loop_t *loop, const char *run_dir, const struct vdc_agent *agent,
                               struct control **control, struct vdc_err *err) VDC_MUST_USE;
void agent_control_close(struct control *control);

/* The tables: inventory, zones with leases, partitions, sessions, digest. */
void agent_control_render(const struct vdc_agent *agent, vdc_mono now, struct vdc_buf *out);

/* The other end (vdc-node-agent --show): prints what RUN_DIR/agent.sock says. */
enum vdc_rc agent_control_show(const char *run_dir, struct vdc_err *err) VDC_MUST_USE;

#endif
