-- Tags: what the cost of a call is allocated by. And a rollup of those that an operator has chosen, its dimensions.
--
-- What holds for the rollups of V2 holds for daily_dimension_costs: each call counts in it, in the transaction that writes the call. It counts
-- once in each dimension: without the tag, under ''. A transaction takes the table after the users' and before hourly_api_costs.
--
-- * `app` is the record's application, and always a dimension. So daily_app_api_costs (V14) becomes a part of the new table.
-- * A dimension that is added later counts the calls of counted_from and later. The daemons count the call log's days backwards, each day in
--   one transaction that holds ingest_watermark and api_usage_log IN SHARE ROW EXCLUSIVE MODE.
-- * Bit `place` of api_usage_log.rollup_other says that a call's value counts under '(other)'.

-- A JSON object of texts, such as {"team": "search"}; NULL without a tag. Of an `api_key` only a short hash is stored.
ALTER TABLE public.api_usage_log ADD COLUMN tags jsonb;

CREATE TABLE public.tallyd_dimensions (
    -- The tag, or 'app'.
    name         text        PRIMARY KEY,
    -- Its bit of api_usage_log.rollup_other, counted from 0: the first two are the model's and the endpoint's.
    place        int2        NOT NULL UNIQUE CHECK (place BETWEEN 2 AND 13),
    -- The first day whose calls count: 'infinity' at first, '-infinity' once all do.
    counted_from date        NOT NULL DEFAULT 'infinity',
    -- The first day whose sums are whole: calls of earlier days had left the call log before they could be counted.
    whole_from   date        NOT NULL DEFAULT '-infinity',
    added_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    actor        text        NOT NULL DEFAULT ''
);

INSERT INTO public.tallyd_dimensions (name, place, counted_from, whole_from, added_at, actor)
SELECT 'app', 2, '-infinity',
       coalesce((SELECT value::date FROM public.tallyd_settings WHERE key = 'sums_by_app_and_hour_from'), '-infinity'),
       to_timestamp(0), 'tallyd';

CREATE TABLE public.daily_dimension_costs (
    day                   date        NOT NULL,
    -- A name of tallyd_dimensions.
    dimension             text        NOT NULL DEFAULT '',
    -- '' without the tag, '(other)' past the bound of distinct values a day.
    value                 text        NOT NULL DEFAULT '',
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
    PRIMARY KEY (day, dimension, value, provider, model)
) WITH (fillfactor = 60);

CREATE TABLE public.tallyd_dropped_dimension_costs
    (LIKE public.daily_dimension_costs INCLUDING DEFAULTS INCLUDING INDEXES);

COMMENT ON TABLE public.tallyd_dimensions IS 'Tags that have sums in daily_dimension_costs.';
COMMENT ON TABLE public.daily_dimension_costs IS 'Sums over api_usage_log by day, dimension, its value, provider and model.';
COMMENT ON TABLE public.tallyd_dropped_dimension_costs IS 'What dropped partitions of the log add to daily_dimension_costs. Needed by tallyd reconcile.';

LOCK TABLE public.daily_app_api_costs, public.tallyd_dropped_app_costs IN ACCESS EXCLUSIVE MODE;

INSERT INTO public.daily_dimension_costs
    (day, dimension, value, provider, model, calls, errors, input_tokens, output_tokens, cache_read_tokens, cache_write_5m_tokens,
     cache_write_1h_tokens, requests, cost_usd, unpriced_calls, updated_at)
SELECT day, 'app', app, provider, model, calls, errors, input_tokens, output_tokens, cache_read_tokens, cache_write_5m_tokens,
       cache_write_1h_tokens, requests, cost_usd, unpriced_calls, updated_at
FROM public.daily_app_api_costs;

INSERT INTO public.tallyd_dropped_dimension_costs
    (day, dimension, value, provider, model, calls, errors, input_tokens, output_tokens, cache_read_tokens, cache_write_5m_tokens,
     cache_write_1h_tokens, requests, cost_usd, unpriced_calls, updated_at)
SELECT day, 'app', app, provider, model, calls, errors, input_tokens, output_tokens, cache_read_tokens, cache_write_5m_tokens,
       cache_write_1h_tokens, requests, cost_usd, unpriced_calls, updated_at
FROM public.tallyd_dropped_app_costs;

DROP TABLE public.daily_app_api_costs;
DROP TABLE public.tallyd_dropped_app_costs;

-- increment_daily_cost() as it is, with the new table in the old one's place; and tallyd_tables(), which names it. The rest of their text
-- stays what the file before this one has made of it.
DO $do$
DECLARE
    item record;
    text text;
    parts text[];
BEGIN
    FOR item IN SELECT * FROM (VALUES
        ('increment_daily_cost', '    INSERT INTO public.daily_app_api_costs AS t
', '    INSERT INTO public.hourly_api_costs AS t
', $new$    INSERT INTO public.daily_dimension_costs AS t
        (day, dimension, value, provider, model, calls, errors, input_tokens, output_tokens, cache_read_tokens,
         cache_write_5m_tokens, cache_write_1h_tokens, requests, cost_usd, unpriced_calls, updated_at)
    SELECT at_day, d.name, CASE d.name WHEN 'app' THEN call.app ELSE coalesce(call.tags ->> d.name, '') END, call.provider,
           call.model, 1, failed, call.input_tokens, call.output_tokens, call.cache_read_tokens, call.cache_write_5m_tokens,
           call.cache_write_1h_tokens, call.requests, coalesce(call.cost_usd, 0), unknown, clock_timestamp()
    FROM public.tallyd_dimensions AS d
    WHERE d.counted_from <= at_day
    ORDER BY d.name COLLATE "C"
    ON CONFLICT (day, dimension, value, provider, model) DO UPDATE SET
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

$new$),
        ('tallyd_tables', '''daily_app_api_costs''', ', ''hourly_api_costs''', '''daily_dimension_costs''')) AS p (name, first, after, new)
    LOOP
        -- An application may have a function of the same name and other parameters.
        SELECT pg_get_functiondef(p.oid) INTO text FROM pg_catalog.pg_proc p
        WHERE p.pronamespace = 'public'::regnamespace AND p.proname = item.name AND position(item.first IN p.prosrc) > 0;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'tallyd: % is not the function of the files before this one', item.name;
        END IF;
        parts := ARRAY[split_part(text, item.first, 1), split_part(text, item.first, 2)];
        EXECUTE parts[1] || item.new || item.after || split_part(parts[2], item.after, 2);
    END LOOP;
END
$do$;

-- A budget of one value of a dimension: 'team=search'.
ALTER TABLE public.api_budgets DROP CONSTRAINT api_budgets_scope_check;
ALTER TABLE public.api_budgets ADD CONSTRAINT api_budgets_scope_check
    CHECK (scope IN ('global', 'provider', 'model', 'user', 'app', 'tag'));

SELECT public.tallyd_protect_all();
