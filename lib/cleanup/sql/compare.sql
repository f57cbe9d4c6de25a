-- Compares a table with the definition that the swap began with, in run. What others have made of a
-- new table is none of its definition: the next one won't have it. A part of a PL/pgSQL block, as
-- the table's owner.
-- Locks: none.
--   {lines}         definition_lines.sql of the table
--   {what}, {code}  a complaint and its SQLSTATE
  lines := {lines};
  SELECT d.line INTO differs FROM (
    (SELECT unnest(lines) EXCEPT ALL SELECT unnest(run.definition))
    UNION ALL
    (SELECT unnest(run.definition) EXCEPT ALL SELECT unnest(lines))) d(line) LIMIT 1;
  IF differs IS NOT NULL THEN
    RAISE EXCEPTION '{what}: %', differs USING ERRCODE =
      CASE WHEN differs LIKE '% depends on the table' THEN 'DJS03' ELSE '{code}' END;
  END IF;
