-- What users cost, as base and deltas.
--
-- An upsert costs a batch some 20 microseconds for each of its users and table, so loading went by the number of users. A batch now
-- appends its sums by day, user and provider to a table of deltas, and a task of the daemon merges them into the base in
-- large runs. docs/internals/deltas.md has the whole of it.
--
-- | table or view | what it is |
-- |---|---|
-- | `tallyd_user_days`, `tallyd_user_totals` | the base: what `daily_user_api_costs` and `user_api_totals` were until now |
-- | `tallyd_user_deltas_0`, `tallyd_user_deltas_1` | sums that wait to be merged; each counts in both rollups |
-- | `tallyd_delta_ring` | one row: which of the two is appended to |
-- | `tallyd_user_day_parts`, `tallyd_user_total_parts` | base and deltas side by side, several rows a key: for what sums anyway |
-- | `daily_user_api_costs`, `user_api_totals` | their sums, one row a key. What dashboards and people read, and nobody writes |
--
-- * In every committed state base + deltas is the sum over api_usage_log and what was dropped from it (V8).
-- * Counts of the views are numeric: a sum over rows does not go back into int8, which a user's row may have filled (V2).
-- * A merge moves the rows of one side into the base in one transaction, and deletes them. They are not truncated: a reader with
--   an older snapshot would then see the base of before without them.
-- * A merge holds its side IN SHARE ROW EXCLUSIVE MODE. Whoever appends holds it IN ROW EXCLUSIVE MODE until COMMIT. So a merge
--   waits for transactions that still append, and sees all that they committed. A writer that has read the ring before it turned
--   appends to the other side: those rows wait for a later merge, and are not lost.
-- * Whoever changes the base holds the row `merge` of tallyd_locks. So the order of keys does not matter there.
-- * A transaction takes what it needs in this order: ingest_watermark, api_usage_log, the row `merge`, tallyd_user_deltas_0,
--   tallyd_user_deltas_1, tallyd_user_days, tallyd_user_totals, daily_api_costs, tallyd_dropped_*. A lane, which locks its row of
--   ingest_watermark first, takes its side before the call log, whose partition alone it locks.

ALTER TABLE public.daily_user_api_costs RENAME TO tallyd_user_days;
ALTER TABLE public.user_api_totals RENAME TO tallyd_user_totals;
ALTER INDEX public.daily_user_api_costs_pkey RENAME TO tallyd_user_days_pkey;
ALTER INDEX public.daily_user_api_costs_user RENAME TO tallyd_user_days_user;
ALTER INDEX public.user_api_totals_pkey RENAME TO tallyd_user_totals_pkey;

CREATE TABLE public.tallyd_user_deltas_0 (
    LIKE public.tallyd_user_days INCLUDING DEFAULTS,
    first_call_at timestamptz NOT NULL,
    last_call_at  timestamptz NOT NULL
);
-- Each batch is sorted by user, so a range of pages has a range of users: one user's deltas are found without reading all.
CREATE INDEX tallyd_user_deltas_0_user ON public.tallyd_user_deltas_0 USING brin (user_id) WITH (pages_per_range = 8);

CREATE TABLE public.tallyd_user_deltas_1 (LIKE public.tallyd_user_deltas_0 INCLUDING DEFAULTS);
CREATE INDEX tallyd_user_deltas_1_user ON public.tallyd_user_deltas_1 USING brin (user_id) WITH (pages_per_range = 8);

-- A merge deletes every row and vacuums. Where the daemon's role does not own the tables, autovacuum does it.
ALTER TABLE public.tallyd_user_deltas_0 SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000);
ALTER TABLE public.tallyd_user_deltas_1 SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000);

