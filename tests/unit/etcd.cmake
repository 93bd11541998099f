# SPDX-License-Identifier: Apache-2.0
vdc_unit_test(unit_etcd
    SOURCES ${CMAKE_CURRENT_LIST_DIR}/etcd_codec.c ${CMAKE_CURRENT_LIST_DIR}/etcd_cursor.c
            ${CMAKE_CURRENT_LIST_DIR}/etcd_fence.c ${CMAKE_CURRENT_LIST_DIR}/etcd_route.c
            ${CMAKE_CURRENT_LIST_DIR}/etcd_status.c
    LINK vdc-etcd)
# The pure parts have no public headers.
target_include_directories(unit_etcd PRIVATE ${CMAKE_CURRENT_LIST_DIR}/../../runtime/etcd/src)
