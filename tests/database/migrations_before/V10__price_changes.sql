-- Prices at run time: rows that people and imports add to api_prices, and the record of every change.
--
-- A price is never edited: the log points at it. A correction is a new row, and a mistake is withdrawn. Of rows for the
-- same model, service tier and instant the last one added counts. Daemons hear of a change at once, by NOTIFY, or find it
-- when they look at the highest id of api_price_changes.

ALTER TABLE public.api_prices
    -- The date of the evidence, YYYY-MM-DD, where it is known.
    ADD COLUMN source_date  text NOT NULL DEFAULT '',
    -- Why, in the words of whoever added it.
    ADD COLUMN note         text NOT NULL DEFAULT '',
    -- From then on the row is not applied any more.
    ADD COLUMN withdrawn_at timestamptz,
    -- Ids below a million belong to the catalog that comes with tallyd, negative ones to configuration files.
    ADD CONSTRAINT api_prices_id_range CHECK (
        CASE origin WHEN 'builtin' THEN id BETWEEN 1 AND 999999 WHEN 'config' THEN id < 0 ELSE id >= 1000000 END);

CREATE SEQUENCE public.api_prices_added_id AS int4 MINVALUE 1000000 START 1000000;
ALTER TABLE public.api_prices ALTER COLUMN id SET DEFAULT nextval('public.api_prices_added_id');
ALTER SEQUENCE public.api_prices_added_id OWNED BY public.api_prices.id;

-- Who changed what, when. Rows are only ever added.
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

CREATE FUNCTION public.tallyd_price_changed()
RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = ''
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
SET search_path = ''
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

CREATE FUNCTION public.tallyd_append_only()
RETURNS trigger
LANGUAGE plpgsql
SET search_path = ''
AS $$
BEGIN
    RAISE EXCEPTION 'tallyd: rows of % are only ever added', TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
END
$$;

CREATE TRIGGER api_price_changes_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON public.api_price_changes
    FOR EACH STATEMENT EXECUTE FUNCTION public.tallyd_append_only();

COMMENT ON TABLE public.api_price_changes IS 'Every change to api_prices: who, when, old, new. Append-only.';

-- It runs as the owner; a trigger needs no grant to whoever sets it off.
DO $$
DECLARE
    api_role text;
BEGIN
    REVOKE ALL ON FUNCTION public.tallyd_price_changed() FROM PUBLIC;
    FOR api_role IN SELECT r.rolname FROM pg_catalog.pg_roles r WHERE r.rolname IN ('anon', 'authenticated') LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION public.tallyd_price_changed() FROM %I', api_role);
    END LOOP;
END
$$;
