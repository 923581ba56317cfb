-- History that was dropped on purpose: what the log held is kept as sums.
--
-- `tallyd partitions drop` and `retention.log_days` take whole partitions out of the log. Rollups and lifetime totals stay
-- as they are. So that they can still be proven, the sums of what goes are added to these tables in the transaction that
-- empties the partition. In every committed state
--
--     rollup = sum over api_usage_log + dropped sums
--
-- * Each table has the columns and the key of its rollup. Days are in the reporting time zone of the moment.
-- * Calls that arrive later for a dropped period get a partition again, are counted like any other, and are added here when
--   that partition is dropped in its turn.
-- * Whoever writes the log or the rollups besides takes these tables after them.

CREATE TABLE public.tallyd_dropped_costs
    (LIKE public.daily_api_costs INCLUDING DEFAULTS INCLUDING INDEXES);
CREATE TABLE public.tallyd_dropped_user_costs
    (LIKE public.daily_user_api_costs INCLUDING DEFAULTS INCLUDING INDEXES);
CREATE TABLE public.tallyd_dropped_totals
    (LIKE public.user_api_totals INCLUDING DEFAULTS INCLUDING INDEXES);

-- What was dropped, and when: a row each time that a partition with calls was emptied.
CREATE TABLE public.tallyd_dropped_partitions (
    id             int8        GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    partition_name text        NOT NULL,
    -- Calls from from_at on and before to_at.
    from_at        timestamptz NOT NULL,
    to_at          timestamptz NOT NULL,
    calls          int8        NOT NULL,
    cost_usd       numeric     NOT NULL,
    unpriced_calls int8        NOT NULL,
    dropped_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    actor          text        NOT NULL
);

CREATE INDEX tallyd_dropped_partitions_range ON public.tallyd_dropped_partitions (from_at, to_at);

COMMENT ON TABLE public.tallyd_dropped_costs IS 'What dropped partitions of the log add to daily_api_costs. Needed by tallyd reconcile.';
COMMENT ON TABLE public.tallyd_dropped_user_costs IS 'What dropped partitions of the log add to daily_user_api_costs. Needed by tallyd reconcile.';
COMMENT ON TABLE public.tallyd_dropped_totals IS 'What dropped partitions of the log add to user_api_totals. Needed by tallyd reconcile.';
COMMENT ON TABLE public.tallyd_dropped_partitions IS 'Partitions of the log that were dropped, with what they held.';

-- The log's partitions and their bounds, read from the catalog. Infinite where a bound is open; a default partition has
-- none, and is left out.
CREATE FUNCTION public.tallyd_partitions()
RETURNS TABLE (relation regclass, from_at timestamptz, to_at timestamptz)
LANGUAGE sql STABLE
-- Bounds are printed in the session's zone and style: both are pinned, so that they read back as what they are.
SET search_path = '' SET timezone = 'UTC' SET datestyle = 'ISO, YMD'
AS $$
    SELECT c.oid::regclass,
           coalesce(substring(bound.text FROM 'FROM \(''([^'']+)''\)')::timestamptz, '-infinity'),
           coalesce(substring(bound.text FROM 'TO \(''([^'']+)''\)')::timestamptz, 'infinity')
    FROM pg_catalog.pg_inherits i
    JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid
    CROSS JOIN LATERAL pg_catalog.pg_get_expr(c.relpartbound, c.oid) AS bound(text)
    WHERE i.inhparent = 'public.api_usage_log'::regclass AND c.relispartition AND bound.text LIKE 'FOR VALUES FROM%'
    ORDER BY 2, 3
$$;

SELECT public.tallyd_protect_all();
