-- Units and revenue by day: what the spend was for. The application or a person states them; tallyd sets costs beside.
--
-- A row is the whole statement of its key: stating it again replaces it. Costs come from daily_dimension_costs.
CREATE TABLE public.tallyd_units (
    -- A day of the reporting time zone.
    day         date        NOT NULL,
    -- 'app', a tag's name, or '' for the units of all calls.
    dimension   text        NOT NULL DEFAULT '',
    -- A value of the dimension; '' for calls without it.
    value       text        NOT NULL DEFAULT '',
    -- 'order', 'seat', 'answer' …
    unit        text        NOT NULL,
    quantity    numeric     NOT NULL CHECK (quantity >= 0),
    -- NULL: not stated. Never 0 for that.
    revenue_usd numeric,
    updated_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- The one that stated it last; tallyd_audit_log has the earlier statements.
    actor       text        NOT NULL DEFAULT '',
    PRIMARY KEY (dimension, day, value, unit)
);

COMMENT ON TABLE public.tallyd_units IS 'Units and revenue by day and value of a dimension, as they were stated.';

SELECT public.tallyd_protect_all();
