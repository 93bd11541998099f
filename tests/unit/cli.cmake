# SPDX-License-Identifier: Apache-2.0
# The command is a program, not a library: its output is compiled here once more.
vdc_unit_test(unit_cli_output SOURCES unit/cli_output.c ${CMAKE_SOURCE_DIR}/cli/output.c
    LINK vdc-base vdc-yaml vdc-policy-io)
target_include_directories(unit_cli_output PRIVATE ${CMAKE_SOURCE_DIR}/cli)
