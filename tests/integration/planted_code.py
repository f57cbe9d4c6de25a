"""What anybody with CREATE on a schema can put there to be taken for the system's, derived from the catalogue.

Each thing says in the server's log what it is and for whom it was run. What can't be made (with types that only C knows,
say) can be made by superusers alone.
"""

import re

from paths import CONF, ROOT

# Every word of our SQL, and more.
SOURCES = [path for room in ("measure", "cleanup") for path in (ROOT / "lib" / room).rglob("*")
           if path.suffix in (".cpp", ".sql")] + [CONF / "roles.sql"]
WORDS = sorted({word for source in SOURCES for word in re.findall(r"\w+", source.read_text())})

HELPERS = """
SET search_path = pg_catalog;
SET check_function_bodies = off;
CREATE FUNCTION public.trap(what text) RETURNS bool LANGUAGE plpgsql AS
  $$ BEGIN RAISE LOG 'planted: % for %', what, session_user; RETURN true; END $$;
CREATE TABLE public.refused (command text, why text);
CREATE FUNCTION public.attempt(command text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  EXECUTE command;
EXCEPTION WHEN OTHERS THEN
  INSERT INTO public.refused VALUES (command, SQLERRM);
END $$;
CREATE FUNCTION public.plant(name text, arguments text, result text, last text DEFAULT 'NULL') RETURNS void
LANGUAGE sql AS $$
  SELECT public.attempt(format('CREATE FUNCTION public.%I(%s) RETURNS %s LANGUAGE plpgsql AS %L', name, arguments, result,
    format('BEGIN PERFORM public.trap(%L); RETURN %s; END', format('%s(%s)', name, arguments), last)))
$$;
-- Types that are converted without being asked.
CREATE TABLE public.converted AS
  SELECT casttarget AS wanted, castsource AS given FROM pg_cast c
  JOIN pg_type s ON s.oid = c.castsource JOIN pg_type t ON t.oid = c.casttarget
  WHERE castcontext = 'i' AND castsource <> casttarget AND s.typtype = 'b' AND t.typtype = 'b';
"""

# The same name and arguments: found first where `public` comes before pg_catalog. What takes "any" takes anyelement here.
FUNCTIONS = """
SELECT public.plant(proname, replace(replace(pg_get_function_arguments(oid), 'VARIADIC "any"', 'VARIADIC anyarray'),
                                     '"any"', 'anyelement'),
  pg_get_function_result(oid), CASE WHEN proretset OR prorettype = 'void'::regtype
    OR coalesce(proargmodes, '{}') && '{o,b,t}' THEN '' ELSE 'NULL' END)
FROM pg_proc p WHERE pronamespace = 'pg_catalog'::regnamespace AND prokind = 'f'
"""

# With one argument of a type that the system's function would convert: called instead of it for arguments of that type,
# even where pg_catalog comes first. Of the names that are in our SQL: the others only cost time.
BETTER_FUNCTIONS = f"""
SELECT public.plant(proname, arguments, result, last)
FROM (
  SELECT DISTINCT p.proname, pg_get_function_result(p.oid) AS result, 
    CASE WHEN p.proretset OR p.prorettype = 'void'::regtype THEN '' ELSE 'NULL' END AS last,
    (SELECT string_agg(format_type(CASE a.place WHEN k.place THEN v.given ELSE a.type END, NULL), ', ' ORDER BY a.place)
     FROM unnest(p.proargtypes) WITH ORDINALITY a(type, place)) AS arguments
  FROM pg_proc p, unnest(p.proargtypes) WITH ORDINALITY k(type, place), public.converted v
  WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.prokind = 'f' AND p.pronargs <= 3 AND v.wanted = k.type
    AND p.proallargtypes IS NULL AND p.proname = ANY ('{{{",".join(WORDS)}}}'::name[])
) q
WHERE to_regprocedure(format('public.%I(%s)', proname, arguments)) IS NULL
"""

AGGREGATES = """
SELECT public.plant(step, concat_ws(', ', result, nullif(arguments, '*')), result),
  public.attempt(format('CREATE AGGREGATE public.%I(%s) (SFUNC = public.%I, STYPE = %s)', proname, arguments, step, result))
FROM (
  SELECT p.proname, format('%s_%s', p.proname, p.oid) AS step, format_type(p.prorettype, NULL) AS result,
    replace(coalesce(nullif(pg_get_function_identity_arguments(p.oid), ''), '*'), '"any"', 'anyelement') AS arguments
  FROM pg_proc p JOIN pg_aggregate a ON a.aggfnoid = p.oid AND a.aggkind = 'n'
  WHERE p.pronamespace = 'pg_catalog'::regnamespace) q
"""

# For the operator's own types, and for all that are converted to them, on both sides.
OPERATORS = """
CREATE TABLE public.operators AS
WITH given AS (
  SELECT wanted, given, 1 AS distance FROM public.converted UNION ALL SELECT oid, oid, 0 FROM pg_type
)
SELECT DISTINCT ON (o.oprname, l.given, r.given) o.oprname AS name, format_type(l.given, NULL) AS left,
  format_type(r.given, NULL) AS right, format_type(o.oprresult, NULL) AS result,
  format('%s %s %s', l.given, o.oprname, r.given) AS step
FROM pg_operator o LEFT JOIN given l ON l.wanted = o.oprleft LEFT JOIN given r ON r.wanted = o.oprright
WHERE o.oprnamespace = 'pg_catalog'::regnamespace AND o.oprcode <> 0
ORDER BY o.oprname, l.given, r.given, coalesce(l.distance, 0) + coalesce(r.distance, 0);

SELECT public.plant(step, concat_ws(', ', "left", "right"), result),
  public.attempt(format('CREATE OPERATOR public.%s (%s)', name,
    concat_ws(', ', 'LEFTARG = ' || "left", 'RIGHTARG = ' || "right", format('FUNCTION = public.%I', step))))
FROM public.operators
"""

RELATIONS = """
SELECT public.attempt(format('CREATE VIEW public.%I AS SELECT %s FROM pg_catalog.%I WHERE public.trap(%L)', relname,
  (SELECT string_agg(quote_ident(attname), ', ') FROM pg_attribute
   WHERE attrelid = c.oid AND attnum > 0 AND atttypid <> 'anyarray'::regtype), relname, 'relation ' || relname))
FROM pg_class c WHERE relnamespace = 'pg_catalog'::regnamespace AND relkind IN ('r', 'v')
"""

# Last: from here on the names of types mean these.
TYPES = """
SELECT public.attempt(format('CREATE DOMAIN public.%I AS %s CHECK (public.trap(%L))', typname, format_type(oid, NULL),
  'type ' || typname))
FROM pg_type WHERE typnamespace = 'pg_catalog'::regnamespace AND typtype = 'b' AND typelem = 0
"""

STEPS = [HELPERS, FUNCTIONS, BETTER_FUNCTIONS, AGGREGATES, OPERATORS, RELATIONS, TYPES]
