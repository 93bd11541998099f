/* SPDX-License-Identifier: Apache-2.0 */
#include <vdc/base.h>
#include <vdc/zone_lease.h>

int64_t vdc_zone_lease_span(int64_t lease_ns)
{
    return lease_ns + lease_ns * VDC_ZONE_LEASE_PPM / 1000000 + VDC_ZONE_LEASE_PAUSE_NS;
}

void vdc_zone_lease_open(struct vdc_zone_lease *lease, uint64_t incarnation, int64_t lease_ns,
                         vdc_mono now)
{
    *lease = (struct vdc_zone_lease){
        .open = true,
        .incarnation = incarnation,
        .lease_ns = lease_ns,
        .heard = now,
        .until = now,
    };
}

void vdc_zone_lease_assume(struct vdc_zone_lease *lease, uint64_t incarnation, int64_t lease_ns,
                           vdc_mono now)
{
    vdc_zone_lease_open(lease, incarnation, lease_ns, now);
    lease->until = vdc_mono_add(now, vdc_zone_lease_span(lease_ns));
}

void vdc_zone_lease_set_time(struct vdc_zone_lease *lease, int64_t lease_ns)
{
    lease->lease_ns = lease_ns;
}

bool vdc_zone_lease_ask(struct vdc_zone_lease *lease, uint64_t incarnation, vdc_mono now,
                        vdc_mono leading_until)
{
    if (!lease->open || lease->incarnation != incarnation) {
        return false;
    }
    lease->heard = vdc_mono_max(lease->heard, now);
    if (vdc_mono_reached(now, leading_until)) {
        return false;
    }
    lease->until =
        vdc_mono_max(lease->until, vdc_mono_add(now, vdc_zone_lease_span(lease->lease_ns)));
    return true;
}

vdc_mono vdc_zone_lease_over(const struct vdc_zone_lease *lease)
{
    if (!lease->open) {
        return VDC_NEVER;
    }
    return vdc_mono_max(lease->until,
                        vdc_mono_add(lease->heard, vdc_zone_lease_span(lease->lease_ns)));
}

void vdc_zone_lease_close(struct vdc_zone_lease *lease)
{
    lease->open = false;
}
