// The catalogue queries. regclass and the like write names in full because search_path is
// pg_catalog.
#include "cleanup/table_definition.hpp"

#include <fmt/format.h>

namespace django_session::sessions {
namespace {

// Columns of the catalogues that only some versions have (attcompression: 14) or that changed
// (attstattarget: -1 or NULL) are read through to_jsonb(). Among a column's options some servers
// keep a counter of their own (pg_attver, in 15.20), which differs from column to column.
constexpr const char* kLines = R"(ARRAY(
SELECT line FROM (
  SELECT format('table: owner %s, access method %s, tablespace %s, persistence %s, replica '
      'identity %s, row security %s %s, options %s, TOAST options %s',
    pg_get_userbyid(c.relowner), (SELECT amname FROM pg_am WHERE oid = c.relam), c.reltablespace,
    c.relpersistence, c.relreplident, c.relrowsecurity, c.relforcerowsecurity,
    ARRAY(SELECT unnest(c.reloptions) ORDER BY 1),
    (SELECT ARRAY(SELECT unnest(t.reloptions) ORDER BY 1) FROM pg_class t
      WHERE t.oid = c.reltoastrelid)) AS line
  FROM pg_class c WHERE c.oid = {oid}
  UNION ALL
  SELECT 'schema: ' || c.relnamespace::regnamespace FROM pg_class c WHERE c.oid = {oid}
  UNION ALL
  SELECT 'comment: ' || description FROM pg_description
  WHERE classoid = 'pg_class'::regclass AND objoid = {oid} AND objsubid = 0
  UNION ALL
  SELECT format('grant: %s %s %s by %s', g.grantee::regrole, g.privilege_type, g.is_grantable,
    g.grantor::regrole)
  FROM pg_class c, aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) g WHERE c.oid = {oid}
  UNION ALL
  SELECT format('row type: comment %s, comment of its array type %s',
    obj_description(y.oid, 'pg_type'), obj_description(y.typarray, 'pg_type'))
  FROM pg_class c JOIN pg_type y ON y.oid = c.reltype WHERE c.oid = {oid}
  UNION ALL
  SELECT format('grant: %s USAGE of the row type %s by %s', g.grantee::regrole, g.is_grantable,
    g.grantor::regrole)
  FROM pg_class c JOIN pg_type y ON y.oid = c.reltype,
    aclexplode(coalesce(y.typacl, acldefault('T', y.typowner))) g WHERE c.oid = {oid}
  UNION ALL
  SELECT format('column %s: %I %s, collation %s, not null %s, default %s, identity %s, generated '
      '%s, storage %s, compression %s, statistics %s, options %s, comment %s',
    row_number() OVER (ORDER BY a.attnum), a.attname, format_type(a.atttypid, a.atttypmod),
    a.attcollation::regcollation, a.attnotnull, pg_get_expr(d.adbin, d.adrelid), a.attidentity,
    a.attgenerated,
    a.attstorage, to_jsonb(a) ->> 'attcompression', coalesce(to_jsonb(a) ->> 'attstattarget', '-1'),
    ARRAY(SELECT o FROM unnest(a.attoptions) o WHERE o NOT LIKE 'pg\_%' ORDER BY 1),
    col_description(a.attrelid, a.attnum))
  FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
  WHERE a.attrelid = {oid} AND a.attnum > 0 AND NOT a.attisdropped
  UNION ALL
  SELECT format('grant: %s (%I) %s %s by %s', g.grantee::regrole, a.attname, g.privilege_type,
    g.is_grantable, g.grantor::regrole)
  FROM pg_attribute a, aclexplode(a.attacl) g
  WHERE a.attrelid = {oid} AND NOT a.attisdropped
  UNION ALL
  SELECT format('constraint %I: %s, validated %s, deferrable %s %s, comment %s', n.conname,
    pg_get_constraintdef(n.oid), n.convalidated, n.condeferrable, n.condeferred,
    obj_description(n.oid, 'pg_constraint'))
  FROM pg_constraint n WHERE n.conrelid = {oid} AND (n.conindid = 0 OR {with_indexes})
  UNION ALL
  SELECT format('index %I: unique %s, primary %s, valid %s, clustered %s, replica identity %s, '
      'tablespace %s, statistics %s, comment %s, %s',
    x.relname, i.indisunique, i.indisprimary, i.indisvalid, i.indisclustered, i.indisreplident,
    x.reltablespace,
    ARRAY(SELECT coalesce(to_jsonb(a) ->> 'attstattarget', '-1') FROM pg_attribute a
          WHERE a.attrelid = x.oid ORDER BY a.attnum),
    obj_description(x.oid, 'pg_class'), {index_definition})
  FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid WHERE i.indrelid = {oid}
    AND {with_indexes}
    -- what REINDEX CONCURRENTLY is making, or has left behind, goes with the old table
    AND (i.indisvalid OR x.relname !~ '_cc(new|old)[0-9]*$')
  UNION ALL
  SELECT format('%s %s', object, reason) FROM ({attachments}) attached
) lines ORDER BY line))";

