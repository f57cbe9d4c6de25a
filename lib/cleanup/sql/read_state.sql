-- Reads the state, without waiting for its row.
--
-- A part of a PL/pgSQL block, as the table's owner.
-- Locks: none on the table.
-- Report: run_id (x: of no run), phase (with _ for spaces), shadow, keep_seconds, copied, rows_before, bytes_before,
-- age (seconds), lease (seconds left), backend_gone, is_vacuumed (shadow or log, by any session),
-- and intact: table, triggers and helpers are as the run left them.
--   {oid}, {table_literal}  the table's OID, and its name as a string
--   {state}                 the state's name
--   {is_vacuumed}           a condition on the state m
--   {trigger_mark}          trigger_mark.sql
--   {original_lines}        definition_lines.sql of the table
--   {created}               a phase, see swap_phase.hpp
  SELECT m.*,
    extract(epoch FROM clock_timestamp() - m.started) AS age,
    extract(epoch FROM m.lease_until - clock_timestamp()) AS lease,
    NOT EXISTS (SELECT FROM pg_stat_activity a WHERE a.pid = m.backend) AS backend_gone,
    {is_vacuumed} AS is_vacuumed,
    m.source = {oid} AND to_regclass({table_literal}) = m.source
      AND EXISTS (SELECT FROM pg_class c WHERE c.oid = m.shadow AND c.relname = 'djs_{oid}_new')
      AND EXISTS (SELECT FROM pg_class c WHERE c.oid = m.log AND c.relname = 'djs_{oid}_log'
                  AND c.relnamespace = (SELECT o.relnamespace FROM pg_class o WHERE o.oid = {oid}))
      AND (m.phase = '{created}' OR {trigger_mark} IS NOT DISTINCT FROM m.triggers)
      AND {original_lines} = m.definition AS intact
  INTO item FROM {state} m;
  RAISE INFO 'djs: run_id=% phase=% shadow=% keep_seconds=% copied=% rows_before=% bytes_before=%',
    CASE WHEN item.run_id ~ '^[0-9a-f]{32}$' THEN item.run_id ELSE 'x' END, replace(item.phase, ' ', '_'),
    item.shadow, item.keep_seconds, item.copied, item.rows_before::numeric,
    item.bytes_before::numeric;  -- float8 has as many digits as is set
  RAISE INFO 'djs: age=% lease=% backend_gone=% is_vacuumed=% intact=%', item.age, item.lease,
    item.backend_gone, item.is_vacuumed, coalesce(item.intact, false);
