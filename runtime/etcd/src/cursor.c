/* SPDX-License-Identifier: Apache-2.0 */
#include "cursor.h"

#include <vdc/base.h>

void vdc_etcd_cursor_init(struct vdc_etcd_cursor *cursor, int64_t revision)
{
    *cursor = (struct vdc_etcd_cursor){.revision = revision};
}

void vdc_etcd_cursor_resume(struct vdc_etcd_cursor *cursor)
{
    cursor->skip = cursor->seen;
}

bool vdc_etcd_cursor_take(struct vdc_etcd_cursor *cursor, int64_t mod_revision)
{
    if (mod_revision < cursor->revision) {
        return false;
    }
    if (mod_revision > cursor->revision) {
        vdc_etcd_cursor_init(cursor, mod_revision);
    }
    if (cursor->skip > 0) {
        cursor->skip--;
        return false;
    }
    cursor->seen++;
    return true;
}

void vdc_etcd_cursor_end(struct vdc_etcd_cursor *cursor, bool more)
{
    if (!more && cursor->seen > 0) {
        vdc_etcd_cursor_init(cursor, cursor->revision + 1);
    }
}

void vdc_etcd_cursor_progress(struct vdc_etcd_cursor *cursor, int64_t revision)
{
    if (revision >= cursor->revision) {
        vdc_etcd_cursor_init(cursor, revision + 1);
    }
}
