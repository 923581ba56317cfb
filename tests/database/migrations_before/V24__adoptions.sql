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

-- Days of which only the old daily sums were left. Their calls are like calls that were dropped from the log: their sums are
-- in the rollups and in tallyd_dropped_*. Each key is taken once, whatever table it comes from.
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
    PRIMARY KEY (day, provider, model)
);

COMMENT ON TABLE public.tallyd_adoptions IS 'Tables of an older shape whose calls were taken over. See: tallyd adopt.';
COMMENT ON TABLE public.tallyd_adopted_days IS 'Days of which only daily sums were left, and were taken over. See: tallyd adopt.';

SELECT public.tallyd_protect_all();
