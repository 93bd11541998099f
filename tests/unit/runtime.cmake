# SPDX-License-Identifier: Apache-2.0
# Certificates are made once per build directory.
set(VDC_TEST_PKI ${CMAKE_BINARY_DIR}/tests/pki)
add_custom_command(OUTPUT ${VDC_TEST_PKI}/done
    COMMAND ${CMAKE_SOURCE_DIR}/tests/support/pki.sh ${VDC_TEST_PKI}
    DEPENDS ${CMAKE_SOURCE_DIR}/tests/support/pki.sh ${CMAKE_SOURCE_DIR}/deploy/pki
    COMMENT "certificates for tests")
add_custom_target(vdc-test-pki DEPENDS ${VDC_TEST_PKI}/done)

# vdc_pki_test(NAME SOURCES ... LINK ...): a unit test with VDC_TEST_PKI, the directory of
# tests/support/pki.sh.
function(vdc_pki_test name)
    vdc_unit_test(${name} ${ARGN})
    add_dependencies(${name} vdc-test-pki)
    target_compile_definitions(${name} PRIVATE VDC_TEST_PKI="${VDC_TEST_PKI}")
endfunction()

vdc_unit_test(unit_runtime_core SOURCES unit/runtime_core.c LINK vdc-runtime-core)
vdc_pki_test(unit_runtime_tls SOURCES unit/runtime_tls.c unit/runtime_support.c LINK vdc-runtime)
vdc_pki_test(unit_runtime_link SOURCES unit/runtime_link.c unit/runtime_support.c LINK vdc-runtime)
vdc_pki_test(unit_runtime_http SOURCES unit/runtime_http.c unit/runtime_support.c LINK vdc-runtime)
