-- Budgets by model, where they stand, and the alerts that follow: kept here, so that a restart neither forgets an alert
-- nor repeats it, and that one daemon of many evaluates while all read.

ALTER TABLE public.api_budgets
    DROP CONSTRAINT api_budgets_scope_check,
    -- 'model': the family's name stands for its dated names, too.
    ADD CONSTRAINT api_budgets_scope_check CHECK (scope IN ('global', 'provider', 'model', 'user', 'app')),
    -- Percent of the amount at which an alert is due, each once a period.
    ADD COLUMN alert_percents int4[] NOT NULL DEFAULT '{50,80,100}';

-- Where each budget stands.
CREATE TABLE public.api_budget_states (
    budget_id      int4        PRIMARY KEY REFERENCES public.api_budgets (id) ON DELETE CASCADE,
    -- The period's first day and the day after its last, in the reporting time zone.
    period_start   date        NOT NULL,
    period_end     date        NOT NULL,
    spent_usd      numeric     NOT NULL,
    -- Calls of the period without a known price: what was spent may be more.
    unpriced_calls int8        NOT NULL,
    status         text        NOT NULL CHECK (status IN ('normal', 'warning', 'exceeded')),
    evaluated_at   timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Alerts, and whether they have been delivered.
CREATE TABLE public.api_alerts (
    id              int8        GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- 'budget' or 'spend'.
    kind            text        NOT NULL,
    -- What the alert is about, once and for all: the same fact has the same key, and is never told twice.
    key             text        NOT NULL,
    at              timestamptz NOT NULL DEFAULT clock_timestamp(),
    message         text        NOT NULL,
    details         jsonb       NOT NULL,
    -- NULL: nothing is to be delivered, or it has been.
    next_attempt_at timestamptz,
    attempts        int4        NOT NULL DEFAULT 0,
    delivered_at    timestamptz,
    last_error      text        NOT NULL DEFAULT '',
    UNIQUE (kind, key)
);

CREATE INDEX api_alerts_due ON public.api_alerts (next_attempt_at) WHERE next_attempt_at IS NOT NULL;

COMMENT ON TABLE public.api_budget_states IS 'Where each budget stands in its current period.';
COMMENT ON TABLE public.api_alerts IS 'Alerts of budgets and of unusual spend, each once, with their delivery.';
