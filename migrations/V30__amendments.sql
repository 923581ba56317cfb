-- Calls that an admin has amended or voided.
--
-- The call's row in api_usage_log has the values that count, and its cost_source says 'amended' or 'voided'. The values before
-- are here. A voided call keeps its row, with no tokens and a cost of 0. The row, the rollups and the row here change in one
-- transaction (crates/store/src/amend/). Rows are only ever added. None has a user.
CREATE TABLE public.tallyd_amendments (
    id          int8        GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    call_id     uuid        NOT NULL,
    -- The call's time, provider and platform: they give its vendor-day.
    occurred_at timestamptz NOT NULL,
    provider    text        NOT NULL,
    platform    text        NOT NULL,
    kind        text        NOT NULL CHECK (kind IN ('amended', 'voided')),
    at          timestamptz NOT NULL DEFAULT clock_timestamp(),
    actor       text        NOT NULL,
    reason      text        NOT NULL CHECK (reason <> ''),
    -- Cost, its source and price, tokens, requests and other units, as JSON objects.
    before      jsonb       NOT NULL,
    after       jsonb       NOT NULL
);

CREATE INDEX tallyd_amendments_call ON public.tallyd_amendments (call_id, id);
CREATE INDEX tallyd_amendments_day ON public.tallyd_amendments (provider, occurred_at);

CREATE TRIGGER tallyd_amendments_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON public.tallyd_amendments
    FOR EACH STATEMENT EXECUTE FUNCTION public.tallyd_append_only();
-- Also where a session has set session_replication_role.
ALTER TABLE public.tallyd_amendments ENABLE ALWAYS TRIGGER tallyd_amendments_append_only;

COMMENT ON TABLE public.tallyd_amendments IS 'Amended and voided calls: who, when, why, the values before and after. Append-only.';
COMMENT ON COLUMN public.tallyd_view_calls.cost_source IS
    'catalog: priced by tallyd; client: stated by the caller; unpriced: the cost is unknown; amended, voided: changed by an admin.';

SELECT public.tallyd_protect_all();
