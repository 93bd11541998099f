# SPDX-License-Identifier: Apache-2.0
vdc_unit_test(ultravisor_ops SOURCES unit/ultravisor_ops.c unit/ultravisor_support.c
    LINK vdc-ultravisor-core)
vdc_unit_test(ultravisor_codec SOURCES unit/ultravisor_codec.c unit/ultravisor_support.c
    LINK vdc-ultravisor-core)
vdc_unit_test(ultravisor_entries SOURCES unit/ultravisor_entries.c unit/ultravisor_support.c
    LINK vdc-ultravisor-core)
vdc_unit_test(ultravisor_view SOURCES unit/ultravisor_view.c LINK vdc-view)
vdc_unit_test(ultravisor_journal SOURCES unit/ultravisor_journal.c unit/ultravisor_support.c
    LINK vdc-journal vdc-ultravisor-core)
