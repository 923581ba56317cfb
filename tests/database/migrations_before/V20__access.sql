-- Who may read and write: row level security on every table and every partition, and roles with least privilege.
--
-- Admins read. Nobody else does, but for the owner of the tables, roles with BYPASSRLS (Supabase's service_role), and two
-- roles of tallyd's own: tallyd_writer for the daemon, tallyd_reader for dashboards.
--
-- * A partition is a table: where its schema is served by an API it can be asked for by its own name, and its parent's
--   policies do not hold then. So each partition is closed on its own, and nothing at all is granted on it to the API's
--   roles; whoever may read the log reads it through the parent.
-- * Supabase's older projects grant everything on each new table to anon and authenticated. That is taken back each time
--   a partition is made, by tallyd_protect(), which is the one place that says what "closed" means.
-- * COPY is refused to a role that policies apply to. The daemon's role therefore owns the tables (and they are not under
--   FORCE ROW LEVEL SECURITY), or has BYPASSRLS. `tallyd migrate` says which of the two holds.
-- * Policies call tallyd_is_admin() directly, not in a subselect: distributed PostgreSQL cannot push that down.
-- * A migration that adds a table whose name does not begin with tallyd_ adds the name to tallyd_tables().

-- Who is an admin. The one place that says so; replace it to have it otherwise.
--
-- Either holds: the request's JWT says app_metadata.role = 'admin', which only the server side can set (user_metadata is the
-- user's own to write, and never looked at); or public.user_profiles has a row of the JWT's subject with is_admin, by its
-- column user_id or, without that, id. Without such a table, column, or any JWT: false, not an error.
CREATE FUNCTION public.tallyd_is_admin()
RETURNS boolean
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = ''
AS $$
DECLARE
    claims   jsonb := nullif(current_setting('request.jwt.claims', true), '')::jsonb;
    -- PostgREST before version 9 sets each claim apart.
    subject  text := coalesce(nullif(current_setting('request.jwt.claim.sub', true), ''), claims ->> 'sub');
    profiles regclass;
    key_name text;
    key_type text;
    found_it boolean;
