-- Sets the columns' statistics targets to what they are: then a session that grants something on a
-- column, for which no lock on the table is taken, waits for us. A part of a PL/pgSQL block, as the
-- table's owner.
-- Locks: SHARE UPDATE EXCLUSIVE on the table.
--   {oid}  the table's
  EXECUTE (SELECT format('ALTER TABLE %s %s', {oid}::oid::regclass,
      string_agg(format('ALTER COLUMN %I SET STATISTICS %s', a.attname,
        coalesce(to_jsonb(a) ->> 'attstattarget', '-1')), ', '))
    FROM pg_attribute a WHERE a.attrelid = {oid} AND a.attnum > 0 AND NOT a.attisdropped);
