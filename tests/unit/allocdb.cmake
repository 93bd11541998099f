# SPDX-License-Identifier: Apache-2.0
# The naive model of the allocation database, a test with it and a program for long runs.
set(model_dir ${CMAKE_CURRENT_LIST_DIR})
add_library(vdc-test-allocdb-model STATIC ${model_dir}/allocdb_compare.c
    ${model_dir}/allocdb_draw.c ${model_dir}/allocdb_model.c ${model_dir}/allocdb_model_blocks.c
    ${model_dir}/allocdb_model_cpus.c ${model_dir}/allocdb_model_entries.c
    ${model_dir}/allocdb_model_memory.c ${model_dir}/allocdb_model_zones.c ${model_dir}/allocdb_run.c)
target_compile_options(vdc-test-allocdb-model PRIVATE ${VDC_WARNINGS})
target_link_libraries(vdc-test-allocdb-model PUBLIC vdc-ultravisor-core)
vdc_unit_test(allocdb_test_model SOURCES unit/allocdb_test_model.c LINK vdc-test-allocdb-model)
add_executable(allocdb-model unit/allocdb_soak.c)
target_compile_options(allocdb-model PRIVATE ${VDC_WARNINGS})
target_link_libraries(allocdb-model PRIVATE vdc-test-allocdb-model)
set_target_properties(allocdb-model PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
vdc_unit_test(allocdb_test_edges SOURCES unit/allocdb_test_edges.c unit/ultravisor_support.c
    LINK vdc-ultravisor-core)
vdc_unit_test(allocdb_test_limits SOURCES unit/allocdb_test_limits.c unit/ultravisor_support.c
    LINK vdc-ultravisor-core)
