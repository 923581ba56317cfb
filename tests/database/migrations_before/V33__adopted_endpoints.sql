-- Old daily sums may tell endpoints apart, and may hold calls of days of which the old call log holds only a part.

ALTER TABLE public.tallyd_adopted_days
    -- '' where the old sums did not tell endpoints apart.
    ADD COLUMN endpoint  text NOT NULL DEFAULT '',
    -- Calls that the old call log held of the day and provider when the sums were taken: the sums have what it lacked. 0: it held none.
    ADD COLUMN log_calls int8 NOT NULL DEFAULT 0;
ALTER TABLE public.tallyd_adopted_days DROP CONSTRAINT tallyd_adopted_days_pkey;
ALTER TABLE public.tallyd_adopted_days ADD PRIMARY KEY (day, provider, model, endpoint);

COMMENT ON TABLE public.tallyd_adopted_days IS
    'Calls of which only daily sums were left, and which were taken over as sums. See: tallyd adopt.';
