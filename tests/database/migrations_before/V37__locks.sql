-- Locks that only roles which write tallyd's tables can hold.
--
-- Advisory locks belong to everybody: each login of the database can take each of them, and loading would wait. A row is locked with
-- FOR UPDATE, which needs the right to change the table. Nothing is ever written to these rows.
CREATE TABLE public.tallyd_locks (
    name   text NOT NULL,
    -- Several rows of one name admit as many transactions at once.
    number int4 NOT NULL DEFAULT 0,
    PRIMARY KEY (name, number)
);

COMMENT ON TABLE public.tallyd_locks IS 'Rows that tallyd locks with FOR UPDATE, so that one transaction at a time does what the name says.';

INSERT INTO public.tallyd_locks (name)
VALUES ('partitions'), ('access'), ('upkeep'), ('retention'), ('refusals'), ('budgets'), ('replay'), ('adopt');
-- Four for each of the sixteen lanes that a daemon has at most.
INSERT INTO public.tallyd_locks (name, number) SELECT 'load', slot FROM generate_series(0, 63) AS slot;

-- As in V20.
CREATE OR REPLACE FUNCTION public.tallyd_ensure_partition(at timestamptz, granularity text DEFAULT 'month')
RETURNS text
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' SET datestyle = 'ISO, YMD'
AS $$
DECLARE
    first_at timestamptz;
    end_at   timestamptz;
    wanted   text;
    made     text;
    copy     int := 1;
BEGIN
    IF granularity IS NULL OR granularity NOT IN ('month', 'day') THEN
        RAISE EXCEPTION 'tallyd: granularity is %, not ''month'' or ''day''', coalesce(quote_literal(granularity), 'NULL')
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF at IS NULL OR NOT isfinite(at) THEN
        RAISE EXCEPTION 'tallyd: a partition needs a finite instant' USING ERRCODE = 'invalid_parameter_value';
    END IF;

    SELECT p.partition_name INTO made FROM public.tallyd_partition_at(at) AS p LIMIT 1;
    IF FOUND THEN
        RETURN made;
    END IF;

    PERFORM FROM public.tallyd_locks AS l WHERE l.name = 'partitions' FOR UPDATE;
    SELECT p.partition_name INTO made FROM public.tallyd_partition_at(at) AS p LIMIT 1;
    IF FOUND THEN
        RETURN made;
    END IF;

    first_at := date_trunc(granularity, at);
    end_at := first_at + ('1 ' || granularity)::interval;
    wanted := to_char(first_at, CASE granularity WHEN 'month' THEN '"api_usage_log_"YYYY_MM' ELSE '"api_usage_log_"YYYY_MM_DD' END);
    IF granularity = 'month' AND public.tallyd_range_is_taken(first_at, end_at) THEN
        first_at := date_trunc('day', at);
        end_at := first_at + interval '1 day';
        wanted := to_char(first_at, '"api_usage_log_"YYYY_MM_DD');
    END IF;

    made := wanted;
    WHILE to_regclass(format('public.%I', made)) IS NOT NULL LOOP
        copy := copy + 1;
        made := wanted || '_v' || copy;
    END LOOP;

    EXECUTE format('CREATE TABLE public.%I (LIKE public.api_usage_log INCLUDING ALL)', made);
    EXECUTE format('ALTER TABLE public.api_usage_log ATTACH PARTITION public.%I FOR VALUES FROM (%L) TO (%L)',
                   made, first_at, end_at);
    -- After it has become a partition, and in the same transaction: nothing is granted on a partition.
    PERFORM public.tallyd_protect(format('public.%I', made)::regclass);
    RETURN made;
END
$$;

-- As in V26.
CREATE OR REPLACE FUNCTION public.tallyd_protect_all()
RETURNS SETOF text
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    item      record;
    api_roles text;
BEGIN
    -- One at a time: two that change the same table's grants fail each other.
    PERFORM FROM public.tallyd_locks AS l WHERE l.name = 'access' FOR UPDATE;
    FOR item IN
        -- What belongs to somebody else is theirs to close.
        SELECT t.relation FROM public.tallyd_tables() AS t(relation) JOIN pg_catalog.pg_class c ON c.oid = t.relation
        WHERE pg_has_role(c.relowner, 'USAGE')
    LOOP
        IF public.tallyd_protect(item.relation) THEN
            RETURN NEXT item.relation::text;
        END IF;
    END LOOP;
    -- Functions are open to everybody by default, and some run with the owner's rights. Supabase's older projects give them to
    -- service_role too.
    SELECT string_agg(quote_ident(r.rolname), ', ') INTO api_roles
    FROM pg_catalog.pg_roles r WHERE r.rolname IN ('anon', 'authenticated', 'service_role');
    FOR item IN
        SELECT p.oid::regprocedure AS function, p.proname AS name
        FROM pg_catalog.pg_proc p
        WHERE p.pronamespace = 'public'::regnamespace
          AND (p.proname LIKE 'tallyd\_%' OR p.proname = 'increment_daily_cost') AND pg_has_role(p.proowner, 'USAGE')
    LOOP
        IF EXISTS (SELECT FROM pg_catalog.pg_proc p,
                          aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) AS x
                   WHERE p.oid = item.function
                     AND (x.grantee = 0 OR x.grantee = to_regrole('anon')
                          OR x.grantee = to_regrole('authenticated') AND item.name <> 'tallyd_is_admin'
                          OR x.grantee = to_regrole('service_role') AND x.grantee <> p.proowner AND item.name NOT IN
                             ('tallyd_is_admin', 'increment_daily_cost', 'tallyd_session_counts'))) THEN
            EXECUTE format('REVOKE ALL ON FUNCTION %s FROM %s', item.function, concat_ws(', ', 'PUBLIC', api_roles));
            RETURN NEXT item.function::text;
        END IF;
        IF has_function_privilege(to_regrole('tallyd_writer'), item.function, 'EXECUTE') IS FALSE THEN
            EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO tallyd_writer', item.function);
        END IF;
        IF item.name IN ('increment_daily_cost', 'tallyd_session_counts')
           AND has_function_privilege(to_regrole('service_role'), item.function, 'EXECUTE') IS FALSE THEN
            EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO service_role', item.function);
        END IF;
    END LOOP;
    -- Policies call it with the reader's rights: each role that may read one of the tables needs it.
    FOR item IN
        SELECT DISTINCT r.rolname AS name
        FROM public.tallyd_tables() AS t(relation) JOIN pg_catalog.pg_class c ON c.oid = t.relation,
             aclexplode(c.relacl) x JOIN pg_catalog.pg_roles r ON r.oid = x.grantee
        WHERE x.privilege_type = 'SELECT' AND pg_has_role(c.relowner, 'USAGE')
          AND (SELECT pg_has_role(p.proowner, 'USAGE') FROM pg_catalog.pg_proc p WHERE p.oid = 'public.tallyd_is_admin()'::regprocedure)
          AND NOT has_function_privilege(r.oid, 'public.tallyd_is_admin()', 'EXECUTE')
    LOOP
        EXECUTE format('GRANT EXECUTE ON FUNCTION public.tallyd_is_admin() TO %I', item.name);
    END LOOP;
END
$$;

SELECT public.tallyd_protect_all();
