# SPDX-License-Identifier: Apache-2.0
# Certificates: see runtime.cmake.
vdc_unit_test(unit_relay SOURCES unit/relay.c LINK vdc-runtime-core)
add_dependencies(unit_relay vdc-relay vdc-test-pki)
target_compile_definitions(unit_relay PRIVATE VDC_TEST_PKI="${CMAKE_BINARY_DIR}/tests/pki"
    VDC_RELAY="$<TARGET_FILE:vdc-relay>")
