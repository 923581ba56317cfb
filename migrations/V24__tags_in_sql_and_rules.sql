-- Tags of calls that are recorded in SQL: increment_daily_cost(…, tags => '{"team": "search"}'). And the filters of alert rules name a
-- tag as budgets and requests do: tag:team.
--
-- The function gets a parameter at its end, with a default. So it is dropped and made again with the grants that it has: beside a
-- second function of the same name, the calls of today would be ambiguous.

-- A call's tags as they are stored: without empty values, and with the hash of an API key in place of the key. NULL without a tag.
-- Refuses tags that the daemon refuses.
CREATE FUNCTION public.tallyd_stored_tags(tags jsonb)
RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    fault pg_catalog.text := CASE
        WHEN tags IS NULL THEN NULL
        WHEN jsonb_typeof(tags) <> 'object' THEN 'tags is not a JSON object'
        WHEN (SELECT count(*) FROM jsonb_object_keys(tags)) > 16 THEN 'it has more than 16 tags'
        WHEN EXISTS (SELECT FROM jsonb_each(tags) AS t WHERE jsonb_typeof(t.value) NOT IN ('string', 'null'))
            THEN 'the value of a tag is not text'
        WHEN EXISTS (SELECT FROM jsonb_object_keys(tags) AS t(name) WHERE octet_length(t.name) NOT BETWEEN 1 AND 64)
            THEN 'the name of a tag does not have 1 to 64 bytes'
        WHEN EXISTS (SELECT FROM jsonb_each_text(tags) AS t WHERE octet_length(t.value) > 256)
            THEN 'the value of a tag is longer than 256 bytes'
    END;
BEGIN
    IF fault IS NOT NULL THEN
        RAISE EXCEPTION 'tallyd: the call is refused: %', fault USING ERRCODE = 'invalid_parameter_value';
    END IF;
    RETURN (SELECT jsonb_object_agg(t.key, CASE
                WHEN lower(t.key) = 'api_key' AND t.value !~ '^sha256:[0-9a-f]{12}$'
                    THEN 'sha256:' || left(encode(sha256(convert_to(t.value, 'UTF8')), 'hex'), 12)
                ELSE t.value END)
            FROM jsonb_each_text(tags) AS t WHERE t.value <> '');
END
$$;

-- increment_daily_cost() with the parameter. The rest of its text stays what the files before this one have made of it.
DO $do$
DECLARE
    former record;
    definition text;
    made regprocedure;
    grantee record;
    last_parameter CONSTANT text := 'id uuid DEFAULT NULL::uuid)';
    before CONSTANT text := '    PERFORM public.tallyd_check_call(call);
';
BEGIN
    -- An application may have a function of the same name and other parameters.
    SELECT p.oid, p.proowner, p.proacl, pg_get_functiondef(p.oid) AS text INTO former FROM pg_catalog.pg_proc p
    WHERE p.pronamespace = 'public'::regnamespace AND p.proname = 'increment_daily_cost' AND position(before IN p.prosrc) > 0;
    IF NOT FOUND OR position(last_parameter IN former.text) = 0 THEN
        RAISE EXCEPTION 'tallyd: increment_daily_cost is not the function of the files before this one';
    END IF;
    definition := replace(former.text, last_parameter, 'id uuid DEFAULT NULL::uuid, tags jsonb DEFAULT NULL::jsonb)');
    definition := replace(definition, before, $add$    call.tags := public.tallyd_stored_tags(increment_daily_cost.tags);
    -- As in a record, the tag app is the application of a call that names none.
    call.app := coalesce(nullif(call.app, ''), call.tags ->> 'app', '');
    call.tags := nullif(call.tags - 'app', '{}');
$add$ || before);
    EXECUTE format('DROP FUNCTION %s', former.oid::regprocedure);
    EXECUTE definition;
    SELECT p.oid::regprocedure INTO STRICT made FROM pg_catalog.pg_proc p
    WHERE p.pronamespace = 'public'::regnamespace AND p.proname = 'increment_daily_cost' AND position(before IN p.prosrc) > 0;
    FOR grantee IN
        SELECT r.rolname AS name, bool_or(x.is_grantable) AS passes_on
        FROM aclexplode(former.proacl) AS x JOIN pg_catalog.pg_roles r ON r.oid = x.grantee
        WHERE x.grantee <> former.proowner GROUP BY 1
    LOOP
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO %I%s', made, grantee.name,
                       CASE WHEN grantee.passes_on THEN ' WITH GRANT OPTION' ELSE '' END);
    END LOOP;
    EXECUTE format('ALTER FUNCTION %s OWNER TO %I', made, pg_get_userbyid(former.proowner));
END
$do$;

UPDATE public.tallyd_alert_rules AS r SET filter = (
    SELECT jsonb_object_agg(CASE WHEN f.key IN ('provider', 'model', 'user', 'app') THEN f.key ELSE 'tag:' || f.key END, f.value)
    FROM jsonb_each(r.filter) AS f)
WHERE r.filter <> '{}';

SELECT public.tallyd_protect_all();
