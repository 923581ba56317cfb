-- Deploys of the applications that make calls, as CI jobs tell them: marks in charts of costs.

-- The last 1,000 of each sender are kept.
CREATE TABLE public.tallyd_deploys (
    id          int8        GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- The application, as its records name it.
    app         text        NOT NULL,
    version     text        NOT NULL,
    at          timestamptz NOT NULL,
    -- The one that deployed it; '' if nothing was said.
    deployed_by text        NOT NULL DEFAULT '',
    -- The one that told it, as in tallyd_audit_log.
    actor       text        NOT NULL,
    -- A deploy that is told twice is one.
    UNIQUE (app, version, at)
);

CREATE INDEX tallyd_deploys_at ON public.tallyd_deploys (at);

COMMENT ON TABLE public.tallyd_deploys IS 'Deploys of applications: marks in charts of costs.';

SELECT public.tallyd_protect_all();
