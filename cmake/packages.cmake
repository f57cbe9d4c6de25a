# Packages by `cpack -G DEB` and `cpack -G RPM`: three, one for each component of the installation. They have no maintainer
# scripts: nothing is started, restarted or enabled, no user is made, no database is touched.

# component PACKAGE: what an installation of this component is called as a package.
set(collectd_package collectd-plugin-django-session)
set(monitoring_package monitoring-plugins-django-session)
set(cleanup_package django-session-cleanup)
set(CPACK_COMPONENTS_ALL collectd monitoring cleanup)

# Beside the program: copyright and changes; /usr/share/doc/PACKAGE/examples leads to the samples, which are where every
# installation has them.
if(DJANGO_SESSION_DEBIAN)
  compress(${PROJECT_SOURCE_DIR}/cmake/debian/changelog changes changelog.Debian)
endif()
compress(${PROJECT_SOURCE_DIR}/CHANGELOG.md upstream_changes changelog)
set(examples ${PROJECT_BINARY_DIR}/compressed/examples)
file(CREATE_LINK ../../django_session ${examples} SYMBOLIC)
foreach(component ${CPACK_COMPONENTS_ALL})
  install(FILES cmake/debian/copyright ${changes} ${upstream_changes} ${examples}
          DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/${${component}_package} COMPONENT ${component})
  if(DJANGO_SESSION_DEBIAN)
    install(FILES cmake/debian/lintian-overrides DESTINATION ${CMAKE_INSTALL_DATADIR}/lintian/overrides
            RENAME ${${component}_package} COMPONENT ${component})
  endif()
endforeach()

install(FILES cmake/debian/collectd/django_session.conf DESTINATION ${COLLECTD_CONF_DIR} COMPONENT collectd)
install(FILES conf.d/systemd/django_session_cleanup@.service conf.d/systemd/django_session_cleanup@.timer
        DESTINATION /usr/lib/systemd/system COMPONENT cleanup)

set(collectd_summary "Django's session table in collectd: sizes and expired sessions")
set(collectd_text "A read plugin: sizes of database, table and indexes, live and expired
sessions, and how much disk space a cleanup would give back, for the price
of one round trip. Optionally it cleans up when a value passes a
threshold. Its configuration is installed all commented out.")
set(monitoring_summary "Django's session table checked by Nagios and Icinga")
set(monitoring_text "The check check_django_session, its commands for Nagios and Icinga 2, and
examples for services, event handlers, mails and NRPE. It alerts past
thresholds, with what to type next.")
set(cleanup_summary "Delete expired Django sessions from PostgreSQL, online")
set(cleanup_text "The command django_session_cleanup gives the space back while the site
runs. With it come the roles that measuring and cleaning need (roles.sql),
the runbook django_session(7), and a unit and a timer for systemd, which
are not enabled.")

set(CPACK_PACKAGE_NAME django-session)
set(CPACK_PACKAGE_VENDOR "The django_session authors")
set(CPACK_PACKAGE_CONTACT "The django_session authors <maintainers@django-session.invalid>")
set(CPACK_SET_DESTDIR ON)  # what is below /etc isn't below the prefix
set(CPACK_INSTALL_DEFAULT_DIRECTORY_PERMISSIONS
    OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE WORLD_READ WORLD_EXECUTE)
set(collectd_configuration ${COLLECTD_CONF_DIR}/django_session.conf)
set(monitoring_configuration ${NAGIOS_COMMANDS_DIR}/django_session.cfg)

# The same sources give the same bytes: all files are as old as the last change.
file(STRINGS cmake/debian/changelog dates REGEX "^ -- ")
list(GET dates 0 date)
string(REGEX REPLACE ".*>  " "" date "${date}")
execute_process(COMMAND date -d "${date}" +%s OUTPUT_VARIABLE source_date OUTPUT_STRIP_TRAILING_WHITESPACE
                COMMAND_ERROR_IS_FATAL ANY)
file(WRITE ${PROJECT_BINARY_DIR}/source_date.cmake "set(ENV{SOURCE_DATE_EPOCH} ${source_date})\n")
set(CPACK_PROJECT_CONFIG_FILE ${PROJECT_BINARY_DIR}/source_date.cmake)

set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_RELEASE 1)
set(CPACK_DEBIAN_PACKAGE_PRIORITY optional)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_DEBUGINFO_PACKAGE ON)
set(CPACK_POST_BUILD_SCRIPTS ${PROJECT_SOURCE_DIR}/cmake/debian/correct.cmake)

set(CPACK_DEBIAN_COLLECTD_PACKAGE_SECTION utils)
set(CPACK_DEBIAN_COLLECTD_PACKAGE_DEPENDS "collectd-core (>= 5.12), collectd-core (<< 6~)")
set(CPACK_DEBIAN_COLLECTD_PACKAGE_RECOMMENDS ${cleanup_package})
set(CPACK_DEBIAN_MONITORING_PACKAGE_SECTION net)
set(CPACK_DEBIAN_MONITORING_PACKAGE_RECOMMENDS ${cleanup_package})
set(CPACK_DEBIAN_MONITORING_PACKAGE_SUGGESTS "nagios4, icinga2, nagios-nrpe-server")
set(CPACK_DEBIAN_CLEANUP_PACKAGE_SECTION database)

set(CPACK_RPM_COMPONENT_INSTALL ON)
set(CPACK_RPM_FILE_NAME RPM-DEFAULT)
set(CPACK_RPM_PACKAGE_RELEASE 1)
set(CPACK_RPM_PACKAGE_LICENSE MIT)
set(CPACK_RPM_PACKAGE_RELOCATABLE OFF)
set(CPACK_RPM_EXCLUDE_FROM_AUTO_FILELIST_ADDITION /etc/collectd.d /etc/nagios /etc/nagios/conf.d /usr/lib/systemd
    /usr/lib/systemd/system /usr/share/man /usr/share/man/man1 /usr/share/man/man5 /usr/share/man/man7)
set(CPACK_RPM_PACKAGE_GROUP Applications/System)
set(CPACK_RPM_COLLECTD_PACKAGE_REQUIRES "collectd >= 5.12, collectd < 6")

foreach(component ${CPACK_COMPONENTS_ALL})
  string(TOUPPER ${component} COMPONENT)
  set(CPACK_DEBIAN_${COMPONENT}_PACKAGE_NAME ${${component}_package})
  set(CPACK_DEBIAN_${COMPONENT}_DESCRIPTION "${${component}_summary}\n${${component}_text}")
  set(CPACK_RPM_${COMPONENT}_PACKAGE_NAME ${${component}_package})
  set(CPACK_RPM_${COMPONENT}_PACKAGE_SUMMARY "${${component}_summary}")
  set(CPACK_RPM_${COMPONENT}_PACKAGE_DESCRIPTION "${${component}_text}")
  if(${component}_configuration)
    set(conffiles ${PROJECT_BINARY_DIR}/compressed/${component}/conffiles)
    file(WRITE ${conffiles} "${${component}_configuration}\n")
    set(CPACK_DEBIAN_${COMPONENT}_PACKAGE_CONTROL_EXTRA ${conffiles})
    set(CPACK_RPM_${COMPONENT}_USER_FILELIST "%config(noreplace) ${${component}_configuration}")
  endif()
endforeach()

include(CPack)
