-- Two more rollups: costs by application and day, and by hour. Until now both were sums over the call log, made for each request.
--
-- What holds for the rollups of V2 holds for these: each call counts in all of them, in the transaction that writes it. A
-- transaction takes them after the users' and before daily_api_costs.
--
-- Bit 2 of api_usage_log.rollup_other says that the application counts under '(other)', as bits 0 and 1 do of model and endpoint.
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

-- What the call log has, by one scan. Loading waits until it is done: up to ten seconds for each million calls, on two busy cores.
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

-- increment_daily_cost() as it is, but that it adds to the two, too; and tallyd_tables(), which names them. The rest of their text stays
-- what the file before this one has made of it.
DO $do$
DECLARE
    item record;
    text text;
BEGIN
    FOR item IN SELECT * FROM (VALUES
        ('increment_daily_cost', '    INSERT INTO public.daily_api_costs AS t
', $add$    INSERT INTO public.daily_app_api_costs AS t
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
    VALUES ((SELECT date_trunc('hour', call.occurred_at, s.value) FROM public.tallyd_settings s WHERE s.key = 'reporting_time_zone'),
            call.provider, call.model, 1, failed, call.input_tokens, call.output_tokens,
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

$add$),
        ('tallyd_tables', '''daily_api_costs'', ', $add$'daily_app_api_costs', 'hourly_api_costs', $add$)) AS p (name, before, added)
    LOOP
        -- An application may have a function of the same name and other parameters.
        SELECT pg_get_functiondef(p.oid) INTO text FROM pg_catalog.pg_proc p
        WHERE p.pronamespace = 'public'::regnamespace AND p.proname = item.name AND position(item.before IN p.prosrc) > 0;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'tallyd: % is not the function of the files before this one', item.name;
        END IF;
        EXECUTE replace(text, item.before, item.added || item.before);
    END LOOP;
END
$do$;

SELECT public.tallyd_protect_all();