// Without its beginning, CREATE INDEX name ON table, so that only what it is counts.
constexpr const char* kIndexDefinition =
    R"(right(pg_get_indexdef(x.oid), -length(format('CREATE %sINDEX %I ON %s ',
      CASE WHEN i.indisunique THEN 'UNIQUE ' END, x.relname, i.indrelid::regclass))))";

// Whatever depends on the table, or on its row type, and isn't a part of it. A dependency through a
// rewrite rule is that of a view.
constexpr const char* kAttachments = R"(
  SELECT 'trigger ' || quote_ident(t.tgname) AS object, 'would have to be made anew' AS reason
    FROM pg_trigger t
  WHERE t.tgrelid = {oid} AND NOT t.tgisinternal AND t.tgfoid <> {own_function}
  UNION ALL
  SELECT 'rule ' || quote_ident(r.rulename), 'would have to be made anew'
    FROM pg_rewrite r WHERE r.ev_class = {oid}
  UNION ALL
  SELECT 'row security', 'its policies would be lost' FROM pg_class c
  WHERE c.oid = {oid} AND (c.relrowsecurity OR c.relforcerowsecurity)
  UNION ALL
  SELECT 'policy ' || quote_ident(p.polname), 'would have to be made anew'
    FROM pg_policy p WHERE p.polrelid = {oid}
  UNION ALL
  SELECT format('foreign key %I of %s', n.conname, n.conrelid::regclass), 'refers to the table'
  FROM pg_constraint n WHERE n.confrelid = {oid} AND n.contype = 'f'
  UNION ALL
  SELECT format('foreign key %I', n.conname),
    format('refers to %s, which would be locked too', n.confrelid::regclass)
  FROM pg_constraint n WHERE n.conrelid = {oid} AND n.confrelid <> {oid} AND n.contype = 'f'
  UNION ALL
  SELECT 'table ' || i.inhrelid::regclass, 'inherits from the table'
    FROM pg_inherits i WHERE i.inhparent = {oid}
  UNION ALL
  SELECT 'table ' || i.inhparent::regclass, 'is what the table inherits from or is a partition of'
  FROM pg_inherits i WHERE i.inhrelid = {oid}
  UNION ALL
  SELECT 'publication ' || quote_ident(p.pubname),
    'would publish the shadow table, or lose the table'
  FROM pg_publication p
  WHERE p.puballtables OR p.oid IN (SELECT r.prpubid FROM pg_publication_rel r
    WHERE r.prrelid = {oid})
  UNION ALL
  SELECT 'subscription', 'writes to the table' FROM pg_subscription_rel s WHERE s.srrelid = {oid}
  UNION ALL
  SELECT DISTINCT 'security label of ' || pg_describe_object(p.classid, p.objid, s.objsubid),
    'would be lost'
  FROM ({parts}) p JOIN pg_seclabel s ON s.classoid = p.classid AND s.objoid = p.objid
  UNION ALL
  SELECT 'initial privileges of ' || pg_describe_object(p.classid, p.objid, s.objsubid),
    'would be lost'
  FROM ({parts}) p JOIN pg_init_privs s ON s.classoid = p.classid AND s.objoid = p.objid
  UNION ALL
  SELECT 'extension ' || quote_ident(e.extname), CASE WHEN d.deptype = 'x'
      THEN format('would be forgotten as what %s depends on',
                  pg_describe_object(d.classid, d.objid, 0))
      WHEN d.objid = {oid} THEN 'owns the table'
      ELSE 'owns ' || pg_describe_object(d.classid, d.objid, 0) END
  FROM ({parts}) p JOIN pg_depend d ON d.classid = p.classid AND d.objid = p.objid
  JOIN pg_extension e ON e.oid = d.refobjid AND d.refclassid = 'pg_extension'::regclass
  WHERE d.deptype IN ('e', 'x')
  UNION ALL
  SELECT DISTINCT CASE WHEN d.classid = 'pg_rewrite'::regclass
      THEN (SELECT CASE v.relkind WHEN 'm' THEN 'materialized view ' ELSE 'view ' END
              || v.oid::regclass
            FROM pg_rewrite r JOIN pg_class v ON v.oid = r.ev_class WHERE r.oid = d.objid)
      ELSE pg_describe_object(d.classid, d.objid, 0) END, 'depends on the table'
  FROM pg_class c
  JOIN pg_type t ON t.oid = c.reltype
  JOIN pg_depend d ON (d.refclassid = 'pg_class'::regclass AND d.refobjid = c.oid)
                   OR (d.refclassid = 'pg_type'::regclass AND d.refobjid IN (t.oid, t.typarray))
  WHERE c.oid = {oid} AND d.deptype <> 'e'
    AND NOT (d.classid = 'pg_class'::regclass AND (d.objid = c.reltoastrelid
             OR d.objid IN (SELECT i.indexrelid FROM pg_index i WHERE i.indrelid = c.oid)))
    AND NOT (d.classid = 'pg_type'::regclass AND d.objid IN (t.oid, t.typarray))
    AND NOT (d.classid = 'pg_attrdef'::regclass
             AND d.objid IN (SELECT a.oid FROM pg_attrdef a WHERE a.adrelid = c.oid))
    AND NOT (d.classid = 'pg_constraint'::regclass
             AND d.objid IN (SELECT n.oid FROM pg_constraint n
               WHERE c.oid IN (n.conrelid, n.confrelid)))
    AND NOT (d.classid = 'pg_trigger'::regclass
             AND d.objid IN (SELECT g.oid FROM pg_trigger g WHERE g.tgrelid = c.oid))
    AND NOT (d.classid = 'pg_rewrite'::regclass
             AND d.objid IN (SELECT r.oid FROM pg_rewrite r WHERE r.ev_class = c.oid))
    AND NOT (d.classid = 'pg_policy'::regclass
             AND d.objid IN (SELECT p.oid FROM pg_policy p WHERE p.polrelid = c.oid))
    AND NOT (d.classid = 'pg_publication_rel'::regclass))";

