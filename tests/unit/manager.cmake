# SPDX-License-Identifier: Apache-2.0
vdc_unit_test(unit_manager SOURCES unit/manager_seat.c LINK vdc-zone-io)
