/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The monitor's protocol in the words of the agent's core, which knows no JSON and no sockets. Pure: the
 * agent's driver and the simulator's both speak through it.
 */
#ifndef AGENT_MONITOR_WORDS_H
#define AGENT_MONITOR_WORDS_H

#include <vdc/agent_monitor.h>
#include <vdc/monitor_protocol.h>

void agent_monitor_translate(const struct vdc_monitor_state *from,
                             struct vdc_agent_monitor_state *to);
enum vdc_monitor_command agent_monitor_command(enum vdc_agent_monitor_request request);

#endif
