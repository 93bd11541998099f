# SPDX-License-Identifier: Apache-2.0
add_test(NAME tidy COMMAND ${CMAKE_SOURCE_DIR}/tests/tidy)
set_tests_properties(tidy PROPERTIES LABELS unit TIMEOUT 120)
