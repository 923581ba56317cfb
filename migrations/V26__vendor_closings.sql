-- Vendor-days that were compared with the vendor's bill and closed, as a record that anybody can verify.
--
-- Rows are only ever added, in the order of `number`. Each has the hash of the row before, and its own is over all its columns
-- (crates/model/src/closing.rs). The last row of a vendor's day holds. `tallyd close verify` follows the chain.
CREATE TABLE public.tallyd_vendor_closings (
    -- From 1 on, without a gap.
    number         int8        PRIMARY KEY CHECK (number > 0),
    -- 'anthropic' or 'openai'.
    vendor         text        NOT NULL,
    -- A day in UTC, as vendors bill it.
    day            date        NOT NULL,
    -- 'open': a closed day that has changed, and waits for its next comparison.
    state          text        NOT NULL CHECK (state IN ('matched', 'differs', 'open')),
    -- Why the day opened: 'late_calls', 'calls_removed', 'repriced', 'bill_corrected'. NULL: it was closed.
    cause          text,
    calls          int8        NOT NULL,
    unpriced_calls int8        NOT NULL,
    recorded_usd   numeric     NOT NULL,
    billed_usd     numeric     NOT NULL,
    -- The parts of the difference: kind, model, workspace, difference_usd, note.
    residues       jsonb       NOT NULL DEFAULT '[]',
    -- Of the bill's lines of the day.
    bill_sha256    text        NOT NULL,
    -- The prices of the recorded calls: rows of api_prices.
    price_ids      int4[]      NOT NULL DEFAULT '{}',
    -- The day's sums in hourly_api_costs, by which changes are noticed.
    sums           text        NOT NULL,
    at             timestamptz NOT NULL,
    -- The hash of the row before; '' in the first.
    previous       text        NOT NULL,
    hash           text        NOT NULL UNIQUE
);

CREATE INDEX tallyd_vendor_closings_day ON public.tallyd_vendor_closings (vendor, day, number);

CREATE TRIGGER tallyd_vendor_closings_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON public.tallyd_vendor_closings
    FOR EACH STATEMENT EXECUTE FUNCTION public.tallyd_append_only();
-- Also where a session has set session_replication_role.
ALTER TABLE public.tallyd_vendor_closings ENABLE ALWAYS TRIGGER tallyd_vendor_closings_append_only;

-- When a vendor's reports were last looked at. The daemon that moves tried_at is the one that looks.
CREATE TABLE public.tallyd_vendor_fetches (
    vendor     text        PRIMARY KEY,
    tried_at   timestamptz NOT NULL DEFAULT '-infinity',
    -- The last time that all reports were read whole.
    read_at    timestamptz,
    -- Why the last look failed; '' if it did not.
    error      text        NOT NULL DEFAULT '',
    -- No look before this instant: the vendor asked for a pause, or a look has failed.
    not_before timestamptz NOT NULL DEFAULT '-infinity'
);

INSERT INTO public.tallyd_vendor_fetches (vendor) VALUES ('anthropic'), ('openai');
-- Held while rows are added to the record.
INSERT INTO public.tallyd_locks (name) VALUES ('closings');

COMMENT ON TABLE public.tallyd_vendor_closings IS 'Closed vendor-days, hash-chained. Append-only. See: tallyd close verify.';
COMMENT ON TABLE public.tallyd_vendor_fetches IS 'The looks at the vendors'' usage and cost reports.';

SELECT public.tallyd_protect_all();
