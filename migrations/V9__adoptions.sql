-- What was taken over from tables of an older shape: `tallyd adopt`.
--
-- The history itself goes into api_usage_log and the rollups. These tables say what was taken, so that a second run adds
-- nothing.

-- A row for each table that calls were taken from.
CREATE TABLE public.tallyd_adoptions (
    -- schema.table, quoted as SQL wants it.
    source     text        PRIMARY KEY,
    -- The table's oid: it stays when the table is renamed or moved.
    source_oid oid         NOT NULL,
    started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- Calls from before this instant have been looked at. What the log's retention has dropped of them since is not taken again.
    adopted_to timestamptz NOT NULL,
    calls      int8        NOT NULL,
    cost_usd   numeric     NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    actor      text        NOT NULL
);

-- Calls of which only the old daily sums were left: days without a call log, and calls that the old call log lacked. They are
-- like calls that were dropped from the call log: their sums are in the rollups and in tallyd_dropped_*. Each key is taken once,
-- from one table.
CREATE TABLE public.tallyd_adopted_days (
    day           date        NOT NULL,
    provider      text        NOT NULL,
    -- '' where the old sums did not tell models apart.
    model         text        NOT NULL,
    source        text        NOT NULL,
    calls         int8        NOT NULL,
    input_tokens  int8        NOT NULL,
    output_tokens int8        NOT NULL,
    cost_usd      numeric     NOT NULL,
    adopted_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- '' where the old sums did not tell endpoints apart.
    endpoint      text        NOT NULL DEFAULT '',
    -- Calls that the old call log held of the day and provider when the sums were taken: the sums have what it lacked. 0: it held none.
    log_calls     int8        NOT NULL DEFAULT 0,
    PRIMARY KEY (day, provider, model, endpoint)
);

COMMENT ON TABLE public.tallyd_adoptions IS 'Tables of an older shape whose calls were taken over. See: tallyd adopt.';
COMMENT ON TABLE public.tallyd_adopted_days IS
    'Calls of which only daily sums were left, and which were taken over as sums. See: tallyd adopt.';