// The table and what is made anew with it.
constexpr const char* kParts = R"(
    SELECT 'pg_class'::regclass AS classid, c.oid AS objid FROM pg_class c WHERE c.oid = {oid}
    UNION ALL
    SELECT 'pg_type'::regclass, unnest(ARRAY[y.oid, y.typarray])
    FROM pg_class c JOIN pg_type y ON y.oid = c.reltype WHERE c.oid = {oid}
    UNION ALL
    SELECT 'pg_class'::regclass, i.indexrelid FROM pg_index i WHERE i.indrelid = {oid}
    UNION ALL
    SELECT 'pg_constraint'::regclass, n.oid FROM pg_constraint n WHERE n.conrelid = {oid})";

}  // namespace

std::string attachments_query(const std::string& oid, const std::string& own_function) {
  return fmt::format(kAttachments, fmt::arg("oid", oid), fmt::arg("own_function", own_function),
                     fmt::arg("parts", fmt::format(kParts, fmt::arg("oid", oid))));
}

std::string definition_lines(const std::string& oid, const std::string& own_function,
                             bool without_indexes) {
  return fmt::format(kLines, fmt::arg("oid", oid), fmt::arg("index_definition", kIndexDefinition),
                     fmt::arg("attachments", attachments_query(oid, own_function)),
                     fmt::arg("with_indexes", without_indexes ? "false" : "true"));
}

}  // namespace django_session::sessions
