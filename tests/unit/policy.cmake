# SPDX-License-Identifier: Apache-2.0
foreach(part expr place quickstart read yaml)
    vdc_unit_test(test-policy-${part}
        SOURCES unit/policy_${part}.c unit/policy_support.c
        LINK vdc-policy-io)
    target_compile_definitions(test-policy-${part} PRIVATE
        VDC_EXAMPLE_POLICY="${CMAKE_CURRENT_LIST_DIR}/../../deploy/examples/prod.policy.yaml")
endforeach()
