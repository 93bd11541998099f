# SPDX-License-Identifier: Apache-2.0
vdc_unit_test(node_core_test
    SOURCES ${CMAKE_CURRENT_LIST_DIR}/node_core.c ${CMAKE_CURRENT_LIST_DIR}/node_lease.c
            ${CMAKE_CURRENT_LIST_DIR}/node_support.c
    LINK vdc-agent-core)
vdc_unit_test(node_io_test
    SOURCES ${CMAKE_CURRENT_LIST_DIR}/node_io.c ${CMAKE_CURRENT_LIST_DIR}/node_places.c
    LINK vdc-agent-io)
# The drivers' headers are not public.
target_include_directories(node_io_test PRIVATE ${CMAKE_CURRENT_LIST_DIR}/../../node-agent/io)
vdc_unit_test(node_inspect_test
    SOURCES ${CMAKE_CURRENT_LIST_DIR}/node_inspect.c ${CMAKE_CURRENT_LIST_DIR}/ultravisor_support.c
    LINK vdc-agent-io)
target_include_directories(node_inspect_test PRIVATE ${CMAKE_CURRENT_LIST_DIR}/../../node-agent/io)
vdc_unit_test(node_inventory_test
    SOURCES ${CMAKE_CURRENT_LIST_DIR}/node_inventory.c LINK vdc-agent-core)
vdc_unit_test(node_views_test
    SOURCES ${CMAKE_CURRENT_LIST_DIR}/node_views.c ${CMAKE_CURRENT_LIST_DIR}/ultravisor_support.c
    LINK vdc-agent-io)
target_include_directories(node_views_test PRIVATE ${CMAKE_CURRENT_LIST_DIR}/../../node-agent/io)
