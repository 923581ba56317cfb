-- No login gets the owner's rights through its temporary objects, and the audit log is append-only.
--
-- A function with `SET search_path = ''` still looks into pg_temp first: a domain `jsonb` that the caller has made there takes the
-- place of PostgreSQL's, and its CHECK runs with the rights of the function's owner. So the path of each function is
-- `pg_catalog, pg_temp`: what is named first is searched first, and pg_temp last. Everything in pg_catalog is found there, all
-- else is named with its schema.
--
-- **Each function that a later file makes has the same setting.** A test goes through pg_proc.

ALTER FUNCTION public.tallyd_append_only() SET search_path = pg_catalog, pg_temp;
ALTER FUNCTION public.tallyd_check_call(public.api_usage_log) SET search_path = pg_catalog, pg_temp;
ALTER FUNCTION public.tallyd_day(timestamptz) SET search_path = pg_catalog, pg_temp;
ALTER FUNCTION public.tallyd_ensure_partition(timestamptz, text) SET search_path = pg_catalog, pg_temp;
ALTER FUNCTION public.tallyd_ensure_partitions(timestamptz, timestamptz, text) SET search_path = pg_catalog, pg_temp;
ALTER FUNCTION public.tallyd_keep_price() SET search_path = pg_catalog, pg_temp;
ALTER FUNCTION public.tallyd_partition_at(timestamptz) SET search_path = pg_catalog, pg_temp;
ALTER FUNCTION public.tallyd_partitions() SET search_path = pg_catalog, pg_temp;
ALTER FUNCTION public.tallyd_price_changed() SET search_path = pg_catalog, pg_temp;
ALTER FUNCTION public.tallyd_range_is_taken(timestamptz, timestamptz) SET search_path = pg_catalog, pg_temp;
ALTER FUNCTION public.tallyd_tables() SET search_path = pg_catalog, pg_temp;
ALTER FUNCTION public.increment_daily_cost(text, text, text, text, numeric, int8, int8, int8, int8, int8, int8, int4, int4, text,
    text, text, jsonb, jsonb, timestamptz, uuid) SET search_path = pg_catalog, pg_temp;

-- Whether this role may read a table without running another role's code: a policy, the expression of an index, and a type's
-- CHECK are code of the table's owner. That owner is trusted who has this role's rights anyway.
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

-- As in V20. The key's type is one of PostgreSQL's own, and the table belongs to somebody who is trusted. A body that a
-- project has put in its place stays; only its path is closed, with pg_temp at its end.
DO $migrate$
DECLARE
    own  boolean;
    path text;
BEGIN
    SELECT md5(p.prosrc) = '8ddf2632a44e7ea6c449c28ef1f196d9',
           (SELECT string_agg(s.name, ', ')
            FROM unnest(p.proconfig) AS c(setting),
                 unnest(string_to_array(replace(substr(c.setting, length('search_path=') + 1), '"', ''), ',')) AS f(name),
                 LATERAL (SELECT quote_ident(btrim(f.name)) AS name) AS s
            WHERE c.setting LIKE 'search\_path=%' AND s.name NOT IN ('""', 'pg_catalog', 'pg_temp'))
    INTO STRICT own, path
    FROM pg_catalog.pg_proc p WHERE p.oid = 'public.tallyd_is_admin()'::regprocedure;
    IF own THEN
        EXECUTE $sql$
        CREATE OR REPLACE FUNCTION public.tallyd_is_admin()
        RETURNS boolean
        LANGUAGE plpgsql STABLE SECURITY DEFINER
        SET search_path = pg_catalog, pg_temp
        AS $body$
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
        $body$
        $sql$;
    ELSE
        EXECUTE 'ALTER FUNCTION public.tallyd_is_admin() SET search_path = ' || concat_ws(', ', 'pg_catalog', path, 'pg_temp');
    END IF;
END
$migrate$;

-- As in V21. Types of columns are looked at.
CREATE OR REPLACE FUNCTION public.tallyd_session_counts(
    max_idle interval DEFAULT NULL,
    max_age  interval DEFAULT NULL,
    period   interval DEFAULT '24 hours',
    at       timestamptz DEFAULT now()
)
RETURNS TABLE (active int8, active_users int8, refreshed int8, signed_in int8)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    -- By the catalog's row number: to_regclass() fails without a right to the schema. And by the columns' types: a cast from
    -- another type is that type's owner's code.
    readable pg_catalog.bool := coalesce(bool_and(
            has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT') AND NOT row_security_active(c.oid)
            AND NOT EXISTS (
                SELECT FROM (VALUES ('users', 'id', 'uuid'), ('users', 'deleted_at', 'timestamptz'),
                                    ('users', 'banned_until', 'timestamptz'), ('users', 'last_sign_in_at', 'timestamptz'),
                                    ('sessions', 'user_id', 'uuid'), ('sessions', 'created_at', 'timestamptz'),
                                    ('sessions', 'not_after', 'timestamptz'), ('sessions', 'refreshed_at', 'timestamp'))
                     AS f(of_table, name, type)
                LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attname = f.name AND NOT a.attisdropped
                WHERE f.of_table = c.relname AND a.atttypid IS DISTINCT FROM f.type::regtype::oid)), false) AND count(*) = 2
        FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = 'auth' AND c.relname IN ('sessions', 'users') AND c.relkind = 'r';
