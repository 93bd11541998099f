/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Looks into a journal's directory without an agent: `vdc-node-agent --inspect DIR`. It reads what a
 * recovery would read, changes nothing and takes no lock, so that it may be used beside a running
 * agent (it then sees what is on the disk, which may be behind).
 */
#ifndef VDC_AGENT_INSPECT_H
#define VDC_AGENT_INSPECT_H

#include <vdc/allocdb.h>
#include <vdc/buf.h>
#include <vdc/err.h>

/* Tables of everything in the database: sequence, digest, NUMA nodes, zones, CPUs, partitions with
 * what they hold, claims, devices, volumes, ports, channels, promises. */
void agent_inspect_render(const struct vdc_allocdb *db, struct vdc_buf *out);

/* Appends the journal's report, the tables, and what the check of all invariants says. CORRUPT:
 * damage, with file and offset, or a broken invariant; what could be read is in `out` all the same.
 */
enum vdc_rc agent_inspect(const char *dir, struct vdc_buf *out, struct vdc_err *err) VDC_MUST_USE;

#endif
