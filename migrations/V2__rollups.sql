-- The rollups: sums over the call log that dashboards read instead of it.
--
-- In every committed state each of the three equals the sum over api_usage_log and what was dropped from it (V8): a
-- transaction that writes the call log writes the rollups too. `tallyd reconcile` checks the sums.
--
-- * Each call counts in all three tables; user_id '' is the key of the calls that name no user.
-- * day is in the reporting time zone (tallyd_settings, V3).
-- * Keys are NOT NULL DEFAULT '': with NULLs in them ON CONFLICT would not find the row, and insert it again and again.
-- * fillfactor 60 leaves room in each page for the next version of a row, which keeps the updates HOT: at 100 a third of
--   them are not, and the table grows seventeenfold.
-- * Upserts set updated_at = excluded.updated_at, not now(): distributed PostgreSQL wants an immutable expression there.
-- * A transaction that upserts takes the tables in the order daily_user_api_costs, user_api_totals, daily_api_costs, and
--   the keys within a table sorted. Otherwise two writers deadlock. daily_api_costs comes last because every writer updates its
--   few rows, and a transaction that has updated one keeps the others waiting until its COMMIT.
-- * Counts are int8, which ends at 9.2 * 10^18. A call has at most 10^9 of each, so it takes 9.2 * 10^9 calls of the largest
--   size to fill one row. A row that overflows all the same fails with SQLSTATE 22003: the daemon puts the call that does not
--   fit into the dead letters and loads the rest; increment_daily_cost() fails, and writes nothing. cost_usd is numeric: 131,072
--   digits. Sums over rows do not go back into int8: sum(input_tokens), not sum(input_tokens)::int8.

CREATE TABLE public.daily_api_costs (
    day                   date        NOT NULL,
    provider              text        NOT NULL DEFAULT '',
    -- '(other)' past the bound of distinct values a day.
    model                 text        NOT NULL DEFAULT '',
    -- '(other)' past the bound of distinct values a day.
    endpoint              text        NOT NULL DEFAULT '',
    calls                 int8        NOT NULL DEFAULT 0,
    -- Calls whose status is 400 or above.
    errors                int8        NOT NULL DEFAULT 0,
    input_tokens          int8        NOT NULL DEFAULT 0,
    output_tokens         int8        NOT NULL DEFAULT 0,
    cache_read_tokens     int8        NOT NULL DEFAULT 0,
    cache_write_5m_tokens int8        NOT NULL DEFAULT 0,
    cache_write_1h_tokens int8        NOT NULL DEFAULT 0,
    requests              int8        NOT NULL DEFAULT 0,
    -- The calls that have a price; see unpriced_calls for the others.
    cost_usd              numeric     NOT NULL DEFAULT 0,
    unpriced_calls        int8        NOT NULL DEFAULT 0,
    updated_at            timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (day, provider, model, endpoint)
) WITH (fillfactor = 60);

-- No model and no endpoint: the number of distinct keys in a batch is what a rollup costs.
CREATE TABLE public.daily_user_api_costs (
    day                   date        NOT NULL,
    user_id               text        NOT NULL DEFAULT '',
    provider              text        NOT NULL DEFAULT '',
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
    PRIMARY KEY (day, user_id, provider)
) WITH (fillfactor = 60);

-- One user's history: the primary key begins with the day, which does not help there.
CREATE INDEX daily_user_api_costs_user ON public.daily_user_api_costs (user_id, day);

-- Lifetime totals. They outlive the call log's retention.
CREATE TABLE public.user_api_totals (
    user_id               text        NOT NULL DEFAULT '',
    provider              text        NOT NULL DEFAULT '',
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
    first_call_at         timestamptz NOT NULL,
    last_call_at          timestamptz NOT NULL,
    PRIMARY KEY (user_id, provider)
) WITH (fillfactor = 60);

COMMENT ON TABLE public.daily_api_costs IS 'Sums over api_usage_log by day, provider, model and endpoint.';
COMMENT ON TABLE public.daily_user_api_costs IS 'Sums over api_usage_log by day, user and provider.';
COMMENT ON TABLE public.user_api_totals IS 'Lifetime sums over api_usage_log by user and provider.';
