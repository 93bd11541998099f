# SPDX-License-Identifier: Apache-2.0
foreach(part values text)
    vdc_unit_test(test-base-${part} SOURCES unit/base_${part}.c LINK vdc-base)
endforeach()
