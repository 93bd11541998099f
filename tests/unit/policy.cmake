# SPDX-License-Identifier: Apache-2.0
vdc_unit_test(test-policy-quickstart
    SOURCES unit/policy_quickstart.c unit/policy_support.c
    LINK vdc-policy-io)
target_compile_definitions(test-policy-quickstart PRIVATE
    VDC_EXAMPLE_POLICY="${CMAKE_CURRENT_LIST_DIR}/../../deploy/examples/prod.policy.yaml")
