# Each folder/sql/NAME.sql becomes a constant, django_session::sql::NAME, of "folder/sql_files.hpp",
# without the comment at its beginning. Changed, it is embedded again by the next build.
function(django_session_embed_sql target folder)
  file(GLOB files CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/${folder}/sql/*.sql)
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${files})
  set(constants "")
  foreach(file ${files})
    get_filename_component(name ${file} NAME_WE)
    file(READ ${file} text)
    string(REGEX REPLACE "^(--[^\n]*\n)+" "" text "${text}")
    if(text MATCHES "[)]sql\"")
      message(FATAL_ERROR "${file} has )sql\" in it, which ends a string of C++")
    endif()
    string(APPEND constants "constexpr std::string_view ${name} = R\"sql(${text})sql\";\n\n")
  endforeach()
  file(CONFIGURE OUTPUT sql/${folder}/sql_files.hpp @ONLY
       CONTENT [[// Made of @folder@/sql/*.sql by cmake/embed_sql.cmake.
#pragma once

#include <string_view>

namespace django_session::sql {

@constants@}  // namespace django_session::sql
]])
  target_include_directories(${target} PRIVATE ${CMAKE_CURRENT_BINARY_DIR}/sql)
endfunction()
