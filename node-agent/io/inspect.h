/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shows an allocation database: the running agent's (control.h), and what lies in a journal's
 * directory without an agent: `vdc-node-agent --inspect DIR`. The latter reads what a recovery would
 * read, changes nothing and takes no lock, so that it may be used beside a running agent (it then
 * sees what is on the disk, which may be behind). Both print the same tables and the same JSON.
 */
#ifndef VDC_AGENT_INSPECT_H
#define VDC_AGENT_INSPECT_H

#include <stdbool.h>

#include <jansson.h>

#include <vdc/allocdb.h>
#include <vdc/buf.h>
#include <vdc/err.h>

/* Appends tables of everything in the database: sequence, digest, NUMA nodes, zones, CPUs, partitions
 * with what they hold, claims, devices, volumes, ports, channels, promises. */
void agent_inspect_render(const struct vdc_allocdb *db, struct vdc_buf *out);

/* The same as one object (docs/man/vdc-node-agent.8 names its fields); the caller's. */
json_t *agent_inspect_json(const struct vdc_allocdb *db);
/* Appends `root` (taken) as text with a newline. */
void agent_inspect_dump(json_t *root, struct vdc_buf *out);

/* Appends the journal's report, the tables, and what the check of all invariants says; with `json`
 * all of it as one JSON object. NOT_FOUND: there is no such directory, or no journal in it; nothing
 * is appended. CORRUPT: damage, with file and offset, or a broken invariant; what could be read is in
 * `out` all the same. */
enum vdc_rc agent_inspect(const char *dir, bool json, struct vdc_buf *out,
                          struct vdc_err *err) VDC_MUST_USE;

#endif