BEGIN
    IF NOT readable THEN
        RETURN;
    END IF;
    RETURN QUERY
        WITH people AS (
            SELECT u.id, u.last_sign_in_at FROM auth.users AS u
            WHERE u.deleted_at IS NULL AND (u.banned_until IS NULL OR u.banned_until <= at)
        ), alive AS (
            SELECT s.user_id, coalesce(s.refreshed_at AT TIME ZONE 'UTC', s.created_at) AS last_at
            FROM auth.sessions AS s JOIN people ON people.id = s.user_id
            WHERE (s.not_after IS NULL OR s.not_after > at)
              AND (max_age IS NULL OR s.created_at + max_age > at)
              AND (max_idle IS NULL OR coalesce(s.refreshed_at AT TIME ZONE 'UTC', s.created_at) + max_idle > at)
        )
        SELECT count(*), count(DISTINCT alive.user_id), count(*) FILTER (WHERE alive.last_at > at - period),
               (SELECT count(*) FROM people WHERE people.last_sign_in_at > at - period)
        FROM alive;
END
$$;

-- As in V20, and nobody but the owner has TRIGGER or REFERENCES.
CREATE OR REPLACE FUNCTION public.tallyd_protect(relation regclass)
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

-- As in V20, and tallyd_is_admin() is open to those only who may read one of the tables.
CREATE OR REPLACE FUNCTION public.tallyd_protect_all()
RETURNS SETOF text
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    item      record;
    api_roles text;
BEGIN
    -- One at a time: two that change the same table's grants fail each other. The number is 'tallyacl' in ASCII.
    PERFORM pg_advisory_xact_lock(8386103194289267564);
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

-- The audit log: rows are added and never deleted. The one change is that `tallyd users forget` takes a user's id out of the
-- notes about that user's budgets; who did what, and when, stays.
CREATE FUNCTION public.tallyd_keep_audit()
RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    forgotten CONSTANT pg_catalog.jsonb := '{"scope_value": "(forgotten)"}';
BEGIN
    IF (OLD.id, OLD.at, OLD.actor, OLD.address, OLD.action) IS NOT DISTINCT FROM (NEW.id, NEW.at, NEW.actor, NEW.address, NEW.action)
       AND (NEW.object = OLD.object
            OR left(OLD.object, 5) = 'user ' AND left(NEW.object, 17) = 'user (forgotten)/'
               AND right(OLD.object, length(NEW.object) - 16) = substr(NEW.object, 17))
       AND (NEW.old_value IS NOT DISTINCT FROM OLD.old_value
            OR OLD.old_value ->> 'scope' = 'user' AND NEW.old_value = OLD.old_value || forgotten)
       AND (NEW.new_value IS NOT DISTINCT FROM OLD.new_value
            OR OLD.new_value ->> 'scope' = 'user' AND NEW.new_value = OLD.new_value || forgotten) THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'tallyd: rows of % are only ever added', TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
END
$$;

CREATE TRIGGER tallyd_audit_log_append_only BEFORE DELETE OR TRUNCATE ON public.tallyd_audit_log
    FOR EACH STATEMENT EXECUTE FUNCTION public.tallyd_append_only();
CREATE TRIGGER tallyd_audit_log_kept BEFORE UPDATE ON public.tallyd_audit_log
    FOR EACH ROW EXECUTE FUNCTION public.tallyd_keep_audit();
-- Also where a session has set session_replication_role.
ALTER TABLE public.tallyd_audit_log ENABLE ALWAYS TRIGGER tallyd_audit_log_append_only;
ALTER TABLE public.tallyd_audit_log ENABLE ALWAYS TRIGGER tallyd_audit_log_kept;
ALTER TABLE public.api_price_changes ENABLE ALWAYS TRIGGER api_price_changes_append_only;

COMMENT ON TABLE public.tallyd_audit_log IS 'Every change made through the HTTP API or the command line. Append-only.';

SELECT public.tallyd_protect_all();
