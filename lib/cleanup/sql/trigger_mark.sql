-- Changes when the function couldn't note a change, when a trigger is dropped, disabled or, in
-- between, enabled again, and when anything is done that could keep the function from noting: to
-- it, to the log, to the sequences, to the schema or to the owner's memberships. Then changes may
-- have been missed. A view of others that reads the log depends on it, normally, and keeps the
-- function from nothing. An expression, text.
-- Locks: ACCESS SHARE on the state.
--   {oid}    the table's
--   {state}  the state's name
(SELECT concat_ws(', ',
      (SELECT string_agg(format('%s %s %s', g.oid, g.xmin, g.tgenabled), ' ' ORDER BY g.oid)
       FROM pg_trigger g WHERE g.tgfoid = m.function AND g.tgrelid = {oid}),
      (SELECT p.xmin FROM pg_proc p WHERE p.oid = m.function),
      (SELECT format('%s %s %s', c.xmin, n.oid, n.xmin)
       FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = m.log),
      (SELECT string_agg(a.xmin::text, ' ' ORDER BY a.attnum) FROM pg_attribute a
       WHERE a.attrelid = m.log AND a.attnum > 0),
      (SELECT count(*) FROM pg_depend d
       WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = m.log AND d.deptype <> 'n'),
      (SELECT string_agg(format('%s %s %s %s', c.oid, c.xmin, q.xmin,
          CASE WHEN d.refobjid <> m.log AND has_sequence_privilege(c.oid, 'SELECT')
            THEN pg_sequence_last_value(c.oid::regclass) END), ' ' ORDER BY c.oid)
       FROM pg_depend d JOIN pg_class c ON c.oid = d.objid JOIN pg_sequence q ON q.seqrelid = c.oid
       WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass
         AND d.refobjid IN (m.log, m.tableoid) AND d.deptype = 'i'),
      (SELECT string_agg(format('%s %s', h.roleid, h.xmin), ' ' ORDER BY h.roleid, h.xmin::text)
       FROM pg_auth_members h JOIN pg_class c ON c.relowner = h.member WHERE c.oid = m.log))
    FROM {state} m)
