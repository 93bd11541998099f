# SPDX-License-Identifier: Apache-2.0
vdc_unit_test(zone_lease SOURCES unit/zone_lease.c LINK vdc-zone-core)
vdc_unit_test(zone_choice SOURCES unit/zone_choice.c unit/ultravisor_support.c LINK vdc-zone-core)
add_library(vdc-test-zone-world STATIC support/zone_world.c)
target_include_directories(vdc-test-zone-world PUBLIC support)
target_link_libraries(vdc-test-zone-world PUBLIC vdc-zone-core vdc-codec vdc-policy-io)
vdc_unit_test(zone_core SOURCES unit/zone_core.c LINK vdc-test-zone-world)
vdc_unit_test(zone_faults SOURCES unit/zone_faults.c LINK vdc-test-zone-world)
