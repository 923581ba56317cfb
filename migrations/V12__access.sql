-- Who may read and write: row level security on every table and every partition, and roles with least privilege.
--
-- Admins read. Nobody else does, but for the owner of the tables, roles with BYPASSRLS (Supabase's service_role), and two
-- roles of tallyd's own: tallyd_writer for the daemon, tallyd_reader for dashboards.
--
-- * A partition is a table: where its schema is served by an API it can be asked for by its own name, and its parent's
--   policies do not hold then. So each partition is closed on its own, and nothing at all is granted on it to the API's
--   roles; a role that may read the call log reads it through the parent.
-- * Supabase's older projects grant everything on each new table to anon and authenticated. That is taken back each time
--   a partition is made, by tallyd_protect(), which is the one place that says what "closed" means.
-- * COPY is refused to a role that policies apply to. The daemon's role therefore owns the tables (and they are not under
--   FORCE ROW LEVEL SECURITY), or has BYPASSRLS. `tallyd migrate` says which of the two holds.
-- * Policies call tallyd_is_admin() directly, not in a subselect: distributed PostgreSQL cannot push that down.
-- * A later file that adds a table or a function ends with `SELECT public.tallyd_protect_all();`. One that adds a table whose
--   name does not begin with tallyd_ adds the name to tallyd_tables().

-- Whether this role may read a table without running another role's code: a policy, the expression of an index, and a type's
-- CHECK are code of the table's owner. An owner is trusted if they have this role's rights anyway.
CREATE FUNCTION public.tallyd_trusts(relation regclass)
RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce(bool_or(
        owner.rolsuper OR c.relowner = me.oid OR NOT me.rolsuper AND pg_has_role(me.oid, c.relowner, 'USAGE')
        OR c.relowner = (SELECT d.datdba FROM pg_catalog.pg_database d WHERE d.datname = current_database())), false)
    FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_roles owner ON owner.oid = c.relowner
    JOIN pg_catalog.pg_roles me ON me.rolname = current_user
    WHERE c.oid = relation AND c.relkind IN ('r', 'p') AND NOT row_security_active(c.oid)
$$;

-- Who is an admin. The one place that says so; replace it to have it otherwise.
--
-- Either holds: the request's JWT says app_metadata.role = 'admin', which only the server side can set (user_metadata is the
-- user's own to write, and never looked at); or public.user_profiles has a row of the JWT's subject with is_admin, by its
-- column user_id or, without that, id. That column's type is one of PostgreSQL's own, and the table belongs to a role that
-- tallyd_trusts(). Without such a table, column, or any JWT: false, not an error.
CREATE FUNCTION public.tallyd_is_admin()
RETURNS boolean
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
        DECLARE
            claims   pg_catalog.jsonb := nullif(current_setting('request.jwt.claims', true), '')::pg_catalog.jsonb;
            -- PostgREST before version 9 sets each claim apart.
            subject  pg_catalog.text := coalesce(nullif(current_setting('request.jwt.claim.sub', true), ''), claims ->> 'sub');
            profiles pg_catalog.regclass;
            key_name pg_catalog.text;
            key_type pg_catalog.text;
            found_it pg_catalog.bool;
        BEGIN
            IF claims #>> '{app_metadata,role}' = 'admin' THEN
                RETURN true;
            END IF;
            profiles := to_regclass('public.user_profiles');
            IF subject IS NULL OR profiles IS NULL OR NOT has_table_privilege(profiles, 'SELECT')
               OR NOT public.tallyd_trusts(profiles) THEN
                RETURN false;
            END IF;
            SELECT a.attname, format_type(a.atttypid, NULL) INTO key_name, key_type
            FROM pg_catalog.pg_attribute a
            WHERE a.attrelid = profiles AND a.attname IN ('user_id', 'id') AND NOT a.attisdropped
              AND EXISTS (SELECT FROM pg_catalog.pg_attribute f WHERE f.attrelid = profiles AND f.attname = 'is_admin'
                          AND f.atttypid = 'boolean'::regtype AND NOT f.attisdropped)
            ORDER BY a.attname DESC LIMIT 1;
            -- A subject that is no key of theirs (another issuer's, say) is nobody's.
            IF key_name IS NULL OR key_type NOT IN ('uuid', 'integer', 'bigint', 'text', 'character varying')
               OR key_type = 'uuid' AND subject !~* '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'
               OR key_type IN ('integer', 'bigint') AND subject !~ '^[0-9]{1,9}$' THEN
                RETURN false;
            END IF;
            EXECUTE format('SELECT EXISTS (SELECT FROM public.user_profiles WHERE %I = $1::%s AND is_admin)', key_name, key_type)
                INTO found_it USING subject;
            RETURN found_it;
        END
        $$;

COMMENT ON FUNCTION public.tallyd_is_admin IS 'Whether the request comes from an admin: who may read tallyd''s tables.';

-- tallyd's tables and partitions. Names that begin with tallyd_ need not be listed.
CREATE FUNCTION public.tallyd_tables()
RETURNS SETOF regclass
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
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

-- Closes a table to all but those who may see it, and returns whether anything had to be done. Only the owner keeps TRIGGER and
-- REFERENCES. It only does what is missing: changing a table's policies waits for everybody who uses it.
CREATE FUNCTION public.tallyd_protect(relation regclass)
RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
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
    -- A trigger or a foreign key of somebody else's runs that role's code when the owner writes.
    FOR item IN
        SELECT DISTINCT r.rolname AS name
        FROM pg_catalog.pg_class c, aclexplode(c.relacl) x, pg_catalog.pg_roles r
        WHERE c.oid = relation AND r.oid = x.grantee AND x.grantee <> c.relowner AND x.grantor = c.relowner
          AND x.privilege_type IN ('TRIGGER', 'REFERENCES')
    LOOP
        EXECUTE format('REVOKE TRIGGER, REFERENCES ON TABLE %s FROM %I', relation, item.name);
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

-- Closes what is not closed yet: tables, partitions that were made by hand, functions. Returns what it changed. Policies call
-- tallyd_is_admin() with the reader's rights, so it is open to the roles that may read one of the tables, and to no other.
CREATE FUNCTION public.tallyd_protect_all()
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
