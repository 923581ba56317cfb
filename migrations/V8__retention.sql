-- History that was dropped or made anonymous on purpose.

-- `tallyd partitions drop` and `retention.log_days` take whole partitions out of the call log. Rollups and lifetime totals stay
-- as they are. So that they can still be proven, the sums of the dropped calls are added to these tables in the transaction that
-- empties the partition. In every committed state
--
--     rollup = sum over api_usage_log + dropped sums
--
-- * Each table has the columns and the key of its rollup. Days are in the reporting time zone of the moment.
-- * Calls that arrive later for a dropped period get a partition again, are counted like any other, and are added here when
--   that partition is dropped in its turn.
-- * A transaction that also writes the call log or the rollups takes these tables after them.
-- * They hold a part of a rollup's sums each, so they do not overflow before it. A user who is forgotten is added to the row of
--   '', which may overflow: the step then fails, and nothing has changed.
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

-- Users that were forgotten: `tallyd users forget`.
--
-- Their calls stay, under the user_id '' of the calls that name nobody, so that every sum stays what it was. Records of such a
-- user may still be on their way: in a daemon's WAL, at a client that could not connect, among the dead letters. So
-- a mark stays here, by which the daemons' hourly upkeep finds what has arrived since, and makes it anonymous too.
--
-- The mark is not an id: it is sha256(database_id || '/' || user_id) in UTF-8, with the database_id of tallyd_settings.
CREATE TABLE public.tallyd_forgotten_users (
    id_sha256    bytea       PRIMARY KEY CHECK (octet_length(id_sha256) = 32),
    forgotten_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- Dead letters that were written before have been looked at.
    swept_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    actor        text        NOT NULL
);

COMMENT ON TABLE public.tallyd_dropped_costs IS 'What dropped partitions of the log add to daily_api_costs. Needed by tallyd reconcile.';
COMMENT ON TABLE public.tallyd_dropped_user_costs IS 'What dropped partitions of the log add to daily_user_api_costs. Needed by tallyd reconcile.';
COMMENT ON TABLE public.tallyd_dropped_totals IS 'What dropped partitions of the log add to user_api_totals. Needed by tallyd reconcile.';
COMMENT ON TABLE public.tallyd_dropped_partitions IS 'Partitions of the log that were dropped, with what they held.';
COMMENT ON TABLE public.tallyd_forgotten_users IS 'Marks of forgotten users, whose late records are made anonymous. See: tallyd users forget.';
