-- Names that people give to models: an ARN, the name of a deployment, a gateway's route.
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

COMMENT ON TABLE public.tallyd_model_aliases IS 'What names of models stand for. Append-only; the last row of a name counts.';

-- Daemons hear of a change at once, as they do of prices.
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

SELECT public.tallyd_protect_all();
