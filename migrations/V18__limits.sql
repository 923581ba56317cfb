-- Budgets as limits of calls: a scope of up to two dimensions, and whether the budget is soft or hard.
--
-- * A scope is an object of names by dimension: {} is everything, {"tag:team": "search", "model": "gpt-5"} a team's use of a model. Dimensions are
--   provider, model, user, app, and tag:NAME of a tag in tallyd_dimensions.
-- * A soft budget alerts people. A hard one also makes clients refuse calls before they are made, once it is used up.
-- * The states change only where a budget's spend does. tallyd_budget_evaluation says how new they are.

ALTER TABLE public.api_budgets RENAME COLUMN scope TO former_scope;
ALTER TABLE public.api_budgets
    -- Names by dimension, as calls are stored: a provider as 'claude' or 'bedrock', an API key as its hash. A model's family name stands for its
    -- dated names, too.
    ADD COLUMN scope      jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(scope) = 'object'),
    -- 'soft': alerts only. 'hard': clients also refuse calls once the budget is used up.
    ADD COLUMN limit_kind text  NOT NULL DEFAULT 'hard' CHECK (limit_kind IN ('soft', 'hard'));

UPDATE public.api_budgets SET
    scope = CASE former_scope
        WHEN 'global' THEN '{}'
        WHEN 'tag' THEN jsonb_build_object('tag:' || split_part(scope_value, '=', 1), substr(scope_value, strpos(scope_value, '=') + 1))
        ELSE jsonb_build_object(former_scope, scope_value) END,
    limit_kind = CASE WHEN throttle THEN 'hard' ELSE 'soft' END;

-- The constraints over these columns go with them.
ALTER TABLE public.api_budgets DROP COLUMN former_scope, DROP COLUMN scope_value, DROP COLUMN throttle;
ALTER TABLE public.api_budgets ADD CONSTRAINT api_budgets_scope_period_key UNIQUE (scope, period);

COMMENT ON TABLE public.api_budgets IS 'How much may be spent in a day, a week or a month, and whether clients refuse calls beyond it.';

ALTER TABLE public.api_budget_states RENAME COLUMN evaluated_at TO changed_at;

-- When the states were computed, and how often they or the budgets have changed.
CREATE TABLE public.tallyd_budget_evaluation (
    is_only      bool        PRIMARY KEY DEFAULT true CHECK (is_only),
    -- Rises with each change of a budget or of a state. A daemon reads the states again once it has risen.
    changes      int8        NOT NULL DEFAULT 0,
    evaluated_at timestamptz NOT NULL DEFAULT to_timestamp(0),
    -- No daemon evaluates before this time, so that many budgets do not take all of the database's time.
    rests_until  timestamptz NOT NULL DEFAULT to_timestamp(0),
    -- The merge of users' deltas that the states have (tallyd_delta_ring.merged_at). If it is the last one, users without deltas have spent nothing
    -- since.
    merged_at    timestamptz NOT NULL DEFAULT to_timestamp(0)
) WITH (fillfactor = 10);
INSERT INTO public.tallyd_budget_evaluation DEFAULT VALUES;

COMMENT ON TABLE public.tallyd_budget_evaluation IS 'When api_budget_states was computed, and how often it has changed.';

-- Alerts name a budget's scope in the same form.
UPDATE public.api_alerts SET details = details - 'scope_value' || jsonb_build_object('scope', CASE details ->> 'scope'
        WHEN 'global' THEN '{}'::jsonb
        WHEN 'tag' THEN jsonb_build_object('tag:' || split_part(details ->> 'scope_value', '=', 1),
            substr(details ->> 'scope_value', strpos(details ->> 'scope_value', '=') + 1))
        ELSE jsonb_build_object(details ->> 'scope', details ->> 'scope_value') END)
WHERE kind = 'budget' AND jsonb_typeof(details -> 'scope') = 'string' AND details ->> 'scope_value' IS NOT NULL;

-- As in V7, with the scopes of this file: `tallyd users forget` takes a user's id out of the notes about that user's budgets.
CREATE OR REPLACE FUNCTION public.tallyd_keep_audit()
RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    former    CONSTANT pg_catalog.jsonb := '{"scope_value": "(forgotten)"}';
    forgotten CONSTANT pg_catalog.jsonb := '"(forgotten)"';
    person    CONSTANT text := coalesce(OLD.old_value #>> '{scope,user}', OLD.new_value #>> '{scope,user}');
BEGIN
    IF (OLD.id, OLD.at, OLD.actor, OLD.address, OLD.action) IS NOT DISTINCT FROM (NEW.id, NEW.at, NEW.actor, NEW.address, NEW.action)
       AND (NEW.object = OLD.object
            OR left(OLD.object, 5) = 'user ' AND left(NEW.object, 17) = 'user (forgotten)/'
               AND right(OLD.object, length(NEW.object) - 16) = substr(NEW.object, 17)
            OR NEW.object = replace(OLD.object, 'user=' || person, 'user=(forgotten)'))
       AND (NEW.old_value IS NOT DISTINCT FROM OLD.old_value
            OR OLD.old_value ->> 'scope' = 'user' AND NEW.old_value = OLD.old_value || former
            OR OLD.old_value #> '{scope,user}' IS NOT NULL AND NEW.old_value = jsonb_set(OLD.old_value, '{scope,user}', forgotten))
       AND (NEW.new_value IS NOT DISTINCT FROM OLD.new_value
            OR OLD.new_value ->> 'scope' = 'user' AND NEW.new_value = OLD.new_value || former
            OR OLD.new_value #> '{scope,user}' IS NOT NULL AND NEW.new_value = jsonb_set(OLD.new_value, '{scope,user}', forgotten)) THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'tallyd: rows of % are only ever added', TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
END
$$;

SELECT public.tallyd_protect_all();
