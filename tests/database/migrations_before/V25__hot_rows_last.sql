-- daily_api_costs comes last: its few rows are everybody's, and whoever has written one keeps the others waiting until its
-- COMMIT. The users' rows, which are many and seldom the same, come before.
--
-- So whoever writes rollups takes the tables in this order from now on: daily_user_api_costs, user_api_totals,
-- daily_api_costs; the keys within a table sorted, as before. A daemon of an earlier version on the same database may meet
-- a newer one in a deadlock meanwhile; PostgreSQL ends one of the two transactions, and its batch is loaded again.

-- As in V5, but for the order.
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
SET search_path = ''
AS $$
-- Parameters have the columns' names, because callers write them. Inside they are always read through `call`.
#variable_conflict use_column
DECLARE
    call    public.api_usage_log;
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
    PERFORM public.tallyd_check_call(call);

    at_day := public.tallyd_day(call.occurred_at);
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
