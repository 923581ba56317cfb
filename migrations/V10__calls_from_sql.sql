-- Recording one call in SQL, for callers that speak nothing else.

-- The day that an instant belongs to, in the stored reporting time zone.
--
-- The lock is one that a rebuild of the rollups waits for and that writers of the call log take anyway. So the zone is read once
-- no rebuild can change it before the call is committed.
CREATE FUNCTION public.tallyd_day(at timestamptz)
RETURNS date
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    LOCK TABLE ONLY public.api_usage_log IN ROW EXCLUSIVE MODE;
    RETURN (SELECT (at AT TIME ZONE s.value)::date FROM public.tallyd_settings s WHERE s.key = 'reporting_time_zone');
END
$$;

-- Refuses a call that is outside the daemon's default bounds, and says which field is.
CREATE FUNCTION public.tallyd_check_call(call public.api_usage_log)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    fault pg_catalog.text := CASE
        WHEN call.provider = '' THEN 'provider is empty'
        WHEN greatest(octet_length(call.provider), octet_length(call.model), octet_length(call.endpoint),
                      octet_length(call.user_id), octet_length(call.app), octet_length(call.request_id),
                      octet_length(call.service_tier)) > 512 THEN 'a text is longer than 512 bytes'
        WHEN least(call.input_tokens, call.output_tokens, call.cache_read_tokens, call.cache_write_5m_tokens,
                   call.cache_write_1h_tokens, call.requests) < 0 THEN 'a count is negative'
        WHEN greatest(call.input_tokens, call.output_tokens, call.cache_read_tokens, call.cache_write_5m_tokens,
                      call.cache_write_1h_tokens, call.requests) > 1000000000 THEN 'a count is above 10^9'
        -- NaN compares as greater than every number, so it is refused here too.
        WHEN call.cost_usd NOT BETWEEN -1000000000 AND 1000000000 THEN 'cost_usd is beyond 10^9'
        WHEN scale(trim_scale(call.cost_usd)) > 64 THEN 'cost_usd has more than 64 decimals'
        WHEN call.status < 0 THEN 'status is negative'
        WHEN call.latency_ms < 0 THEN 'latency_ms is negative'
        WHEN jsonb_typeof(call.extra_units) <> 'object' THEN 'extra_units is not a JSON object'
        WHEN octet_length(call.extra_units::text) > 16384 THEN 'extra_units is longer than 16 KiB'
        WHEN jsonb_typeof(call.metadata) <> 'object' THEN 'metadata is not a JSON object'
        WHEN octet_length(call.metadata::text) > 16384 THEN 'metadata is longer than 16 KiB'
        WHEN call.occurred_at < '2015-01-01 00:00:00+00' THEN 'occurred_at is before 2015'
        WHEN call.occurred_at > clock_timestamp() + interval '5 minutes' THEN 'occurred_at is more than 5 minutes ahead'
    END;
BEGIN
    IF fault IS NOT NULL THEN
        RAISE EXCEPTION 'tallyd: the call is refused: %', fault USING ERRCODE = 'invalid_parameter_value';
    END IF;
END
$$;

-- Records one call: its row in the call log and its share of the three rollups, all or nothing. Returns the call's id.
--
--   SELECT increment_daily_cost(provider => 'rentcast', endpoint => '/avm/value', user_id => '42', cost_usd => 0.20);
--   SELECT increment_daily_cost(provider => 'claude', model => 'claude-sonnet-4', input_tokens => 1200,
--                               output_tokens => 350, cost_usd => 0.00885);
--
-- * No cost: the call is unpriced and counted as such. It is never priced at 0.
-- * It does what the daemon does with a record: 'anthropic' becomes 'claude', the endpoint loses its query string (it may
--   hold personal data), and the same bounds hold. Distinct models and endpoints are not bounded here.
-- * The tables are taken in the daemon's order (V2), so that the two do not deadlock.
-- * It runs as the owner of the tables, and only granted roles may execute it: it writes what costs are read from.
CREATE FUNCTION public.increment_daily_cost(
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