BEGIN
    IF claims #>> '{app_metadata,role}' = 'admin' THEN
        RETURN true;
    END IF;
    profiles := to_regclass('public.user_profiles');
    IF subject IS NULL OR profiles IS NULL OR NOT has_table_privilege(profiles, 'SELECT') THEN
        RETURN false;
    END IF;
    SELECT a.attname, format_type(a.atttypid, NULL) INTO key_name, key_type
    FROM pg_catalog.pg_attribute a
    WHERE a.attrelid = profiles AND a.attname IN ('user_id', 'id') AND NOT a.attisdropped
      AND EXISTS (SELECT FROM pg_catalog.pg_attribute f WHERE f.attrelid = profiles AND f.attname = 'is_admin'
                  AND f.atttypid = 'boolean'::regtype AND NOT f.attisdropped)
    ORDER BY a.attname DESC LIMIT 1;
    -- A subject that is no key of theirs (another issuer's, say) is nobody's.
    IF key_name IS NULL
       OR key_type = 'uuid' AND subject !~* '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'
       OR key_type IN ('integer', 'bigint') AND subject !~ '^[0-9]{1,9}$' THEN
        RETURN false;
    END IF;
    EXECUTE format('SELECT EXISTS (SELECT FROM public.user_profiles WHERE %I = $1::%s AND is_admin)', key_name, key_type)
        INTO found_it USING subject;
    RETURN found_it;
END
$$;

-- Policies call it with the reader's rights, and some projects let nobody execute a function unasked.
GRANT EXECUTE ON FUNCTION public.tallyd_is_admin() TO PUBLIC;

COMMENT ON FUNCTION public.tallyd_is_admin IS 'Whether the request comes from an admin: who may read tallyd''s tables.';

-- tallyd's tables and partitions. Names that begin with tallyd_ need not be listed.
CREATE FUNCTION public.tallyd_tables()
RETURNS SETOF regclass
LANGUAGE sql STABLE
SET search_path = ''
AS $$
    SELECT c.oid::regclass
    FROM pg_catalog.pg_class c
    WHERE c.relkind IN ('r', 'p') AND (
        c.oid IN (SELECT t.relid FROM pg_catalog.pg_partition_tree('public.api_usage_log') t)
        OR c.relnamespace = 'public'::regnamespace AND (
            c.relname LIKE 'tallyd\_%'
            OR c.relname IN ('daily_api_costs', 'daily_user_api_costs', 'user_api_totals', 'ingest_watermark',
                             'dead_letters', 'api_prices', 'api_price_changes', 'api_budgets', 'api_budget_states', 'api_alerts',
                             'reprice_jobs')))
    ORDER BY c.relname
$$;

-- Closes a table to all but those who may see it, and returns whether anything had to be done. It only does what is
-- missing: changing a table's policies waits for everybody who uses it.
CREATE FUNCTION public.tallyd_protect(relation regclass)
RETURNS boolean
LANGUAGE plpgsql
SET search_path = ''
AS $$
DECLARE
    is_partition boolean;
    is_closed    boolean;
    changed      boolean := false;
    api_roles    text;
    item         record;
BEGIN
    SELECT c.relispartition, c.relrowsecurity INTO STRICT is_partition, is_closed
    FROM pg_catalog.pg_class c WHERE c.oid = relation;
    SELECT string_agg(quote_ident(r.rolname), ', ') INTO api_roles
    FROM pg_catalog.pg_roles r WHERE r.rolname IN ('anon', 'authenticated');
    IF NOT is_closed THEN
        EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', relation);
        changed := true;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_policy p WHERE p.polrelid = relation AND p.polname = 'tallyd_admins_read') THEN
        EXECUTE format('CREATE POLICY tallyd_admins_read ON %s FOR SELECT USING (public.tallyd_is_admin())', relation);
        changed := true;
    END IF;
    IF to_regrole('tallyd_reader') IS NOT NULL AND NOT EXISTS (
        SELECT FROM pg_catalog.pg_policy p WHERE p.polrelid = relation AND p.polname = 'tallyd_reader_reads') THEN
        EXECUTE format('CREATE POLICY tallyd_reader_reads ON %s FOR SELECT TO tallyd_reader USING (true)', relation);
        changed := true;
    END IF;

    -- What the API's roles have: nothing but that authenticated may ask a table that is no partition, and then sees what
    -- the policy lets an admin see. The table's columns and sequences count, too.
    FOR item IN
        SELECT DISTINCT a.kind, a.name
        FROM (SELECT 'TABLE' AS kind, relation::text AS name, x.grantee, x.privilege_type
              FROM pg_catalog.pg_class c, aclexplode(c.relacl) x WHERE c.oid = relation
              UNION ALL
              SELECT 'TABLE', relation::text, x.grantee, 'COLUMN'
              FROM pg_catalog.pg_attribute c, aclexplode(c.attacl) x WHERE c.attrelid = relation
              UNION ALL
              SELECT 'SEQUENCE', c.oid::regclass::text, x.grantee, x.privilege_type
              FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_class c ON c.oid = d.objid AND c.relkind = 'S',
                   aclexplode(c.relacl) x
              WHERE d.refobjid = relation AND d.classid = 'pg_catalog.pg_class'::regclass
                AND d.refclassid = 'pg_catalog.pg_class'::regclass AND d.deptype IN ('a', 'i')) AS a
        WHERE (a.grantee = 0 OR a.grantee IN (to_regrole('anon'), to_regrole('authenticated')))
          AND NOT (a.kind = 'TABLE' AND a.grantee IS NOT DISTINCT FROM to_regrole('authenticated')
                   AND a.privilege_type = 'SELECT' AND NOT is_partition)
    LOOP
        EXECUTE format('REVOKE ALL ON %s %s FROM %s', item.kind, item.name, concat_ws(', ', 'PUBLIC', api_roles));
        changed := true;
    END LOOP;
    FOR item IN
        SELECT r.rolname AS name, g.privileges
        FROM (VALUES ('authenticated', 'SELECT', is_partition), ('service_role', 'SELECT', false), ('tallyd_reader', 'SELECT', false),
                     ('tallyd_writer', 'SELECT, INSERT, UPDATE, DELETE', false)) AS g(name, privileges, is_denied)
        JOIN pg_catalog.pg_roles r ON r.rolname = g.name
        WHERE NOT g.is_denied
          AND EXISTS (SELECT FROM unnest(string_to_array(g.privileges, ', ')) AS p(name)
                      WHERE NOT has_table_privilege(r.oid, relation, p.name))
    LOOP
        EXECUTE format('GRANT %s ON TABLE %s TO %I', item.privileges, relation, item.name);
        changed := true;
    END LOOP;
    RETURN changed;
