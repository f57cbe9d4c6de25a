// Who has to be wary of a table owner's code: a condition for SQL that knows pg_catalog alone.
#pragma once

namespace django_session::sessions {

/// Whether this session can do anything in this database that the table's owner can't: then code of
/// his that a reading would run could use our rights. (Not by current_user: such code may RESET
/// ROLE.) By the role's attributes, what it is a member of, and what it owns or was granted; a
/// right on what belongs to the owner is his, too, and of schemas and the database each right is
/// compared. What was granted to everybody is not in pg_shdepend.
/// Needs aliases: `me`, `o` rows of pg_roles (ourselves by session_user, the owner), `d` ours of
/// pg_database.
inline constexpr const char* kHasMoreRights = R"((
  me.rolsuper OR NOT o.rolsuper AND (
    me.rolcreaterole > o.rolcreaterole OR me.rolcreatedb > o.rolcreatedb
    OR me.rolreplication > o.rolreplication OR me.rolbypassrls > o.rolbypassrls
    OR EXISTS (SELECT FROM pg_roles r WHERE r.oid <> me.oid
               AND pg_has_role(me.oid, r.oid, 'MEMBER') AND NOT pg_has_role(o.oid, r.oid, 'MEMBER'))
    OR NOT pg_has_role(o.oid, me.oid, 'MEMBER') AND EXISTS (
      SELECT FROM pg_shdepend s
      WHERE s.refclassid = 'pg_authid'::regclass AND s.refobjid = me.oid
        AND s.deptype IN ('o', 'a') AND s.dbid IN (0::oid, d.oid)
        AND NOT CASE
          WHEN s.classid = 'pg_default_acl'::regclass THEN true
          WHEN s.deptype = 'o' THEN false
          WHEN s.classid = 'pg_database'::regclass THEN s.objid <> d.oid
            OR has_database_privilege(me.oid, d.oid, 'CREATE') <= has_database_privilege(o.oid, d.oid, 'CREATE')
            AND has_database_privilege(me.oid, d.oid, 'TEMP') <= has_database_privilege(o.oid, d.oid, 'TEMP')
          WHEN s.classid = 'pg_namespace'::regclass THEN
            has_schema_privilege(me.oid, s.objid, 'CREATE') <= has_schema_privilege(o.oid, s.objid, 'CREATE')
            AND has_schema_privilege(me.oid, s.objid, 'USAGE') <= has_schema_privilege(o.oid, s.objid, 'USAGE')
          ELSE EXISTS (SELECT FROM pg_shdepend w
            WHERE w.dbid = s.dbid AND w.classid = s.classid AND w.objid = s.objid AND w.deptype = 'o'
              AND pg_has_role(o.oid, w.refobjid, 'MEMBER')) END))))";

}  // namespace django_session::sessions
