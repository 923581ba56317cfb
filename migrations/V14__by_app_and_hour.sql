-- Two more rollups: costs by application and day, and by hour. Until now both were sums over the call log, made for each request.
--
-- What holds for the rollups of V2 holds for these: each call counts in all of them, in the transaction that writes it. A
-- transaction takes them after user_api_totals and before daily_api_costs.
--
-- Calls that were dropped from the call log before this file was applied are in neither. tallyd_settings says in
-- sums_by_app_and_hour_from the first day that both have whole; a database without such calls does not have the row.

CREATE TABLE public.daily_app_api_costs (
    day                   date        NOT NULL,
    -- '(other)' past the bound of distinct values a day.
    app                   text        NOT NULL DEFAULT '',
    provider              text        NOT NULL DEFAULT '',
    model                 text        NOT NULL DEFAULT '',
    calls                 int8        NOT NULL DEFAULT 0,
    errors                int8        NOT NULL DEFAULT 0,
    input_tokens          int8        NOT NULL DEFAULT 0,
    output_tokens         int8        NOT NULL DEFAULT 0,
    cache_read_tokens     int8        NOT NULL DEFAULT 0,
    cache_write_5m_tokens int8        NOT NULL DEFAULT 0,
    cache_write_1h_tokens int8        NOT NULL DEFAULT 0,
    requests              int8        NOT NULL DEFAULT 0,
    cost_usd              numeric     NOT NULL DEFAULT 0,
    unpriced_calls        int8        NOT NULL DEFAULT 0,
    updated_at            timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (day, app, provider, model)
) WITH (fillfactor = 60);

CREATE TABLE public.hourly_api_costs (
    -- When the hour begins by the clocks of the reporting time zone.
    hour                  timestamptz NOT NULL,
    provider              text        NOT NULL DEFAULT '',
    model                 text        NOT NULL DEFAULT '',
    calls                 int8        NOT NULL DEFAULT 0,
    errors                int8        NOT NULL DEFAULT 0,
    input_tokens          int8        NOT NULL DEFAULT 0,
    output_tokens         int8        NOT NULL DEFAULT 0,
    cache_read_tokens     int8        NOT NULL DEFAULT 0,
    cache_write_5m_tokens int8        NOT NULL DEFAULT 0,
    cache_write_1h_tokens int8        NOT NULL DEFAULT 0,
    requests              int8        NOT NULL DEFAULT 0,
    cost_usd              numeric     NOT NULL DEFAULT 0,
    unpriced_calls        int8        NOT NULL DEFAULT 0,
    updated_at            timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (hour, provider, model)
) WITH (fillfactor = 60);

CREATE TABLE public.tallyd_dropped_app_costs
    (LIKE public.daily_app_api_costs INCLUDING DEFAULTS INCLUDING INDEXES);
CREATE TABLE public.tallyd_dropped_hour_costs
    (LIKE public.hourly_api_costs INCLUDING DEFAULTS INCLUDING INDEXES);

COMMENT ON TABLE public.daily_app_api_costs IS 'Sums over api_usage_log by day, application, provider and model.';
COMMENT ON TABLE public.hourly_api_costs IS 'Sums over api_usage_log by hour, provider and model.';
COMMENT ON TABLE public.tallyd_dropped_app_costs IS 'What dropped partitions of the log add to daily_app_api_costs. Needed by tallyd reconcile.';
COMMENT ON TABLE public.tallyd_dropped_hour_costs IS 'What dropped partitions of the log add to hourly_api_costs. Needed by tallyd reconcile.';
COMMENT ON COLUMN public.api_usage_log.rollup_other IS 'Bits: 1 the model, 2 the endpoint, 4 the application counts under (other) in the rollups.';

-- What the call log has. Loading waits until it is done: some seconds for each ten million calls. Both are made from one scan.
LOCK TABLE public.ingest_watermark, public.api_usage_log IN SHARE ROW EXCLUSIVE MODE;

CREATE TEMP TABLE tallyd_filling ON COMMIT DROP AS
SELECT date_trunc('hour', l.occurred_at, z.zone) AS hour, l.app, l.provider,
       CASE WHEN l.rollup_other & 1 <> 0 THEN '(other)' ELSE l.model END AS model,
       count(*) AS calls, count(*) FILTER (WHERE l.status >= 400) AS errors,
       sum(l.input_tokens) AS input_tokens, sum(l.output_tokens) AS output_tokens,
       sum(l.cache_read_tokens) AS cache_read_tokens,
       sum(l.cache_write_5m_tokens) AS cache_write_5m_tokens, sum(l.cache_write_1h_tokens) AS cache_write_1h_tokens,
       sum(l.requests) AS requests, coalesce(sum(l.cost_usd), 0) AS cost_usd,
       count(*) FILTER (WHERE l.cost_usd IS NULL) AS unpriced_calls
FROM public.api_usage_log AS l, (SELECT value AS zone FROM public.tallyd_settings WHERE key = 'reporting_time_zone') AS z
GROUP BY 1, 2, 3, 4;

INSERT INTO public.daily_app_api_costs
    (day, app, provider, model, calls, errors, input_tokens, output_tokens, cache_read_tokens,
     cache_write_5m_tokens, cache_write_1h_tokens, requests, cost_usd, unpriced_calls)
SELECT (f.hour AT TIME ZONE z.zone)::date, f.app, f.provider, f.model, sum(f.calls), sum(f.errors), sum(f.input_tokens),
       sum(f.output_tokens), sum(f.cache_read_tokens), sum(f.cache_write_5m_tokens), sum(f.cache_write_1h_tokens),
       sum(f.requests), sum(f.cost_usd), sum(f.unpriced_calls)
