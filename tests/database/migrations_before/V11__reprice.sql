-- Repricing: stored costs computed anew after prices were corrected, in steps that a crash cannot double.
--
-- Each step moves its job's position in the transaction that changes the log and the rollups, like the watermark of the
-- loader: whoever finds another position than it left has been overtaken, and changes nothing.

CREATE TABLE public.reprice_jobs (
    id             int8        GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- Calls from from_at on and before to_at.
    from_at        timestamptz NOT NULL,
    to_at          timestamptz NOT NULL,
    -- '' for all.
    provider       text        NOT NULL DEFAULT '',
    model          text        NOT NULL DEFAULT '',
    -- Also calls whose cost the caller stated.
    include_client boolean     NOT NULL DEFAULT false,
    -- The prices that are applied: a job that finds others begins anew.
    catalog        text        NOT NULL,
    -- Everything before it has been done.
    position       timestamptz NOT NULL,
    state          text        NOT NULL DEFAULT 'running' CHECK (state IN ('running', 'done', 'superseded')),
    calls_read     int8        NOT NULL DEFAULT 0,
    calls_changed  int8        NOT NULL DEFAULT 0,
    -- Of those changed, the ones that had no price before.
    calls_priced   int8        NOT NULL DEFAULT 0,
    -- By how much the sum of all costs has changed.
    difference_usd numeric     NOT NULL DEFAULT 0,
    actor          text        NOT NULL,
    created_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at     timestamptz NOT NULL DEFAULT clock_timestamp()
);

COMMENT ON TABLE public.reprice_jobs IS 'Every recalculation of stored costs: what, by whom, how far.';