END
$$;

-- Closes what is not closed yet: tables, partitions that were made by hand, functions. Returns what it changed.
CREATE FUNCTION public.tallyd_protect_all()
RETURNS SETOF text
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = ''
AS $$
DECLARE
    item      record;
    api_roles text;
BEGIN
    -- One at a time: two that change the same table's grants fail each other. The number is 'tallyacl' in ASCII.
    PERFORM pg_advisory_xact_lock(8386103194289267564);
    SELECT string_agg(quote_ident(r.rolname), ', ') INTO api_roles
    FROM pg_catalog.pg_roles r WHERE r.rolname IN ('anon', 'authenticated');
    FOR item IN
        -- What belongs to somebody else is theirs to close.
        SELECT t.relation FROM public.tallyd_tables() AS t(relation) JOIN pg_catalog.pg_class c ON c.oid = t.relation
        WHERE pg_has_role(c.relowner, 'USAGE')
    LOOP
        IF public.tallyd_protect(item.relation) THEN
            RETURN NEXT item.relation::text;
        END IF;
    END LOOP;
    -- Functions are open to everybody by default, and some write with the owner's rights. The policies' own stays open: it
    -- tells whoever asks about themselves, and is called with the reader's rights.
    FOR item IN
        SELECT p.oid::regprocedure AS function, p.proname AS name
        FROM pg_catalog.pg_proc p
        WHERE p.pronamespace = 'public'::regnamespace AND p.proname <> 'tallyd_is_admin'
          AND (p.proname LIKE 'tallyd\_%' OR p.proname = 'increment_daily_cost') AND pg_has_role(p.proowner, 'USAGE')
    LOOP
        IF EXISTS (SELECT FROM pg_catalog.pg_proc p,
                          aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) AS x
                   WHERE p.oid = item.function
                     AND (x.grantee = 0 OR x.grantee IN (to_regrole('anon'), to_regrole('authenticated')))) THEN
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
END
$$;

-- As in V1, and closed before it becomes a part of the log.
CREATE OR REPLACE FUNCTION public.tallyd_ensure_partition(at timestamptz, granularity text DEFAULT 'month')
RETURNS text
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = '' SET timezone = 'UTC' SET datestyle = 'ISO, YMD'
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

    PERFORM pg_advisory_xact_lock(8386103194290250098);
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

-- The two roles, where this role may make any; `tallyd migrate` says what is missing otherwise. They cannot log in until
-- somebody gives them a password: ALTER ROLE tallyd_writer LOGIN PASSWORD '...'.
DO $$
DECLARE
    item record;
BEGIN
    FOR item IN SELECT * FROM (VALUES ('tallyd_reader', ''), ('tallyd_writer', 'BYPASSRLS')) AS r(name, attributes) LOOP
        CONTINUE WHEN to_regrole(item.name) IS NOT NULL;
        BEGIN
            EXECUTE format('CREATE ROLE %I NOLOGIN %s', item.name, item.attributes);
        EXCEPTION
            WHEN insufficient_privilege THEN
                RAISE NOTICE 'tallyd: the role % was not made: %. A superuser can: CREATE ROLE % NOLOGIN %',
                    item.name, SQLERRM, item.name, item.attributes;
            -- Another database of the cluster is being migrated at this moment.
            WHEN duplicate_object OR unique_violation THEN NULL;
        END;
    END LOOP;
END
$$;

SELECT public.tallyd_protect_all();
