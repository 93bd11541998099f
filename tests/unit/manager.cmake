# SPDX-License-Identifier: Apache-2.0
vdc_unit_test(unit_manager_seat SOURCES unit/manager_seat.c LINK vdc-zone-io)
vdc_unit_test(unit_manager_api SOURCES unit/manager_api.c LINK vdc-zone-io)
