# SPDX-License-Identifier: Apache-2.0
vdc_pki_test(unit_stream SOURCES unit/stream.c unit/runtime_support.c LINK vdc-agent-io)
target_include_directories(unit_stream PRIVATE ${CMAKE_CURRENT_LIST_DIR}/../../node-agent/io)
