-- Sessions of Supabase's auth schema over time: one sample an hour, for a chart.

-- The counts of tallyd_session_counts() once in each hour. The first daemon that looks in an hour writes its row. An hour in which
-- no daemon looked does not have a row, so that a gap is not taken for zero. Rows older than 90 days are deleted.
CREATE TABLE public.tallyd_session_samples (
    -- The beginning of a whole hour in UTC.
    hour          timestamptz PRIMARY KEY,
    active        int8        NOT NULL,
    active_users  int8        NOT NULL,
    -- Of the active ones, those that were begun or refreshed within 24 hours.
    refreshed_24h int8        NOT NULL,
    -- Users who signed in within 24 hours.
    signed_in_24h int8        NOT NULL,
    sampled_at    timestamptz NOT NULL DEFAULT clock_timestamp()
);

COMMENT ON TABLE public.tallyd_session_samples IS 'Sessions of Supabase''s auth schema, sampled hourly. Kept for 90 days.';

SELECT public.tallyd_protect_all();
