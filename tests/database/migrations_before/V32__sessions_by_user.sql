-- Sessions by user, so that the daemon can count them by a column of the application's own table of users.

-- For each user with a session: those that Supabase would still refresh, as tallyd_session_counts() counts them, and all that were not
-- signed out. No row where there is no auth.sessions that can be read.
--
-- It runs as the migrating role, because row level security hides auth.sessions. It tells who is signed in, so only that role may call it.
CREATE FUNCTION public.tallyd_sessions_by_user(
    max_idle interval DEFAULT NULL,
    max_age  interval DEFAULT NULL,
    at       timestamptz DEFAULT pg_catalog.now()
)
RETURNS TABLE (user_id text, active int8, total int8)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    -- As in tallyd_session_counts(): a cast from another type than Supabase's would be code of that type's owner.
    readable pg_catalog.bool := coalesce(bool_and(
            has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT') AND NOT row_security_active(c.oid)
            AND NOT EXISTS (
                SELECT FROM (VALUES ('users', 'id', 'uuid'), ('users', 'deleted_at', 'timestamptz'),
                                    ('users', 'banned_until', 'timestamptz'), ('sessions', 'user_id', 'uuid'),
                                    ('sessions', 'created_at', 'timestamptz'), ('sessions', 'not_after', 'timestamptz'),
                                    ('sessions', 'refreshed_at', 'timestamp')) AS f(of_table, name, type)
                LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attname = f.name AND NOT a.attisdropped
                WHERE f.of_table = c.relname AND a.atttypid IS DISTINCT FROM f.type::regtype::oid)), false) AND count(*) = 2
        FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = 'auth' AND c.relname IN ('sessions', 'users') AND c.relkind = 'r';
BEGIN
    IF NOT readable THEN
        RETURN;
    END IF;
    RETURN QUERY
        SELECT u.id::text,
               count(*) FILTER (WHERE (u.banned_until IS NULL OR u.banned_until <= at)
                   AND (s.not_after IS NULL OR s.not_after > at)
                   AND (max_age IS NULL OR s.created_at + max_age > at)
                   AND (max_idle IS NULL OR coalesce(s.refreshed_at AT TIME ZONE 'UTC', s.created_at) + max_idle > at)),
               count(*)
        FROM auth.sessions AS s JOIN auth.users AS u ON u.id = s.user_id
        WHERE u.deleted_at IS NULL
        GROUP BY u.id;
END
$$;

REVOKE ALL ON FUNCTION public.tallyd_sessions_by_user(interval, interval, timestamptz) FROM PUBLIC;
