-- The table and what is made with it: classid, objid. A SELECT.
-- Locks: none.
--   {oid}  the table, an expression
    SELECT 'pg_class'::regclass AS classid, c.oid AS objid FROM pg_class c WHERE c.oid = {oid}
    UNION ALL
    SELECT 'pg_type'::regclass, unnest(ARRAY[y.oid, y.typarray])
    FROM pg_class c JOIN pg_type y ON y.oid = c.reltype WHERE c.oid = {oid}
    UNION ALL
    SELECT 'pg_class'::regclass, i.indexrelid FROM pg_index i WHERE i.indrelid = {oid}
    UNION ALL
    SELECT 'pg_constraint'::regclass, n.oid FROM pg_constraint n WHERE n.conrelid = {oid}