CREATE TABLE public.tallyd_delta_ring (
    is_only   bool        PRIMARY KEY DEFAULT true CHECK (is_only),
    -- The side that is appended to: 0 or 1.
    side      int2        NOT NULL DEFAULT 0 CHECK (side IN (0, 1)),
    -- Since when it is.
    turned_at timestamptz NOT NULL DEFAULT now(),
    -- When the last merge was committed.
    merged_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO public.tallyd_delta_ring DEFAULT VALUES;

INSERT INTO public.tallyd_locks (name) VALUES ('merge');

COMMENT ON TABLE public.tallyd_user_days IS 'The merged part of daily_user_api_costs. Read that view instead.';
COMMENT ON TABLE public.tallyd_user_totals IS 'The merged part of user_api_totals. Read that view instead.';
COMMENT ON TABLE public.tallyd_user_deltas_0 IS 'Sums of batches that wait to be merged into tallyd_user_days and tallyd_user_totals.';
COMMENT ON TABLE public.tallyd_user_deltas_1 IS 'Sums of batches that wait to be merged into tallyd_user_days and tallyd_user_totals.';
COMMENT ON TABLE public.tallyd_delta_ring IS 'Which of the two tables of deltas is appended to.';

-- The views run with the rights of their owner, whom row level security does not apply to. So they say themselves who sees rows: whom
-- the policies of the base do not apply to, members of tallyd_reader, and admins. (A view with the reader's rights, security_invoker,
-- exists from PostgreSQL 15 on.) The condition names no column, so PostgreSQL looks at it once, before it reads a row; and as
-- barriers, the views keep functions of the reader's from being asked before it.
CREATE VIEW public.tallyd_user_day_parts WITH (security_barrier) AS
    SELECT p.*
    FROM (
        SELECT day, user_id, provider, calls, errors, input_tokens, output_tokens,
               cache_read_tokens, cache_write_5m_tokens, cache_write_1h_tokens, requests, cost_usd, unpriced_calls, updated_at
        FROM public.tallyd_user_days
        UNION ALL
        SELECT day, user_id, provider, calls, errors, input_tokens, output_tokens,
               cache_read_tokens, cache_write_5m_tokens, cache_write_1h_tokens, requests, cost_usd, unpriced_calls, updated_at
        FROM public.tallyd_user_deltas_0
        UNION ALL
        SELECT day, user_id, provider, calls, errors, input_tokens, output_tokens,
               cache_read_tokens, cache_write_5m_tokens, cache_write_1h_tokens, requests, cost_usd, unpriced_calls, updated_at
        FROM public.tallyd_user_deltas_1
    ) AS p
    WHERE NOT row_security_active('public.tallyd_user_days'::regclass)
       OR coalesce(pg_has_role(to_regrole('tallyd_reader'), 'USAGE'), false)
       OR public.tallyd_is_admin();

CREATE VIEW public.tallyd_user_total_parts WITH (security_barrier) AS
    SELECT p.*
    FROM (
        SELECT user_id, provider, calls, errors, input_tokens, output_tokens, cache_read_tokens,
               cache_write_5m_tokens, cache_write_1h_tokens, requests, cost_usd, unpriced_calls, updated_at, first_call_at,
               last_call_at
        FROM public.tallyd_user_totals
        UNION ALL
        SELECT user_id, provider, calls, errors, input_tokens, output_tokens, cache_read_tokens,
               cache_write_5m_tokens, cache_write_1h_tokens, requests, cost_usd, unpriced_calls, updated_at, first_call_at,
               last_call_at
        FROM public.tallyd_user_deltas_0
        UNION ALL
        SELECT user_id, provider, calls, errors, input_tokens, output_tokens, cache_read_tokens,
               cache_write_5m_tokens, cache_write_1h_tokens, requests, cost_usd, unpriced_calls, updated_at, first_call_at,
               last_call_at
        FROM public.tallyd_user_deltas_1
    ) AS p
    WHERE NOT row_security_active('public.tallyd_user_totals'::regclass)
       OR coalesce(pg_has_role(to_regrole('tallyd_reader'), 'USAGE'), false)
       OR public.tallyd_is_admin();

CREATE VIEW public.daily_user_api_costs WITH (security_barrier) AS
    SELECT day, user_id, provider,
           sum(calls) AS calls, sum(errors) AS errors, sum(input_tokens) AS input_tokens,
           sum(output_tokens) AS output_tokens, sum(cache_read_tokens) AS cache_read_tokens, sum(cache_write_5m_tokens) AS cache_write_5m_tokens,
           sum(cache_write_1h_tokens) AS cache_write_1h_tokens, sum(requests) AS requests, sum(cost_usd) AS cost_usd,
           sum(unpriced_calls) AS unpriced_calls, max(updated_at) AS updated_at
    FROM public.tallyd_user_day_parts
    GROUP BY day, user_id, provider;

CREATE VIEW public.user_api_totals WITH (security_barrier) AS
    SELECT user_id, provider,
           sum(calls) AS calls, sum(errors) AS errors, sum(input_tokens) AS input_tokens,
           sum(output_tokens) AS output_tokens, sum(cache_read_tokens) AS cache_read_tokens, sum(cache_write_5m_tokens) AS cache_write_5m_tokens,
           sum(cache_write_1h_tokens) AS cache_write_1h_tokens, sum(requests) AS requests, sum(cost_usd) AS cost_usd,
           sum(unpriced_calls) AS unpriced_calls, max(updated_at) AS updated_at, min(first_call_at) AS first_call_at,
           max(last_call_at) AS last_call_at
    FROM public.tallyd_user_total_parts
    GROUP BY user_id, provider;

COMMENT ON VIEW public.daily_user_api_costs IS 'Sums over api_usage_log by day, user and provider.';
COMMENT ON VIEW public.user_api_totals IS 'Lifetime sums over api_usage_log by user and provider.';
COMMENT ON VIEW public.tallyd_user_day_parts IS 'What daily_user_api_costs adds up: several rows a key.';
COMMENT ON VIEW public.tallyd_user_total_parts IS 'What user_api_totals adds up: several rows a key.';

-- tallyd's tables, partitions and views: as in V12, with the views. Names of tables that begin with tallyd_ need not be listed.
CREATE OR REPLACE FUNCTION public.tallyd_tables()
RETURNS SETOF regclass
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT c.oid::regclass
    FROM pg_catalog.pg_class c
    WHERE c.relkind = 'v' AND c.relnamespace = 'public'::regnamespace
          AND c.relname IN ('daily_user_api_costs', 'user_api_totals', 'tallyd_user_day_parts', 'tallyd_user_total_parts')
       OR c.relkind IN ('r', 'p') AND (
        c.oid IN (SELECT t.relid FROM pg_catalog.pg_partition_tree('public.api_usage_log') t)
        OR c.relnamespace = 'public'::regnamespace AND (
            c.relname LIKE 'tallyd\_%'
            OR c.relname IN ('daily_api_costs', 'ingest_watermark', 'dead_letters', 'api_prices', 'api_price_changes',
                             'api_budgets', 'api_budget_states', 'api_alerts', 'reprice_jobs')))
    ORDER BY c.relname
$$;

-- Closes a table or view to all but those who may see it, and returns whether anything had to be done: as in V12, with views. Only
-- the owner keeps TRIGGER and REFERENCES. It only does what is missing: changing a table's policies waits for everybody who uses it.
CREATE OR REPLACE FUNCTION public.tallyd_protect(relation regclass)
RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    is_partition boolean;
    is_closed    boolean;
    is_view      boolean;
    changed      boolean := false;
    api_roles    text;
    item         record;
BEGIN
    SELECT c.relispartition, c.relrowsecurity, c.relkind = 'v' INTO STRICT is_partition, is_closed, is_view
    FROM pg_catalog.pg_class c WHERE c.oid = relation;
    SELECT string_agg(quote_ident(r.rolname), ', ') INTO api_roles
    FROM pg_catalog.pg_roles r WHERE r.rolname IN ('anon', 'authenticated');
    -- A view has no policies: its own WHERE says who sees rows.
    IF NOT (is_closed OR is_view) THEN
        EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', relation);
        changed := true;
    END IF;
    IF NOT is_view AND NOT EXISTS (
        SELECT FROM pg_catalog.pg_policy p WHERE p.polrelid = relation AND p.polname = 'tallyd_admins_read') THEN
        EXECUTE format('CREATE POLICY tallyd_admins_read ON %s FOR SELECT USING (public.tallyd_is_admin())', relation);
        changed := true;
    END IF;
    IF NOT is_view AND to_regrole('tallyd_reader') IS NOT NULL AND NOT EXISTS (
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

-- Records one call: its row in the call log and its share of the rollups, all or nothing. Returns the call's id. As in V10, but
-- that the user's share is appended to the deltas.
--
--   SELECT increment_daily_cost(provider => 'rentcast', endpoint => '/avm/value', user_id => '42', cost_usd => 0.20);
--   SELECT increment_daily_cost(provider => 'claude', model => 'claude-sonnet-4', input_tokens => 1200,
--                               output_tokens => 350, cost_usd => 0.00885);
--
-- * No cost: the call is unpriced and counted as such. It is never priced at 0.
-- * It does what the daemon does with a record: 'anthropic' becomes 'claude', the endpoint loses its query string (it may
--   hold personal data), and the same bounds hold. Distinct models and endpoints are not bounded here.
-- * The tables are taken in the daemon's order (above), so that the two do not deadlock.
-- * It runs as the owner of the tables, and only granted roles may execute it: it writes what costs are read from.
CREATE OR REPLACE FUNCTION public.increment_daily_cost(
    provider              text,
    model                 text        DEFAULT '',
    endpoint              text        DEFAULT '',
    user_id               text        DEFAULT '',
    cost_usd              numeric     DEFAULT NULL,
    input_tokens          int8        DEFAULT 0,
    output_tokens         int8        DEFAULT 0,
    cache_read_tokens     int8        DEFAULT 0,
    cache_write_5m_tokens int8        DEFAULT 0,
    cache_write_1h_tokens int8        DEFAULT 0,
    requests              int8        DEFAULT 1,
    status                int4        DEFAULT 200,
    latency_ms            int4        DEFAULT NULL,
    app                   text        DEFAULT '',
    request_id            text        DEFAULT '',
    service_tier          text        DEFAULT 'standard',
    extra_units           jsonb       DEFAULT NULL,
    metadata              jsonb       DEFAULT NULL,
    occurred_at           timestamptz DEFAULT NULL,
    id                    uuid        DEFAULT NULL
)
RETURNS uuid
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
-- Parameters have the columns' names, because callers write them. Inside they are always read through `call`.
#variable_conflict use_column
DECLARE
    call    public.api_usage_log;
    delta   public.tallyd_user_deltas_0;
    side    int2;
    at_day  date;
    failed  int8;
    unknown int8;
BEGIN
    call.id := coalesce(increment_daily_cost.id, gen_random_uuid());
    call.occurred_at := coalesce(increment_daily_cost.occurred_at, clock_timestamp());
    call.provider := lower(btrim(coalesce(increment_daily_cost.provider, '')));
    IF call.provider = 'anthropic' THEN
        call.provider := 'claude';
    END IF;
    call.model := coalesce(increment_daily_cost.model, '');
    call.endpoint := split_part(coalesce(increment_daily_cost.endpoint, ''), '?', 1);
    call.user_id := coalesce(increment_daily_cost.user_id, '');
    call.app := coalesce(increment_daily_cost.app, '');
    call.request_id := coalesce(increment_daily_cost.request_id, '');
    call.input_tokens := coalesce(increment_daily_cost.input_tokens, 0);
    call.output_tokens := coalesce(increment_daily_cost.output_tokens, 0);
    call.cache_read_tokens := coalesce(increment_daily_cost.cache_read_tokens, 0);
    call.cache_write_5m_tokens := coalesce(increment_daily_cost.cache_write_5m_tokens, 0);
    call.cache_write_1h_tokens := coalesce(increment_daily_cost.cache_write_1h_tokens, 0);
    call.requests := coalesce(increment_daily_cost.requests, 1);
    call.extra_units := increment_daily_cost.extra_units;
    call.service_tier := coalesce(nullif(increment_daily_cost.service_tier, ''), 'standard');
    call.status := coalesce(increment_daily_cost.status, 200);
    call.latency_ms := increment_daily_cost.latency_ms;
    call.cost_usd := increment_daily_cost.cost_usd;
    call.cost_source := CASE WHEN call.cost_usd IS NULL THEN 'unpriced' ELSE 'client' END;
    call.rollup_other := 0;
    call.metadata := increment_daily_cost.metadata;
    call.platform := '';
    PERFORM public.tallyd_check_call(call);

    at_day := public.tallyd_day(call.occurred_at);
    failed := (call.status >= 400)::int;
    unknown := (call.cost_usd IS NULL)::int;

    PERFORM public.tallyd_ensure_partition(call.occurred_at);
    INSERT INTO public.api_usage_log SELECT call.*;

    delta.day := at_day;
    delta.user_id := call.user_id;
    delta.provider := call.provider;
    delta.calls := 1;
    delta.errors := failed;
    delta.input_tokens := call.input_tokens;
    delta.output_tokens := call.output_tokens;
    delta.cache_read_tokens := call.cache_read_tokens;
    delta.cache_write_5m_tokens := call.cache_write_5m_tokens;
    delta.cache_write_1h_tokens := call.cache_write_1h_tokens;
    delta.requests := call.requests;
    delta.cost_usd := coalesce(call.cost_usd, 0);
    delta.unpriced_calls := unknown;
    delta.updated_at := clock_timestamp();
    delta.first_call_at := call.occurred_at;
    delta.last_call_at := call.occurred_at;
    side := (SELECT r.side FROM public.tallyd_delta_ring r);
    -- One of the two and no lock on the other, which may be merging.
    IF side = 0 THEN
        INSERT INTO public.tallyd_user_deltas_0 SELECT delta.*;
    ELSE
        INSERT INTO public.tallyd_user_deltas_1 SELECT delta.*;
    END IF;

    INSERT INTO public.daily_api_costs AS t
        (day, provider, model, endpoint, calls, errors, input_tokens, output_tokens, cache_read_tokens,
         cache_write_5m_tokens, cache_write_1h_tokens, requests, cost_usd, unpriced_calls, updated_at)
    VALUES (at_day, call.provider, call.model, call.endpoint, 1, failed, call.input_tokens, call.output_tokens,
            call.cache_read_tokens, call.cache_write_5m_tokens, call.cache_write_1h_tokens, call.requests,
            coalesce(call.cost_usd, 0), unknown, clock_timestamp())
    ON CONFLICT (day, provider, model, endpoint) DO UPDATE SET
        calls = t.calls + excluded.calls,
        errors = t.errors + excluded.errors,
        input_tokens = t.input_tokens + excluded.input_tokens,
        output_tokens = t.output_tokens + excluded.output_tokens,
        cache_read_tokens = t.cache_read_tokens + excluded.cache_read_tokens,
        cache_write_5m_tokens = t.cache_write_5m_tokens + excluded.cache_write_5m_tokens,
        cache_write_1h_tokens = t.cache_write_1h_tokens + excluded.cache_write_1h_tokens,
        requests = t.requests + excluded.requests,
        cost_usd = t.cost_usd + excluded.cost_usd,
        unpriced_calls = t.unpriced_calls + excluded.unpriced_calls,
        updated_at = excluded.updated_at;

    RETURN call.id;
END
$$;

SELECT public.tallyd_protect_all();
