# SPDX-License-Identifier: Apache-2.0
# Build settings and the few functions that the directories' CMakeLists.txt use.

set(CMAKE_C_STANDARD 17)
set(CMAKE_C_EXTENSIONS ON)
set(CMAKE_C_STANDARD_REQUIRED ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)

option(VDC_ASAN "Address, undefined-behaviour and leak sanitizers" OFF)
option(VDC_TSAN "Thread sanitizer" OFF)
option(VDC_FUZZ "Build the fuzzers (clang)" OFF)
option(VDC_WERROR "Warnings are errors" OFF)

find_program(VDC_CCACHE ccache)
if(VDC_CCACHE)
    set(CMAKE_C_COMPILER_LAUNCHER ${VDC_CCACHE})
endif()

add_compile_definitions(_GNU_SOURCE VDC_VERSION="${PROJECT_VERSION}")
add_compile_options(-g -fno-omit-frame-pointer -fno-common -fstack-protector-strong)
# Paths in assertions and debug information are relative to the tree: no path of a build machine.
add_compile_options(-ffile-prefix-map=${CMAKE_SOURCE_DIR}/=)
if(VDC_ASAN)
    add_compile_options(-fsanitize=address,undefined -fno-sanitize-recover=undefined)
    add_link_options(-fsanitize=address,undefined)
endif()
if(VDC_TSAN)
    add_compile_options(-fsanitize=thread)
    add_link_options(-fsanitize=thread)
endif()
if(VDC_FUZZ)
    add_compile_options(-fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined)
    add_link_options(-fsanitize=address,undefined)
endif()

# Our own code is compiled with these; generated and Debian's sources are not.
set(VDC_WARNINGS -Wall -Wextra -Wshadow -Wconversion -Wsign-conversion -Wstrict-prototypes
    -Wmissing-prototypes -Wundef -Wwrite-strings -Wpointer-arith -Wformat=2)
if(VDC_WERROR)
    list(APPEND VDC_WARNINGS -Werror)
endif()

# Assertions are VDC_ASSERT and stay on in every build type; -O2 for release without -DNDEBUG.
set(CMAKE_C_FLAGS_RELEASE "-O2")

find_package(PkgConfig REQUIRED)

# vdc_library(NAME SOURCES a.c ... [INCLUDE dir ...] [LINK lib ...]): a static library. INCLUDE are
# its public directories (default: include). What it links is what it may include.
function(vdc_library name)
    cmake_parse_arguments(arg "" "" "SOURCES;INCLUDE;LINK" ${ARGN})
    if(NOT arg_INCLUDE)
        set(arg_INCLUDE include)
    endif()
    add_library(${name} STATIC ${arg_SOURCES})
    target_compile_options(${name} PRIVATE ${VDC_WARNINGS})
    target_include_directories(${name} PUBLIC ${arg_INCLUDE})
    target_link_libraries(${name} PUBLIC ${arg_LINK})
endfunction()

# vdc_program(NAME SOURCES a.c ... [LINK lib ...]): a program, in build/<preset>/bin.
function(vdc_program name)
    cmake_parse_arguments(arg "" "" "SOURCES;LINK" ${ARGN})
    add_executable(${name} ${arg_SOURCES})
    target_compile_options(${name} PRIVATE ${VDC_WARNINGS})
    target_link_libraries(${name} PRIVATE ${arg_LINK})
    set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
endfunction()

# vdc_protobuf(NAME a.proto ...): protobuf-c sources of the .proto files as library NAME; they are
# included as "a.pb-c.h".
function(vdc_protobuf name)
    pkg_check_modules(PROTOBUF_C REQUIRED IMPORTED_TARGET libprotobuf-c)
    find_program(VDC_PROTOC_C protoc-c REQUIRED)
    set(sources "")
    foreach(file ${ARGN})
        get_filename_component(stem ${file} NAME_WE)
        set(out ${CMAKE_CURRENT_BINARY_DIR}/${stem}.pb-c)
        add_custom_command(
            OUTPUT ${out}.c ${out}.h
            COMMAND ${VDC_PROTOC_C} --proto_path=${CMAKE_CURRENT_SOURCE_DIR}
                    --c_out=${CMAKE_CURRENT_BINARY_DIR} ${CMAKE_CURRENT_SOURCE_DIR}/${file}
            DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/${file}
            COMMENT "protoc-c ${file}")
        list(APPEND sources ${out}.c ${out}.h)
    endforeach()
    add_library(${name} STATIC ${sources})
    target_include_directories(${name} SYSTEM PUBLIC ${CMAKE_CURRENT_BINARY_DIR})
    target_link_libraries(${name} PUBLIC PkgConfig::PROTOBUF_C)
endfunction()

# vdc_unit_test(NAME SOURCES a.c ... LINK lib ...): a Criterion program (main is Criterion's) run by
# ctest with label "unit". A sanitizer's report fails it even where Criterion says passed.
function(vdc_unit_test name)
    cmake_parse_arguments(arg "" "" "SOURCES;LINK" ${ARGN})
    pkg_check_modules(CRITERION REQUIRED IMPORTED_TARGET criterion)
    add_executable(${name} ${arg_SOURCES})
    target_compile_options(${name} PRIVATE ${VDC_WARNINGS} -Wno-conversion -Wno-sign-conversion)
    target_link_libraries(${name} PRIVATE ${arg_LINK} PkgConfig::CRITERION)
    set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
    add_test(NAME ${name} COMMAND ${name})
    set_tests_properties(${name} PROPERTIES LABELS unit TIMEOUT 300
        FAIL_REGULAR_EXPRESSION "LeakSanitizer|AddressSanitizer|runtime error"
        ENVIRONMENT "ASAN_OPTIONS=detect_leaks=1;UBSAN_OPTIONS=print_stacktrace=1")
endfunction()