FROM pg_temp.tallyd_filling AS f, (SELECT value AS zone FROM public.tallyd_settings WHERE key = 'reporting_time_zone') AS z
GROUP BY 1, 2, 3, 4;

INSERT INTO public.hourly_api_costs
    (hour, provider, model, calls, errors, input_tokens, output_tokens, cache_read_tokens,
     cache_write_5m_tokens, cache_write_1h_tokens, requests, cost_usd, unpriced_calls)
SELECT f.hour, f.provider, f.model, sum(f.calls), sum(f.errors), sum(f.input_tokens),
       sum(f.output_tokens), sum(f.cache_read_tokens), sum(f.cache_write_5m_tokens), sum(f.cache_write_1h_tokens),
       sum(f.requests), sum(f.cost_usd), sum(f.unpriced_calls)
FROM pg_temp.tallyd_filling AS f
GROUP BY 1, 2, 3;

DROP TABLE pg_temp.tallyd_filling;

INSERT INTO public.tallyd_settings (key, value)
SELECT 'sums_by_app_and_hour_from', (max(day) + 1)::text FROM public.tallyd_dropped_costs HAVING count(*) > 0;

-- Records one call: its row in the call log and its share of each rollup, all or nothing. Returns the call's id.
--
--   SELECT increment_daily_cost(provider => 'rentcast', endpoint => '/avm/value', user_id => '42', cost_usd => 0.20);
--   SELECT increment_daily_cost(provider => 'claude', model => 'claude-sonnet-4', input_tokens => 1200,
--                               output_tokens => 350, cost_usd => 0.00885);
--
-- * No cost: the call is unpriced and counted as such. It is never priced at 0.
-- * It does what the daemon does with a record: 'anthropic' becomes 'claude', the endpoint loses its query string (it may
--   hold personal data), and the same bounds hold. Distinct models, endpoints and applications are not bounded here.
-- * The tables are taken in the daemon's order (V2), so that the two do not deadlock.
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
    at_day  date;
    at_hour timestamptz;
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
    at_hour := (SELECT date_trunc('hour', call.occurred_at, s.value) FROM public.tallyd_settings s WHERE s.key = 'reporting_time_zone');
    failed := (call.status >= 400)::int;
    unknown := (call.cost_usd IS NULL)::int;

    PERFORM public.tallyd_ensure_partition(call.occurred_at);
    INSERT INTO public.api_usage_log SELECT call.*;

    INSERT INTO public.daily_user_api_costs AS t
        (day, user_id, provider, calls, errors, input_tokens, output_tokens, cache_read_tokens,
         cache_write_5m_tokens, cache_write_1h_tokens, requests, cost_usd, unpriced_calls, updated_at)
    VALUES (at_day, call.user_id, call.provider, 1, failed, call.input_tokens, call.output_tokens,
            call.cache_read_tokens, call.cache_write_5m_tokens, call.cache_write_1h_tokens, call.requests,
            coalesce(call.cost_usd, 0), unknown, clock_timestamp())
    ON CONFLICT (day, user_id, provider) DO UPDATE SET
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

    INSERT INTO public.user_api_totals AS t
        (user_id, provider, calls, errors, input_tokens, output_tokens, cache_read_tokens, cache_write_5m_tokens,
         cache_write_1h_tokens, requests, cost_usd, unpriced_calls, updated_at, first_call_at, last_call_at)
    VALUES (call.user_id, call.provider, 1, failed, call.input_tokens, call.output_tokens,
            call.cache_read_tokens, call.cache_write_5m_tokens, call.cache_write_1h_tokens, call.requests,
            coalesce(call.cost_usd, 0), unknown, clock_timestamp(), call.occurred_at, call.occurred_at)
    ON CONFLICT (user_id, provider) DO UPDATE SET
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
        updated_at = excluded.updated_at,
        first_call_at = least(t.first_call_at, excluded.first_call_at),
        last_call_at = greatest(t.last_call_at, excluded.last_call_at);

    INSERT INTO public.daily_app_api_costs AS t
        (day, app, provider, model, calls, errors, input_tokens, output_tokens, cache_read_tokens,
         cache_write_5m_tokens, cache_write_1h_tokens, requests, cost_usd, unpriced_calls, updated_at)
    VALUES (at_day, call.app, call.provider, call.model, 1, failed, call.input_tokens, call.output_tokens,
            call.cache_read_tokens, call.cache_write_5m_tokens, call.cache_write_1h_tokens, call.requests,
            coalesce(call.cost_usd, 0), unknown, clock_timestamp())
    ON CONFLICT (day, app, provider, model) DO UPDATE SET
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

    INSERT INTO public.hourly_api_costs AS t
        (hour, provider, model, calls, errors, input_tokens, output_tokens, cache_read_tokens,
         cache_write_5m_tokens, cache_write_1h_tokens, requests, cost_usd, unpriced_calls, updated_at)
    VALUES (at_hour, call.provider, call.model, 1, failed, call.input_tokens, call.output_tokens,
            call.cache_read_tokens, call.cache_write_5m_tokens, call.cache_write_1h_tokens, call.requests,
            coalesce(call.cost_usd, 0), unknown, clock_timestamp())
    ON CONFLICT (hour, provider, model) DO UPDATE SET
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

-- tallyd's tables and partitions. Names that begin with tallyd_ need not be listed.
CREATE OR REPLACE FUNCTION public.tallyd_tables()
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
            OR c.relname IN ('daily_api_costs', 'daily_user_api_costs', 'daily_app_api_costs', 'hourly_api_costs',
                             'user_api_totals', 'ingest_watermark',
                             'dead_letters', 'api_prices', 'api_price_changes', 'api_budgets', 'api_budget_states', 'api_alerts',
                             'reprice_jobs')))
    ORDER BY c.relname
$$;

SELECT public.tallyd_protect_all();
