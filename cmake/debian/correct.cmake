# Run by cpack behind the packages for Debian, which CMake 3.25 doesn't make quite right:
# - a module for dlopen() gets scripts that call ldconfig, though it isn't a library,
# - md5sums of debug symbols name the files in the build folder,
# - debug symbols have no documentation; it is that of their package.
# Whether the clock was right or not, every file is as old as the last change.
if(NOT CPACK_GENERATOR STREQUAL DEB)
  return()
endif()

foreach(package ${CPACK_PACKAGE_FILES})
  set(folder ${package}.d)
  file(REMOVE_RECURSE ${folder})
  execute_process(COMMAND dpkg-deb -R ${package} ${folder} COMMAND_ERROR_IS_FATAL ANY)
  file(REMOVE ${folder}/DEBIAN/postinst ${folder}/DEBIAN/postrm)
  cmake_path(GET package FILENAME name)
  string(REGEX REPLACE "_.*" "" name ${name})
  if(name MATCHES "^(.*)-dbgsym$")
    file(MAKE_DIRECTORY ${folder}/usr/share/doc)
    file(CREATE_LINK ${CMAKE_MATCH_1} ${folder}/usr/share/doc/${name} SYMBOLIC)
    execute_process(COMMAND sh -c "find usr -type f | LC_ALL=C sort | xargs md5sum >DEBIAN/md5sums"
                    WORKING_DIRECTORY ${folder} COMMAND_ERROR_IS_FATAL ANY)
  endif()
  execute_process(COMMAND sh -c "chmod -R go-w . && find . -exec touch -hd @$SOURCE_DATE_EPOCH {} +"
                  WORKING_DIRECTORY ${folder} COMMAND_ERROR_IS_FATAL ANY)
  execute_process(COMMAND dpkg-deb --root-owner-group -b ${folder} ${package} OUTPUT_QUIET COMMAND_ERROR_IS_FATAL ANY)
  file(REMOVE_RECURSE ${folder})
endforeach()
