// Who has to be wary of a table owner's code: conditions for SQL that knows pg_catalog alone.
#pragma once

#include <string>
#include <vector>

#include "core/oid.hpp"

namespace django_session::sessions {

/// The privilege for pg_has_role() that lets a role SET ROLE to another.
inline constexpr const char* kSetRole =
    "CASE WHEN current_setting('server_version_num')::int4 >= 160000 THEN 'SET' ELSE 'MEMBER' END";

/// A scalar subquery: what this session can do in this database, or to the server, that the table's
/// owner can't, as a list of up to three things for people; NULL if there is nothing. Code of the
/// owner's that runs in this session could do it. The names are whatever people called their
/// objects: see without_controls().
/// Needs aliases: `me`, `o` rows of pg_roles (ourselves by session_user, since code may RESET ROLE;
/// the owner), `d` ours of pg_database.
std::string more_rights();

/// The same, without the catalogues that have no list of rights in which this role was named when
/// kGrantedCatalogs was asked. It is planned in half of the time. Where a right in another
/// one has come since, it says that there is more.
std::string more_rights(const std::vector<std::string>& granted_catalogs);

/// FROM and WHERE with one row, which has what more_rights() needs, as long as that OID is the table
/// of that name and owner; more conditions may follow. The names are SQL strings.
std::string same_table(Oid oid, const std::string& schema, const std::string& table,
                       const std::string& owner);

/// A SELECT of name: catalogues of objects on which this role was granted something.
extern const char* const kGrantedCatalogs;

}  // namespace django_session::sessions
