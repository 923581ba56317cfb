-- The call log: one row for every paid API call, and the partitions that hold the rows.
--
-- The daemon loads the table with binary COPY, so the ORDER OF COLUMNS IS A CONTRACT: new columns go to the end.
-- There is no unique index, and none is needed: a producer's sequence number is made durable together with its records
-- in the WAL, and the watermark (V3) commits together with the rows. A unique index would halve the load.
-- There are no CHECK constraints either: the daemon has checked every record before it acknowledged the record.

CREATE TABLE public.api_usage_log (
    -- When the call was made. The partition key.
    occurred_at           timestamptz NOT NULL,
    -- Identity of the call.
    id                    uuid        NOT NULL,
    -- 'claude', 'rentcast', 'openai' ...: lower case.
    provider              text        NOT NULL,
    -- As sent: never '(other)'. See rollup_other.
    model                 text        NOT NULL DEFAULT '',
    -- Without its query string, unless the daemon is told to keep it.
    endpoint              text        NOT NULL DEFAULT '',
    user_id               text        NOT NULL DEFAULT '',
    app                   text        NOT NULL DEFAULT '',
    -- The provider's own id of the call; for support requests, never a key.
    request_id            text        NOT NULL DEFAULT '',
    -- The five token buckets are disjoint: input_tokens excludes tokens that were read from or written to a cache.
    input_tokens          int8        NOT NULL DEFAULT 0,
    output_tokens         int8        NOT NULL DEFAULT 0,
    cache_read_tokens     int8        NOT NULL DEFAULT 0,
    cache_write_5m_tokens int8        NOT NULL DEFAULT 0,
    cache_write_1h_tokens int8        NOT NULL DEFAULT 0,
    -- Billable units of an API that is priced per request.
    requests              int8        NOT NULL DEFAULT 1,
    -- Any other priced unit and its quantity: {"web_search": 2}.
    extra_units           jsonb,
    service_tier          text        NOT NULL DEFAULT 'standard',
    -- HTTP status of the call; 400 and above count as errors.
    status                int2        NOT NULL DEFAULT 200,
    latency_ms            int4,
    -- NULL: the call is unpriced. Never 0 for that: 0 is a price.
    cost_usd              numeric,
    -- 'catalog': priced by the daemon; 'client': stated by the caller; 'unpriced': cost_usd is NULL.
    cost_source           text        NOT NULL DEFAULT 'unpriced',
    -- The row of api_prices that was applied.
    price_id              int4,
    -- Bit 0: the model, bit 1: the endpoint counts under '(other)' in daily_api_costs, whose keys are bounded a day.
    rollup_other          int2        NOT NULL DEFAULT 0,
    -- A JSON object, stored as it was sent.
    metadata              jsonb,
    -- Where the model ran, if not at its vendor: 'bedrock', 'vertex', 'azure', 'openrouter' ..., or empty.
    platform              text        NOT NULL DEFAULT ''
) PARTITION BY RANGE (occurred_at);

-- A few pages for a whole month, and next to no cost at load. A btree on (user_id, occurred_at) costs 3.7 times the load
-- speed: the daemon builds that index, where it is wanted, on partitions that have stopped growing.
CREATE INDEX api_usage_log_occurred_at ON public.api_usage_log USING brin (occurred_at) WITH (autosummarize = on);

COMMENT ON TABLE public.api_usage_log IS 'Every paid API call. Loaded by tallyd; columns are in COPY order.';

-- Every function of these files has `SET search_path = pg_catalog, pg_temp`. With an empty path PostgreSQL looks into pg_temp
-- first: a domain `jsonb` that the caller has made there takes the place of PostgreSQL's, and its CHECK runs with the rights
-- of the function's owner. With this path everything in pg_catalog is found there, and all else is named with its schema.

