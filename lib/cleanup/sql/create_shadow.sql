-- The second half of the message "create": makes the shadow, the table's counterpart. Columns,
-- defaults, CHECK constraints, indexes and column comments by LIKE; what LIKE doesn't copy one by
-- one. The indexes wait until the sessions are copied: their definitions, as the server wrote them
-- for the shadow, are kept in the state. In the end the two are compared.
--
-- A part of a PL/pgSQL block, as the table's owner.
-- Locks: ACCESS SHARE on the table.
--   {oid}                                the table's
--   {state}                              the state's name
--   {original_indexes}, {shadow_indexes} indexes_by_definition.sql of each
--   {lines}                              definition_lines.sql of item.relation
--   {taken_later}                        taken_later.sql
--   {created}                            a phase, see swap_phase.hpp
DECLARE
  original regclass := {oid}::oid;
  shadow_table regclass;
  shadow_name text;
  tablespace text;
  options text;
  differs text;
  taken text;
  original_lines text[];
  shadow_lines text[];
  whole_lines text[];
BEGIN
  SELECT format('%s.%I', c.relnamespace::regnamespace, 'djs_{oid}_new'),
    coalesce(s.spcname, ''),
    (SELECT string_agg(format('%s = %L', o.name, o.value), ', ') FROM (
       SELECT quote_ident(option_name) AS name, option_value AS value
       FROM pg_options_to_table(c.reloptions)
       UNION ALL
       SELECT 'toast.' || quote_ident(option_name), option_value
       FROM pg_class t, pg_options_to_table(t.reloptions) WHERE t.oid = c.reltoastrelid) o)
  INTO shadow_name, tablespace, options
  FROM pg_class c LEFT JOIN pg_tablespace s ON s.oid = c.reltablespace WHERE c.oid = original;
  PERFORM set_config('default_tablespace', tablespace, true);
  EXECUTE format('CREATE TABLE %s (LIKE %s INCLUDING ALL)%s', shadow_name, original,
    ' WITH (' || options || ')');
  shadow_table := shadow_name::regclass;

  -- Statistics targets and options of columns, the table's comment
  FOR item IN
    SELECT a.attname, to_jsonb(a) ->> 'attstattarget' AS target,
      (SELECT string_agg(format('%I = %L', option_name, option_value), ', ')
       FROM pg_options_to_table(a.attoptions)
       WHERE option_name NOT LIKE E'pg\\_%') AS options
    FROM pg_attribute a WHERE a.attrelid = original AND a.attnum > 0 AND NOT a.attisdropped
  LOOP
    IF coalesce(item.target, '-1') <> '-1' THEN
      EXECUTE format('ALTER TABLE %s ALTER COLUMN %I SET STATISTICS %s', shadow_table, item.attname,
        item.target);
    END IF;
    IF item.options IS NOT NULL THEN
      EXECUTE format('ALTER TABLE %s ALTER COLUMN %I SET (%s)', shadow_table, item.attname, item.options);
    END IF;
  END LOOP;
  EXECUTE format('COMMENT ON TABLE %s IS %L', shadow_table, obj_description(original, 'pg_class'));
  SELECT y.oid::regtype AS name, y.typarray::regtype AS array_name,
    obj_description(c.reltype, 'pg_type') AS comment,
    obj_description((SELECT o.typarray FROM pg_type o WHERE o.oid = c.reltype), 'pg_type')
      AS array_comment
  INTO item FROM pg_class c, pg_type y WHERE c.oid = original AND y.typrelid = shadow_table;
  IF item.comment IS NOT NULL THEN
    EXECUTE format('COMMENT ON TYPE %s IS %L', item.name, item.comment);
  END IF;
  IF item.array_comment IS NOT NULL THEN
    EXECUTE format('COMMENT ON TYPE %s IS %L', item.array_name, item.array_comment);
  END IF;

  -- Grants, in their order; first revoke what the site's default privileges gave
  FOR item IN
    SELECT DISTINCT CASE g.grantee WHEN 0 THEN 'PUBLIC' ELSE g.grantee::regrole::text END AS grantee
    FROM pg_class c, pg_class o, aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) g
    WHERE c.oid = shadow_table AND o.oid = original AND (c.relacl IS NOT NULL OR o.relacl IS NOT NULL)
  LOOP
    EXECUTE format('REVOKE ALL ON %s FROM %s', shadow_table, item.grantee);
  END LOOP;
  FOR item IN
    SELECT CASE g.grantee WHEN 0 THEN 'PUBLIC' ELSE g.grantee::regrole::text END AS grantee,
      string_agg(g.privilege_type, ', ' ORDER BY g.n) AS privileges,
      CASE WHEN g.is_grantable THEN ' WITH GRANT OPTION' END AS option
    FROM pg_class c, pg_class o,
      aclexplode(coalesce(o.relacl, acldefault('r', o.relowner)))
        WITH ORDINALITY g(grantor, grantee, privilege_type, is_grantable, n)
    WHERE c.oid = shadow_table AND o.oid = original AND (c.relacl IS NOT NULL OR o.relacl IS NOT NULL)
    GROUP BY g.grantee, g.is_grantable ORDER BY min(g.n)
  LOOP
    EXECUTE format('GRANT %s ON %s TO %s%s', item.privileges, shadow_table, item.grantee, item.option);
  END LOOP;
  FOR item IN
    SELECT a.attname,
      CASE g.grantee WHEN 0 THEN 'PUBLIC' ELSE g.grantee::regrole::text END AS grantee,
      g.privilege_type, CASE WHEN g.is_grantable THEN ' WITH GRANT OPTION' END AS option
    FROM pg_attribute a, aclexplode(a.attacl)
      WITH ORDINALITY g(grantor, grantee, privilege_type, is_grantable, n)
    WHERE a.attrelid = original AND NOT a.attisdropped ORDER BY a.attnum, g.n
  LOOP
    EXECUTE format('GRANT %s (%I) ON %s TO %s%s', item.privilege_type, item.attname, shadow_table,
      item.grantee, item.option);
  END LOOP;

  FOR item IN
    SELECT y.oid::regtype AS name,
      CASE g.grantee WHEN 0 THEN 'PUBLIC' ELSE g.grantee::regrole::text END AS grantee
    FROM pg_type o, pg_type y, aclexplode(acldefault('T', y.typowner)) g
    WHERE o.typrelid = original AND o.typacl IS NOT NULL AND y.typrelid = shadow_table
  LOOP
    EXECUTE format('REVOKE ALL ON TYPE %s FROM %s', item.name, item.grantee);
  END LOOP;
  FOR item IN
    SELECT y.oid::regtype AS name,
      CASE g.grantee WHEN 0 THEN 'PUBLIC' ELSE g.grantee::regrole::text END AS grantee,
      CASE WHEN g.is_grantable THEN ' WITH GRANT OPTION' END AS option
    FROM pg_type o, pg_type y, aclexplode(o.typacl)
      WITH ORDINALITY g(grantor, grantee, privilege_type, is_grantable, n)
    WHERE o.typrelid = original AND y.typrelid = shadow_table ORDER BY g.n
  LOOP
    EXECUTE format('GRANT USAGE ON TYPE %s TO %s%s', item.name, item.grantee, item.option);
  END LOOP;

  -- An index's name says which one of the original's it corresponds to, until the exchange: the
  -- n-th of index_names. By name, for REINDEX CONCURRENTLY changes OIDs.
  UPDATE ONLY {state} m SET index_names = ARRAY(
    SELECT x.relname FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid
    WHERE i.indrelid = original ORDER BY x.relname);
  FOR item IN
    SELECT o.indexrelid AS original_index, n.indexrelid AS shadow_index,
      (SELECT array_position(m.index_names, x.relname) FROM {state} m, pg_class x
       WHERE x.oid = o.indexrelid) AS place
    FROM ({original_indexes}) o FULL JOIN ({shadow_indexes}) n USING (definition, nth)
  LOOP
    IF item.original_index IS NULL OR item.shadow_index IS NULL THEN
      RAISE EXCEPTION 'index % has no counterpart',
        coalesce(item.original_index, item.shadow_index)::regclass
        USING ERRCODE = 'DJS04';
    END IF;
    EXECUTE format('ALTER INDEX %s RENAME TO %I', item.shadow_index::regclass,
      'djs_{oid}_i' || item.place);
  END LOOP;
  UPDATE ONLY {state} m SET deferred_indexes = ARRAY(
    SELECT format('SET LOCAL default_tablespace = %L; %s', coalesce(s.spcname, ''),
        pg_get_indexdef(i.indexrelid))
      || CASE WHEN i.indisprimary THEN
        format('; ALTER TABLE %s ADD CONSTRAINT %I PRIMARY KEY USING INDEX %2$I', shadow_table, x.relname)
        ELSE '' END
    FROM unnest(m.index_names) WITH ORDINALITY u(name, place)
    JOIN pg_class x ON x.relname = 'djs_{oid}_i' || u.place
    JOIN pg_index i ON i.indexrelid = x.oid AND i.indrelid = shadow_table
    JOIN pg_class o ON o.relname = u.name
    JOIN pg_index oi ON oi.indexrelid = o.oid AND oi.indrelid = original
    LEFT JOIN pg_tablespace s ON s.oid = o.reltablespace
    ORDER BY u.place);
  FOR item IN SELECT x.relname, i.indexrelid::regclass AS name, i.indisprimary
              FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid WHERE i.indrelid = shadow_table LOOP
    IF item.indisprimary THEN
      EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', shadow_table, item.relname);
    ELSE
      EXECUTE format('DROP INDEX %s', item.name);
    END IF;
  END LOOP;

  -- Both without their indexes, which the shadow has no more; and what the exchange will compare.
  FOR item IN SELECT * FROM (VALUES ('original', original, false), ('shadow', shadow_table, false),
                                    ('whole', original, true)) d(what, relation, with_indexes)
  LOOP
    lines := {lines};
    CASE item.what
      WHEN 'original' THEN original_lines := lines;
      WHEN 'shadow' THEN shadow_lines := lines;
      ELSE whole_lines := lines;
    END CASE;
  END LOOP;
  SELECT d.line INTO differs FROM (
    (SELECT unnest(original_lines) EXCEPT ALL SELECT unnest(shadow_lines))
    UNION ALL
    (SELECT unnest(shadow_lines) EXCEPT ALL SELECT unnest(original_lines))) d(line) LIMIT 1;
  IF differs IS NOT NULL THEN
    RAISE EXCEPTION 'can''t be reproduced in a new table: %', differs USING ERRCODE = 'DJS04';
  END IF;

  -- The names that all this will have after the exchange
  taken := {taken_later};
  IF taken IS NOT NULL THEN
    RAISE EXCEPTION '%', taken USING ERRCODE = 'DJS06';
  END IF;

  -- An autovacuum of the shadow would be in the way of the exchange. The replica identity is for
  -- the time without a primary key.
  EXECUTE format('ALTER TABLE %s SET (autovacuum_enabled = off)', shadow_table);
  EXECUTE format('ALTER TABLE %s REPLICA IDENTITY FULL', shadow_table);
  UPDATE ONLY {state} m SET shadow = shadow_name::regclass, definition = whole_lines,
    phase = '{created}', copied = 0,
    copied_until = m.cutoff - interval '1 microsecond';
END;
