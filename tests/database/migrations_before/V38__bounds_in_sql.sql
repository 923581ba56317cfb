-- Bounds of a call that comes by SQL, so that its row stays small: decimals of its cost, and the text of its units.

-- As in V27, and with these bounds.
CREATE OR REPLACE FUNCTION public.tallyd_check_call(call public.api_usage_log)
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