-- The partition that holds an instant, and where it ends; no row if there is none.
--
-- Bounds are read from the catalog, not guessed from names, so that partitions made by hand are found too. The names that
-- tallyd_ensure_partition() gives are looked at first: with hundreds of partitions that saves reading every bound on each call.
-- Bounds are printed in the session's zone and style: both are pinned, so that they read back as what they are.
CREATE FUNCTION public.tallyd_partition_at(at timestamptz)
RETURNS TABLE (partition_name text, lower_bound timestamptz, upper_bound timestamptz)
LANGUAGE plpgsql STABLE
-- Bounds are printed in the session's zone and style: both are pinned, so that they read back as what they are.
SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' SET datestyle = 'ISO, YMD'
AS $$
DECLARE
    expected text[] := ARRAY[to_char(at, '"api_usage_log_"YYYY_MM'), to_char(at, '"api_usage_log_"YYYY_MM_DD')];
BEGIN
    FOR pass IN 1..2 LOOP
        RETURN QUERY
            SELECT p.name, p.lower_bound, p.upper_bound
            FROM (
                SELECT c.relname::text AS name,
                       coalesce(substring(bound.text FROM 'FROM \(''([^'']+)''\)')::timestamptz, '-infinity') AS lower_bound,
                       coalesce(substring(bound.text FROM 'TO \(''([^'']+)''\)')::timestamptz, 'infinity') AS upper_bound
                FROM pg_catalog.pg_inherits i
                JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid
                CROSS JOIN LATERAL pg_catalog.pg_get_expr(c.relpartbound, c.oid) AS bound(text)
                WHERE i.inhparent = 'public.api_usage_log'::regclass
                  -- A table that is just being detached is still listed, and takes no rows any more.
                  AND c.relispartition
                  AND bound.text LIKE 'FOR VALUES FROM%'
                  AND (pass = 2 OR c.relname = ANY (expected))
            ) AS p
            WHERE at >= p.lower_bound AND at < p.upper_bound;
        IF FOUND THEN
            RETURN;
        END IF;
    END LOOP;
END
$$;

-- Whether any partition overlaps [first_at, end_at).
CREATE FUNCTION public.tallyd_range_is_taken(first_at timestamptz, end_at timestamptz)
RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' SET datestyle = 'ISO, YMD'
AS $$
    SELECT EXISTS (
        SELECT
        FROM pg_catalog.pg_inherits i
        JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid
        CROSS JOIN LATERAL pg_catalog.pg_get_expr(c.relpartbound, c.oid) AS bound(text)
        WHERE i.inhparent = 'public.api_usage_log'::regclass
          AND bound.text LIKE 'FOR VALUES FROM%'
          AND coalesce(substring(bound.text FROM 'FROM \(''([^'']+)''\)')::timestamptz, '-infinity') < end_at
          AND coalesce(substring(bound.text FROM 'TO \(''([^'']+)''\)')::timestamptz, 'infinity') > first_at
    )
$$;

-- Makes sure that a partition holds the instant, and returns its name.
--
-- granularity: 'month' or 'day', in UTC whatever the session's zone is. A partition that holds the instant already is
-- taken, of either size: the setting may change at any time. Where a month would overlap existing partitions (it was
-- begun with day partitions), a day is made instead. A table that was detached keeps its name; its rows were taken out of
-- the call log on purpose, so it is left alone.
--
-- Safe to call from anywhere at any time: a row of tallyd_locks (V3), locked until the transaction ends, admits one maker at a
-- time, and the lock that ATTACH takes lets reads and COPY go on (CREATE TABLE ... PARTITION OF would wait for them, and make
-- everybody else wait behind it). After the lock a second look finds what another maker has committed in the meantime.
--
-- The partition is closed by tallyd_protect() (V12) before the transaction ends. The function runs as the owner of the tables,
-- so that a role which only may execute it can still record a call.
CREATE FUNCTION public.tallyd_ensure_partition(at timestamptz, granularity text DEFAULT 'month')
RETURNS text
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' SET datestyle = 'ISO, YMD'
AS $$
DECLARE
    first_at timestamptz;
    end_at   timestamptz;
    wanted   text;
    made     text;
    copy     int := 1;
