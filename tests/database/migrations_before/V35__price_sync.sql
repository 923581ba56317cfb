-- A public price list that is looked at every so often: what it would change is proposed, and a person or a setting applies it.

-- When the list was last looked at. One row: the daemon that moves tried_at is the one that looks.
CREATE TABLE public.tallyd_price_sync (
    only_row bool        PRIMARY KEY DEFAULT true CHECK (only_row),
    tried_at timestamptz NOT NULL DEFAULT '-infinity',
    -- The last time that the list was read whole.
    read_at  timestamptz,
    -- Why the last look failed; '' if it did not.
    error    text        NOT NULL DEFAULT ''
);

INSERT INTO public.tallyd_price_sync DEFAULT VALUES;

CREATE TABLE public.tallyd_price_proposals (
    id           int8        GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- The address or the file.
    list         text        NOT NULL,
    -- When these differences were first seen, and last.
    seen_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    last_seen_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- What would change: provider, model, service_tier, kind, old and new rates, source.
    changes      jsonb       NOT NULL,
    -- Prices that differ and are not proposed, because a person or the configuration has set them.
    held         int4        NOT NULL,
    -- What the calls of the week before seen_at would have cost.
    preview      jsonb       NOT NULL,
    -- 'superseded': the list says something else by now.
    state        text        NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'applied', 'dismissed', 'superseded')),
    decided_at   timestamptz,
    decided_by   text        NOT NULL DEFAULT ''
);

CREATE UNIQUE INDEX tallyd_price_proposals_open ON public.tallyd_price_proposals ((state)) WHERE state = 'open';

COMMENT ON TABLE public.tallyd_price_proposals IS 'What a public price list would change. See: tallyd prices sync.';

SELECT public.tallyd_protect_all();
