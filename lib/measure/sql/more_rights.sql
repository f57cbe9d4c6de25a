-- What this session can do in this database, or to the server, that the owner of a table can't: an
-- expression, a list of up to three things for people (there may be thousands), or NULL. Compared
-- are attributes, memberships, policies, and all that pg_shdepend has under our name (what we own,
-- and each grant to us). What PUBLIC was granted, the owner has too.
--
-- his: roles whose rights the owner can use, by inheriting them or as SET ROLE. (He may be a member
-- of a role and have neither.) Inheriting a role's rights is less than SET ROLE: only that gives its
-- attributes. A policy lets us see rows, or hides them from the owner alone. What the owner was
-- granted on an object is compared, privilege by privilege. The owner who can be a superuser, or us,
-- can do all that we can.
--
-- Not known is what parameters of the server were granted to others: before PostgreSQL 15 it isn't
-- there to be asked for. What doesn't count: who has CONNECT alone (nobody who is connected can do
-- anything with it); who has granted a membership (pg_auth_members; ADMIN OPTION is above); what
-- our own new objects would be granted (a pg_default_acl of ours). What those of others will grant
-- to us does: it may be between this look and what is done after it.
--
-- Locks: none.
-- Needs: me, o (rows of pg_roles: ourselves, the owner), d (our row of pg_database).
--   {set_role}         the privilege for pg_has_role() that lets a role SET ROLE to another
--   {lists_of_rights}  SELECTs of owner, acl and whole (with its table's, where it is a column's) of
--                      the object s; what is in none of them counts as more
(
  WITH his AS MATERIALIZED (
    SELECT ARRAY(SELECT r.oid FROM pg_roles r
                 WHERE pg_has_role(o.oid, r.oid, 'USAGE') OR pg_has_role(o.oid, r.oid, {set_role})) AS roles
  ), more AS (
    SELECT a.name AS what
    FROM (VALUES ('SUPERUSER', me.rolsuper, o.rolsuper), ('CREATEROLE', me.rolcreaterole, o.rolcreaterole),
                 ('CREATEDB', me.rolcreatedb, o.rolcreatedb), ('REPLICATION', me.rolreplication, o.rolreplication),
                 ('BYPASSRLS', me.rolbypassrls, o.rolbypassrls)) AS a(name, mine, his)
    WHERE a.mine AND NOT a.his
    UNION ALL
    SELECT 'membership in ' || quote_ident(r.rolname)
    FROM pg_roles r, his
    WHERE NOT me.rolsuper AND r.oid <> me.oid
      AND (pg_has_role(me.oid, r.oid, 'MEMBER') AND NOT r.oid = ANY (his.roles)
           OR pg_has_role(me.oid, r.oid, {set_role}) AND NOT pg_has_role(o.oid, r.oid, {set_role}))
    UNION ALL
    SELECT DISTINCT 'ADMIN OPTION for ' || quote_ident(r.rolname)
    FROM pg_auth_members g JOIN pg_roles r ON r.oid = g.roleid, his
    WHERE NOT me.rolsuper AND g.admin_option AND pg_has_role(me.oid, g.member, 'MEMBER')
      AND NOT EXISTS (SELECT FROM pg_auth_members h
                      WHERE h.roleid = g.roleid AND h.admin_option AND h.member = ANY (his.roles))
    UNION ALL
    SELECT pg_describe_object('pg_policy'::regclass, p.oid, 0)
    FROM pg_policy p JOIN pg_class t ON t.oid = p.polrelid, his
    WHERE NOT me.rolsuper AND t.relrowsecurity AND NOT t.relowner = ANY (his.roles)
      AND CASE WHEN p.polpermissive
          THEN me.oid = ANY (p.polroles) AND NOT p.polroles && (0::oid || his.roles)
          ELSE p.polroles && his.roles AND NOT p.polroles && ARRAY[0::oid, me.oid] END
    UNION ALL
    SELECT pg_describe_object(s.classid, s.objid, s.objsubid)
    FROM his, pg_shdepend s LEFT JOIN LATERAL (
{lists_of_rights}
    ) t ON true
    WHERE NOT me.rolsuper AND s.refclassid = 'pg_authid'::regclass AND s.refobjid = me.oid
      AND s.dbid IN (0::oid, d.oid)
      AND CASE s.deptype
          WHEN 'o' THEN s.classid <> 'pg_default_acl'::regclass
          WHEN 'a' THEN s.classid <> 'pg_auth_members'::regclass
            AND (t.owner = ANY (his.roles)) IS NOT TRUE
            AND (t.acl IS NULL OR EXISTS (
              SELECT FROM aclexplode(t.acl) mine
              WHERE mine.grantee = me.oid
                AND (s.classid <> 'pg_database'::regclass OR mine.privilege_type <> 'CONNECT' OR mine.is_grantable)
                AND NOT EXISTS (
                  SELECT FROM aclexplode(coalesce(t.whole, t.acl)) theirs
                  WHERE theirs.grantee = ANY (0::oid || his.roles) AND theirs.privilege_type = mine.privilege_type
                    AND theirs.is_grantable >= mine.is_grantable)))
          ELSE false END
  )
  SELECT string_agg(m.what, ', ' ORDER BY m.what) FROM (
    SELECT coalesce(more.what, 'something unnamed') AS what FROM more
    WHERE NOT EXISTS (SELECT FROM pg_roles r
                      WHERE (r.rolsuper OR r.oid = me.oid) AND pg_has_role(o.oid, r.oid, {set_role}))
    LIMIT 3) m)