BEGIN
    IF granularity IS NULL OR granularity NOT IN ('month', 'day') THEN
        RAISE EXCEPTION 'tallyd: granularity is %, not ''month'' or ''day''', coalesce(quote_literal(granularity), 'NULL')
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF at IS NULL OR NOT isfinite(at) THEN
        RAISE EXCEPTION 'tallyd: a partition needs a finite instant' USING ERRCODE = 'invalid_parameter_value';
    END IF;

    SELECT p.partition_name INTO made FROM public.tallyd_partition_at(at) AS p LIMIT 1;
    IF FOUND THEN
        RETURN made;
    END IF;

    PERFORM FROM public.tallyd_locks AS l WHERE l.name = 'partitions' FOR UPDATE;
    SELECT p.partition_name INTO made FROM public.tallyd_partition_at(at) AS p LIMIT 1;
    IF FOUND THEN
        RETURN made;
    END IF;

    first_at := date_trunc(granularity, at);
    end_at := first_at + ('1 ' || granularity)::interval;
    wanted := to_char(first_at, CASE granularity WHEN 'month' THEN '"api_usage_log_"YYYY_MM' ELSE '"api_usage_log_"YYYY_MM_DD' END);
    IF granularity = 'month' AND public.tallyd_range_is_taken(first_at, end_at) THEN
        first_at := date_trunc('day', at);
        end_at := first_at + interval '1 day';
        wanted := to_char(first_at, '"api_usage_log_"YYYY_MM_DD');
    END IF;

    made := wanted;
    WHILE to_regclass(format('public.%I', made)) IS NOT NULL LOOP
        copy := copy + 1;
        made := wanted || '_v' || copy;
    END LOOP;

    EXECUTE format('CREATE TABLE public.%I (LIKE public.api_usage_log INCLUDING ALL)', made);
    EXECUTE format('ALTER TABLE public.api_usage_log ATTACH PARTITION public.%I FOR VALUES FROM (%L) TO (%L)',
                   made, first_at, end_at);
    -- After it has become a partition, and in the same transaction: nothing is granted on a partition.
    PERFORM public.tallyd_protect(format('public.%I', made)::regclass);
    RETURN made;
END
$$;

-- Makes sure that every instant from from_at to until_at, both included, has a partition. Returns their names in order.
CREATE FUNCTION public.tallyd_ensure_partitions(from_at timestamptz, until_at timestamptz, granularity text DEFAULT 'month')
RETURNS SETOF text
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    at timestamptz := from_at;
BEGIN
    IF from_at IS NULL OR until_at IS NULL OR NOT isfinite(from_at) OR NOT isfinite(until_at) THEN
        RAISE EXCEPTION 'tallyd: a range of partitions needs two finite instants' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    -- A typing error in a year would make thousands of tables.
    IF until_at - from_at > interval '20 years' THEN
        RAISE EXCEPTION 'tallyd: % to % is more than 20 years of partitions', from_at, until_at
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    WHILE at <= until_at LOOP
        RETURN NEXT public.tallyd_ensure_partition(at, granularity);
        SELECT p.upper_bound INTO STRICT at FROM public.tallyd_partition_at(at) AS p LIMIT 1;
    END LOOP;
END
$$;

-- The call log's partitions and their bounds, read from the catalog. Infinite where a bound is open; a default partition does
-- not have bounds, and is left out.
CREATE FUNCTION public.tallyd_partitions()
RETURNS TABLE (relation regclass, from_at timestamptz, to_at timestamptz)
LANGUAGE sql STABLE
-- Bounds are printed in the session's zone and style: both are pinned, so that they read back as what they are.
SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' SET datestyle = 'ISO, YMD'
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
