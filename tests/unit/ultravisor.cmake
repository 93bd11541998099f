# SPDX-License-Identifier: Apache-2.0
vdc_unit_test(ultravisor_ops SOURCES unit/ultravisor_ops.c unit/ultravisor_support.c
    LINK vdc-ultravisor-core)
