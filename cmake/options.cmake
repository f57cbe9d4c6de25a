# Language, warnings and install folders, the same for every target.
include(GNUInstallDirs)
find_package(PkgConfig REQUIRED)
find_package(fmt REQUIRED)
pkg_check_modules(LIBPQ REQUIRED IMPORTED_TARGET libpq)

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)       # lib/ is linked into collectd's shared object
set(CMAKE_CXX_VISIBILITY_PRESET hidden)       # the plugin exports module_register alone
set(CMAKE_VISIBILITY_INLINES_HIDDEN ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)

if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE RelWithDebInfo CACHE STRING "Build type" FORCE)
endif()

add_library(django_session_options INTERFACE)
target_compile_options(django_session_options INTERFACE
  -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wsign-conversion -Wold-style-cast
  -Wnon-virtual-dtor -Woverloaded-virtual -Wnull-dereference
  # g++ 12 at -O3 takes `"text" + std::string(...)` for an overlapping copy (GCC bug 105651).
  $<$<CXX_COMPILER_ID:GNU>:-Wduplicated-cond -Wlogical-op -Wno-restrict>
  $<$<BOOL:${DJANGO_SESSION_WERROR}>:-Werror>)
target_compile_definitions(django_session_options INTERFACE
  DJANGO_SESSION_VERSION="${PROJECT_VERSION}")

# What most files include is read once, which saves more than a quarter of a first build. Not where
# the compiler optimises: g++ 12 then warns of what isn't so within the standard library. Nor under
# ccache, which couldn't keep anything; so builds of both kinds show an #include that is missing.
if(CMAKE_BUILD_TYPE STREQUAL Debug AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(DJANGO_SESSION_PRECOMPILES ON)
endif()

function(precompile_common_headers target)
  if(DJANGO_SESSION_PRECOMPILES)
    target_precompile_headers(${target} PRIVATE
      <algorithm> <chrono> <functional> <memory> <optional> <string> <string_view> <vector>
      <fmt/format.h>)
  endif()
endfunction()

# Those of a target that is compiled alike.
function(use_precompiled_headers_of target other)
  if(DJANGO_SESSION_PRECOMPILES)
    target_precompile_headers(${target} REUSE_FROM ${other})
  endif()
endfunction()

# Where the daemons look on Debian; change them for other systems. Not CMAKE_INSTALL_LIBDIR: below /usr
# that is lib/x86_64-linux-gnu, where they don't look.
set(COLLECTD_PLUGIN_DIR "lib/collectd" CACHE STRING "collectd's plugin folder")
set(NAGIOS_PLUGIN_DIR "lib/nagios/plugins" CACHE STRING "Nagios' plugins folder")
