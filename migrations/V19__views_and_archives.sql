-- Views with stable names for BI tools and dbt, and the list of archived partitions.
--
-- The tables behind the views may change; a view's columns are only added to. docs/guide/exports.md describes the views, and
-- docs/guide/dbt/tallyd_sources.yml is written from their comments.
--
-- As the views of V13, they run with the rights of their owner and say themselves who sees rows: whom the policies of the table
-- behind do not apply to, members of tallyd_reader, and admins. (A view with the reader's rights exists from PostgreSQL 15 on.)

CREATE VIEW public.tallyd_view_calls WITH (security_barrier) AS
    SELECT occurred_at, id, provider, model, endpoint, user_id, app, request_id, input_tokens, output_tokens, cache_read_tokens,
           cache_write_5m_tokens, cache_write_1h_tokens, requests, extra_units, service_tier, status, latency_ms, cost_usd,
           cost_source, price_id, metadata, platform, tags
    FROM public.api_usage_log
    WHERE NOT row_security_active('public.api_usage_log'::regclass)
       OR coalesce(pg_has_role(to_regrole('tallyd_reader'), 'USAGE'), false)
       OR public.tallyd_is_admin();

CREATE VIEW public.tallyd_view_daily_costs WITH (security_barrier) AS
    SELECT day, provider, model, endpoint, calls, errors, input_tokens, output_tokens, cache_read_tokens, cache_write_5m_tokens, cache_write_1h_tokens, requests,
           cost_usd, unpriced_calls
    FROM public.daily_api_costs
    WHERE NOT row_security_active('public.daily_api_costs'::regclass)
       OR coalesce(pg_has_role(to_regrole('tallyd_reader'), 'USAGE'), false)
       OR public.tallyd_is_admin();

CREATE VIEW public.tallyd_view_hourly_costs WITH (security_barrier) AS
    SELECT hour, provider, model, calls, errors, input_tokens, output_tokens, cache_read_tokens, cache_write_5m_tokens, cache_write_1h_tokens, requests,
           cost_usd, unpriced_calls
    FROM public.hourly_api_costs
    WHERE NOT row_security_active('public.hourly_api_costs'::regclass)
       OR coalesce(pg_has_role(to_regrole('tallyd_reader'), 'USAGE'), false)
       OR public.tallyd_is_admin();

CREATE VIEW public.tallyd_view_dimension_costs WITH (security_barrier) AS
    SELECT day, dimension, value, provider, model, calls, errors, input_tokens, output_tokens, cache_read_tokens, cache_write_5m_tokens, cache_write_1h_tokens, requests,
           cost_usd, unpriced_calls
    FROM public.daily_dimension_costs
    WHERE NOT row_security_active('public.daily_dimension_costs'::regclass)
       OR coalesce(pg_has_role(to_regrole('tallyd_reader'), 'USAGE'), false)
       OR public.tallyd_is_admin();

CREATE VIEW public.tallyd_view_user_costs WITH (security_barrier) AS
    SELECT day, user_id, provider, calls, errors, input_tokens, output_tokens, cache_read_tokens, cache_write_5m_tokens, cache_write_1h_tokens, requests,
           cost_usd, unpriced_calls
    FROM public.daily_user_api_costs;

CREATE VIEW public.tallyd_view_user_totals WITH (security_barrier) AS
    SELECT user_id, provider, calls, errors, input_tokens, output_tokens, cache_read_tokens, cache_write_5m_tokens, cache_write_1h_tokens, requests,
           cost_usd, unpriced_calls, first_call_at, last_call_at
    FROM public.user_api_totals;

CREATE VIEW public.tallyd_view_budgets WITH (security_barrier) AS
    SELECT b.id, b.scope, b.limit_kind, b.period, b.amount_usd, b.warning_percent, s.period_start, s.period_end, s.spent_usd,
           s.unpriced_calls, s.status, s.changed_at
    FROM public.api_budgets AS b LEFT JOIN public.api_budget_states AS s ON s.budget_id = b.id
    WHERE NOT row_security_active('public.api_budgets'::regclass)
       OR coalesce(pg_has_role(to_regrole('tallyd_reader'), 'USAGE'), false)
       OR public.tallyd_is_admin();

CREATE VIEW public.tallyd_view_alerts WITH (security_barrier) AS
    SELECT id, kind, at, message, delivered_at, acknowledged_at, acknowledged_by
    FROM public.api_alerts
    WHERE NOT row_security_active('public.api_alerts'::regclass)
       OR coalesce(pg_has_role(to_regrole('tallyd_reader'), 'USAGE'), false)
       OR public.tallyd_is_admin();

COMMENT ON VIEW public.tallyd_view_calls IS 'Single paid API calls, by the time of the call.';
COMMENT ON VIEW public.tallyd_view_daily_costs IS 'Costs by day, provider, model and endpoint.';
COMMENT ON VIEW public.tallyd_view_hourly_costs IS 'Costs by hour, provider and model.';
COMMENT ON VIEW public.tallyd_view_dimension_costs IS 'Costs by day, dimension, its value, provider and model. A call counts once in each dimension: filter by one.';
COMMENT ON VIEW public.tallyd_view_user_costs IS 'Costs by day, user and provider.';
COMMENT ON VIEW public.tallyd_view_user_totals IS 'Lifetime costs by user and provider; they outlive the calls.';
COMMENT ON VIEW public.tallyd_view_budgets IS 'Budgets, and their standing in the current period.';
COMMENT ON VIEW public.tallyd_view_alerts IS 'Alerts, and reports that were sent.';

-- A column's comment is the same in each view that has it, unless a view is named.
DO $$
DECLARE
    item record;
BEGIN
    FOR item IN
        SELECT c.relname, a.attname, coalesce(one.says, every.says) AS says
        FROM pg_catalog.pg_class c
        JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
        LEFT JOIN (VALUES
            ('occurred_at', 'When the call was made.'),
            ('id', 'The id.'),
            ('day', 'Day in the reporting time zone.'),
            ('hour', 'When the hour begins by the clocks of the reporting time zone.'),
            ('dimension', 'The name of a tag that has sums, or app.'),
            ('value', 'The tag''s value; empty for calls without it, (other) past the bound of distinct values a day.'),
            ('provider', 'The provider, in lower case: claude, openai, rentcast.'),
            ('model', 'The model; (other) past the bound of distinct values a day.'),
            ('endpoint', 'The endpoint, without its query string; (other) past the bound of distinct values a day.'),
            ('user_id', 'The user; empty for calls that name no user.'),
            ('app', 'The application; empty if none was stated.'),
            ('request_id', 'The provider''s own id of the call.'),
            ('calls', 'Number of calls.'),
            ('errors', 'Calls whose HTTP status is 400 or above.'),
            ('input_tokens', 'Input tokens, without those that were read from or written to a cache.'),
            ('output_tokens', 'Output tokens.'),
            ('cache_read_tokens', 'Tokens read from a cache.'),
            ('cache_write_5m_tokens', 'Tokens written to a cache for five minutes.'),
            ('cache_write_1h_tokens', 'Tokens written to a cache for an hour.'),
            ('requests', 'Billable units of an API that is priced per request.'),
            ('extra_units', 'Other priced units and their quantities, as a JSON object.'),
            ('service_tier', 'The tier that the provider billed.'),
            ('status', 'HTTP status of the call.'),
            ('latency_ms', 'Milliseconds that the call took.'),
            ('cost_usd', 'Exact cost in USD of the priced calls; see unpriced_calls.'),
            ('cost_source', 'catalog: priced by tallyd; client: stated by the caller; unpriced: the cost is unknown.'),
            ('price_id', 'The price that was applied: api_prices.id.'),
            ('metadata', 'A JSON object, as it was sent.'),
            ('platform', 'Where the model ran, if not at its vendor: bedrock, vertex, azure; or empty.'),
            ('tags', 'Tags as a JSON object of texts; of an api_key a short hash.'),
            ('unpriced_calls', 'Calls whose cost is unknown; they are not in the costs.'),
            ('first_call_at', 'The time of the first call.'),
            ('last_call_at', 'The time of the last call.'),
            ('scope', 'The bounded calls, as a JSON object of names by dimension; empty for all calls.'),
            ('limit_kind', 'soft: alerts only; hard: clients also refuse calls once the budget is used up.'),
            ('period', 'day, week or month of the reporting time zone.'),
            ('amount_usd', 'The amount of a period in USD.'),
            ('warning_percent', 'The share of the amount from which the status is warning.'),
            ('period_start', 'The first day of the current period; NULL before the first evaluation.'),
            ('period_end', 'The day after the last one of the current period.'),
            ('spent_usd', 'Exact cost in USD of the period''s priced calls.'),
            ('changed_at', 'When the standing last changed.'),
            ('kind', 'budget, spend, rule, report or test.'),
            ('at', 'When the alert was raised.'),
            ('message', 'The alert in words.'),
            ('delivered_at', 'When it was delivered; NULL if it was not, or is not to be.'),
            ('acknowledged_at', 'When somebody acknowledged it.'),
            ('acknowledged_by', 'The one that acknowledged it.')) AS every (name, says) ON every.name = a.attname
        LEFT JOIN (VALUES
            ('calls', 'id', 'Identity of the call.'),
            ('calls', 'model', 'The model, as it was sent.'),
            ('calls', 'endpoint', 'The endpoint, without its query string.'),
            ('calls', 'cost_usd', 'Exact cost in USD; NULL if it is unknown, which is not 0.'),
            ('budgets', 'status', 'normal, warning or exceeded.')) AS one (view, name, says)
            ON c.relname = 'tallyd_view_' || one.view AND one.name = a.attname
        WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'v' AND c.relname LIKE 'tallyd\_view\_%'
    LOOP
        EXECUTE format('COMMENT ON COLUMN public.%I.%I IS %L', item.relname, item.attname, item.says);
    END LOOP;
END
$$;

-- Partitions that were written into files before they were dropped: `retention.archive`.
--
-- A row is there from the moment that a file is whole and was read back; emptied_at is set in the transaction that empties the
-- partition. A row without it is of a run that was interrupted: the next run writes its file anew.
CREATE TABLE public.tallyd_archives (
    id             int8        GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    partition_name text        NOT NULL,
    -- Calls from from_at on and before to_at.
    from_at        timestamptz NOT NULL,
    to_at          timestamptz NOT NULL,
    -- The file's name within the archive.
    file           text        NOT NULL UNIQUE,
    bytes          int8        NOT NULL,
    -- Of the file, in hexadecimal digits.
    sha256         text        NOT NULL,
    calls          int8        NOT NULL,
    cost_usd       numeric     NOT NULL,
    unpriced_calls int8        NOT NULL,
    -- A sum over hashes of the rows, by which a change after the writing is seen.
    fingerprint    numeric     NOT NULL,
    written_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    emptied_at     timestamptz,
    actor          text        NOT NULL
);

COMMENT ON TABLE public.tallyd_archives IS 'Files of archived partitions, with their digests and sums.';

-- tallyd_tables() as it is, with the views. The rest of its text stays what the files before this one have made of it.
DO $do$
DECLARE
    text  text;
    views text := '''tallyd_user_day_parts'', ''tallyd_user_total_parts'')';
BEGIN
    SELECT pg_get_functiondef('public.tallyd_tables()'::regprocedure) INTO text;
    IF position(views IN text) = 0 THEN
        RAISE EXCEPTION 'tallyd: tallyd_tables is not the function of the files before this one';
    END IF;
    EXECUTE replace(text, views, views || $new$
       OR c.relkind = 'v' AND c.relnamespace = 'public'::regnamespace AND c.relname LIKE 'tallyd\_view\_%'$new$);
END
$do$;

SELECT public.tallyd_protect_all();
