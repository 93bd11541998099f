# SPDX-License-Identifier: Apache-2.0
vdc_unit_test(monitor_guest SOURCES unit/monitor_guest.c LINK vdc-monitor-core)
vdc_unit_test(monitor_qmp SOURCES unit/monitor_qmp.c LINK vdc-monitor-core)
vdc_unit_test(monitor_protocol SOURCES unit/monitor_protocol.c LINK vdc-monitor-protocol)
vdc_unit_test(monitor_cgroup SOURCES unit/monitor_cgroup.c LINK vdc-cgroup)
vdc_unit_test(monitor_io SOURCES unit/monitor_io.c LINK vdc-monitor-io)
