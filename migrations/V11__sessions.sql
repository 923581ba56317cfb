-- Sessions of Supabase's auth schema, counted.
--
-- Row level security hides auth.sessions and auth.users from all but their owner, so both functions run as the migrating role,
-- which may read them on Supabase (postgres: SELECT and BYPASSRLS). refreshed_at is in UTC without saying so; compared with now()
-- as it is, it would be wrong by the session's time zone. The columns' types are looked at first: a cast from another type than
-- Supabase's would be code of that type's owner.

-- Four counts, each with its own definition; no row where there is no auth.sessions that can be read. They tell sums and nothing
-- about a single user.
--
-- * active: sessions that Supabase would still refresh. Not past their not_after, not older than max_age, not idle for
--   longer than max_idle, and of a user who is neither banned at this moment nor deleted. What counts as idle is the time
--   since the last refresh, or since the session's begin if there was none. max_age and max_idle are the project's
--   settings "time-box user sessions" and "inactivity timeout"; NULL: there is no such limit. A user who logs out has no row.
-- * active_users: the users of the active sessions.
-- * refreshed: of the active ones, those that were begun or refreshed within the period.
-- * signed_in: users, not sessions, with a sign-in within the period, neither banned nor deleted; also if they have logged
--   out since.
CREATE FUNCTION public.tallyd_session_counts(
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

-- For each user with a session: those that Supabase would still refresh, as tallyd_session_counts() counts them, and all that
-- were not signed out. The daemon counts them by a column of the application's own table of users. No row where there is no
-- auth.sessions that can be read. It tells who is signed in, so only the migrating role and tallyd_writer may call it.
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
