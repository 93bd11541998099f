# SPDX-License-Identifier: Apache-2.0
vdc_unit_test(journal_crash SOURCES unit/journal_crash.c unit/journal_sim_disk.c
    unit/ultravisor_support.c LINK vdc-journal vdc-ultravisor-core)
