/* SPDX-License-Identifier: Apache-2.0 */
/*
 * RUN/agent.sock: whoever may open it (0600) asks by one line, "text" or "json" (nothing and the end
 * of the sending side mean "text"), and gets what the agent knows, then the end. It changes nothing.
 *
 * What is shown is what the agent has committed, of which the newest records may not be on the disk
 * yet; `--inspect` of the journal shows the latter.
 */
#ifndef VDC_NODE_AGENT_CONTROL_H
#define VDC_NODE_AGENT_CONTROL_H

#include <stdbool.h>

#include <uv.h>

#include <vdc/agent.h>

/* Askers at once; one more is closed without an answer. People and a metrics collector. */
#define CONTROL_CLIENTS_MAX 16
/* Bytes of a request's line. */
#define CONTROL_LINE_MAX 32

struct control;

enum vdc_rc agent_control_open(uv_loop_t *loop, const char *run_dir, const struct vdc_agent *agent,
                               struct control **control, struct vdc_err *err) VDC_MUST_USE;
/* Askers that were not answered yet get no answer. */
void agent_control_close(struct control *control);

/* Appends the tables: zones with leases, guests, sessions, then the whole database as
 * agent_inspect_render() shows it. */
void agent_control_render(const struct vdc_agent *agent, vdc_mono now, struct vdc_buf *out);
/* The same as one JSON object. */
void agent_control_render_json(const struct vdc_agent *agent, vdc_mono now, struct vdc_buf *out);

/* The other end (vdc-node-agent --show): prints what RUN_DIR/agent.sock says. */
enum vdc_rc agent_control_show(const char *run_dir, bool json, struct vdc_err *err) VDC_MUST_USE;

#endif
