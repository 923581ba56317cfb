-- Prices: what they were when, names that people give to models, a public list that is looked at, and stored costs computed anew.
--
-- A price is never edited: the call log points at it. A correction is a new row, and a mistake is withdrawn. Of rows for the
-- same model, service tier and instant the last one added counts. Daemons hear of a change at once, by NOTIFY, or find it
-- when they look at the highest id of api_price_changes.

-- Ids of the rows that people and imports add.
CREATE SEQUENCE public.api_prices_added_id AS int4 MINVALUE 1000000 START 1000000;

-- Prices by the instant from which they hold.
CREATE TABLE public.api_prices (
    id             int4        PRIMARY KEY DEFAULT nextval('public.api_prices_added_id'),
    provider       text        NOT NULL,
    -- '' for a provider that has no models.
    model          text        NOT NULL DEFAULT '',
    service_tier   text        NOT NULL DEFAULT 'standard',
    effective_from timestamptz NOT NULL,
    -- USD per unit and bucket. Rates are stated, never derived: a cache read is not always a tenth of the input.
    rates          jsonb       NOT NULL,
    -- Where the price was read.
    source         text        NOT NULL DEFAULT '',
    -- 'builtin', 'import', 'manual' ...: who put it here.
    origin         text        NOT NULL DEFAULT 'builtin',
    created_at     timestamptz NOT NULL DEFAULT now(),
    -- The date of the evidence, YYYY-MM-DD, where it is known.
    source_date    text        NOT NULL DEFAULT '',
    -- Why, in the words of the person who added it.
    note           text        NOT NULL DEFAULT '',
    -- From then on the row is not applied any more.
    withdrawn_at   timestamptz,
    -- Ids below a million belong to the catalog that comes with tallyd, negative ones to configuration files.
    CONSTRAINT api_prices_id_range CHECK (
        CASE origin WHEN 'builtin' THEN id BETWEEN 1 AND 999999 WHEN 'config' THEN id < 0 ELSE id >= 1000000 END)
);

ALTER SEQUENCE public.api_prices_added_id OWNED BY public.api_prices.id;
CREATE INDEX api_prices_lookup ON public.api_prices (provider, model, service_tier, effective_from);

-- Who changed which price, when. Rows are only ever added.
CREATE TABLE public.api_price_changes (
    id         int8        GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- Who said to have done it; otherwise the role of the session.
    actor      text        NOT NULL,
    -- 'insert', 'update' or 'delete'.
    action     text        NOT NULL,
    price_id   int4        NOT NULL,
    old        jsonb,
    new        jsonb
);

CREATE INDEX api_price_changes_price ON public.api_price_changes (price_id);

-- What names of models stand for: an ARN, the name of a deployment, a gateway's route.
--
-- A row says what a name stands for from then on; of the rows of one name the last one counts, and an empty model takes
-- the name back. Rows are only ever added, so the table is the record of its changes as well.
CREATE TABLE public.tallyd_model_aliases (
    id       int8        GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- Who said to have done it; otherwise the role of the session.
    actor    text        NOT NULL DEFAULT coalesce(nullif(current_setting('tallyd.actor', true), ''), session_user::text),
    -- The provider or platform that prices calls of the name.
    provider text        NOT NULL,
    name     text        NOT NULL,
    model    text        NOT NULL
);

-- When the public price list was last looked at. One row: the daemon that moves tried_at is the one that looks.
CREATE TABLE public.tallyd_price_sync (
    only_row bool        PRIMARY KEY DEFAULT true CHECK (only_row),
    tried_at timestamptz NOT NULL DEFAULT '-infinity',
    -- The last time that the list was read whole.
    read_at  timestamptz,
    -- Why the last look failed; '' if it did not.
    error    text        NOT NULL DEFAULT ''
);

INSERT INTO public.tallyd_price_sync DEFAULT VALUES;

-- What the list would change. A person or a setting applies a proposal.
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

-- Repricing: stored costs computed anew after prices were corrected, in steps that a crash cannot double.
--
-- Each step moves its job's position in the transaction that changes the call log and the rollups, like the watermark of the
-- loader: a step that finds another position than it left has been overtaken, and changes nothing.
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

COMMENT ON TABLE public.api_prices IS 'Effective-dated prices. api_usage_log.price_id points here.';
COMMENT ON TABLE public.api_price_changes IS 'Every change to api_prices: who, when, old, new. Append-only.';
COMMENT ON TABLE public.tallyd_model_aliases IS 'What names of models stand for. Append-only; the last row of a name counts.';
COMMENT ON TABLE public.tallyd_price_proposals IS 'What a public price list would change. See: tallyd prices sync.';
COMMENT ON TABLE public.reprice_jobs IS 'Every recalculation of stored costs: what, by whom, how far.';

-- Notes each change of a price, and tells the daemons.
CREATE FUNCTION public.tallyd_price_changed()
RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    INSERT INTO public.api_price_changes (actor, action, price_id, old, new) VALUES (
        coalesce(nullif(current_setting('tallyd.actor', true), ''), session_user::text),
        lower(TG_OP),
        coalesce(NEW.id, OLD.id),
        CASE WHEN TG_OP <> 'INSERT' THEN to_jsonb(OLD) END,
        CASE WHEN TG_OP <> 'DELETE' THEN to_jsonb(NEW) END);
    -- PostgreSQL sends equal notifications of a transaction once.
    PERFORM pg_notify('tallyd_prices', '');
    RETURN NULL;
END
$$;

CREATE TRIGGER api_prices_changed AFTER INSERT OR UPDATE OR DELETE ON public.api_prices
    FOR EACH ROW EXECUTE FUNCTION public.tallyd_price_changed();

-- Rows that came with tallyd follow its version. Of all others only the withdrawal is still open.
CREATE FUNCTION public.tallyd_keep_price()
RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND OLD.origin = 'builtin' AND NEW.origin = 'builtin' AND NEW.id = OLD.id THEN
        RETURN NEW;
    END IF;
    IF TG_OP = 'UPDATE' AND OLD.withdrawn_at IS NULL
        AND to_jsonb(NEW) - 'withdrawn_at' = to_jsonb(OLD) - 'withdrawn_at' THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'tallyd: price % is not changed or deleted, calls refer to it; add another, or set withdrawn_at', OLD.id
        USING ERRCODE = 'restrict_violation';
END
$$;

CREATE TRIGGER api_prices_kept BEFORE UPDATE OR DELETE ON public.api_prices
    FOR EACH ROW EXECUTE FUNCTION public.tallyd_keep_price();

CREATE TRIGGER api_price_changes_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON public.api_price_changes
    FOR EACH STATEMENT EXECUTE FUNCTION public.tallyd_append_only();
-- Also where a session has set session_replication_role.
ALTER TABLE public.api_price_changes ENABLE ALWAYS TRIGGER api_price_changes_append_only;

-- Tells the daemons of a changed alias, as of a changed price.
CREATE FUNCTION public.tallyd_alias_changed()
RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM pg_notify('tallyd_prices', '');
    RETURN NULL;
END
$$;

CREATE TRIGGER tallyd_model_aliases_changed AFTER INSERT ON public.tallyd_model_aliases
    FOR EACH STATEMENT EXECUTE FUNCTION public.tallyd_alias_changed();
CREATE TRIGGER tallyd_model_aliases_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON public.tallyd_model_aliases
    FOR EACH STATEMENT EXECUTE FUNCTION public.tallyd_append_only();
