-- Days whose rollups were compared with the call log, and were equal. `tallyd reconcile --changed` reads a day again only if the sums of its
-- rollups are different from these.
CREATE TABLE public.tallyd_proven_days (
    -- A day of the reporting time zone.
    day         date        PRIMARY KEY,
    -- A hash over sums of the day's rows in each rollup, and of the zone. See crates/store/src/reconcile/changed.rs.
    fingerprint text        NOT NULL,
    proven_at   timestamptz NOT NULL DEFAULT now()
);

COMMENT ON TABLE public.tallyd_proven_days IS 'Days whose rollups equalled the call log, as `tallyd reconcile --changed` found them.';

SELECT public.tallyd_protect_all();
