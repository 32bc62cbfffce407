# Build rules shared by all rooms.

add_compile_options(-Wall -Wextra -Wshadow -Wnon-virtual-dtor -Woverloaded-virtual -Wcast-align
                    -fno-strict-aliasing)
if(FLEXINS_WERROR)
  add_compile_options(-Werror)
endif()
# C sources do not know the C++ warnings.
foreach(flag -Wnon-virtual-dtor -Woverloaded-virtual)
  get_directory_property(options COMPILE_OPTIONS)
  list(REMOVE_ITEM options ${flag})
  list(APPEND options $<$<COMPILE_LANGUAGE:CXX>:${flag}>)
  set_directory_properties(PROPERTIES COMPILE_OPTIONS "${options}")
endforeach()

if(FLEXINS_SANITIZE)
  add_compile_options(-fsanitize=${FLEXINS_SANITIZE} -fno-omit-frame-pointer
                      -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${FLEXINS_SANITIZE})
  if(FLEXINS_SANITIZE MATCHES thread AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    # It does not model fences. Ours order accesses to flags that are atomic themselves, so that
    # what it does see is right.
    add_compile_options($<$<COMPILE_LANGUAGE:CXX>:-Wno-tsan>)
  endif()
endif()
if(FLEXINS_LTO)
  set(CMAKE_INTERPROCEDURAL_OPTIMIZATION ON)
  # Objects hold plain code too: test programs link that (see flexins_tests), as optimising the
  # rooms anew for each of them would take most of the build.
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    set(CMAKE_C_COMPILE_OPTIONS_IPO -flto=auto -ffat-lto-objects)
    set(CMAKE_CXX_COMPILE_OPTIONS_IPO -flto=auto -ffat-lto-objects)
  endif()
endif()
find_program(FLEXINS_CCACHE ccache)
if(FLEXINS_CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${FLEXINS_CCACHE})
  set(CMAKE_C_COMPILER_LAUNCHER ${FLEXINS_CCACHE})
endif()

# flexins_room(NAME [DEPENDS room...] [LIBRARIES lib...]): the static library flexins_NAME of all
# sources in the current folder; headers are included as "NAME/x.h".
function(flexins_room name)
  cmake_parse_arguments(ROOM "" "" "DEPENDS;LIBRARIES" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.cc)
  list(FILTER sources EXCLUDE REGEX "/main\\.cc$")
  list(TRANSFORM ROOM_DEPENDS PREPEND flexins_)
  if(sources)
    add_library(flexins_${name} STATIC ${sources})
    set(scope PUBLIC)
  else()
    add_library(flexins_${name} INTERFACE)
    set(scope INTERFACE)
  endif()
  target_include_directories(flexins_${name} ${scope} ${CMAKE_SOURCE_DIR}/src)
  target_link_libraries(flexins_${name} ${scope} ${ROOM_DEPENDS} ${ROOM_LIBRARIES})
endfunction()

# flexins_tests(NAME [LIBRARIES lib...]): NAME_test of all *_test.cc in the current folder, one
# CTest entry, label "unit".
function(flexins_tests name)
  cmake_parse_arguments(TESTS "" "" "LIBRARIES" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*_test.cc)
  add_executable(${name}_test ${sources})
  target_link_libraries(${name}_test PRIVATE ${TESTS_LIBRARIES} GTest::gmock GTest::gtest_main)
  if(FLEXINS_LTO)
    set_target_properties(${name}_test PROPERTIES INTERPROCEDURAL_OPTIMIZATION OFF)
    # Without the plugin: it would still claim some of the fat objects.
    target_link_options(${name}_test PRIVATE -fno-lto -fno-use-linker-plugin)
  endif()
  add_test(NAME ${name} COMMAND ${name}_test WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
  set_tests_properties(${name} PROPERTIES LABELS unit TIMEOUT 300)
endfunction()
