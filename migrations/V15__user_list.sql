-- The list of users: one row a user, with an index for each of its orders. Until now the list was a sum over user_api_totals, made for
-- each request.
--
-- * tallyd_user_list is made of tallyd_user_totals alone: a row is the sum of its user's rows there. The user '' has none.
-- * tallyd_user_list_due names the users whose totals have changed since. A merge appends its users; a refresh computes their
--   rows anew and deletes the names (docs/internals/deltas.md). So a user without a name there has an exact row.
-- * Whoever writes to either holds the row `merge` of tallyd_locks. Both come after tallyd_user_totals in the order of V13.
-- * Updates always change indexed columns, so they are never HOT, and room on a page would not help. A refresh has its own pace for
--   this reason.
-- * Text is compared by its bytes: a cursor holds whatever the collation of the database is.

CREATE TABLE public.tallyd_user_list (
    user_id        text        NOT NULL,
    calls          numeric     NOT NULL,
    claude_calls   numeric     NOT NULL,
    rentcast_calls numeric     NOT NULL,
    errors         numeric     NOT NULL,
    unpriced_calls numeric     NOT NULL,
    -- 18 decimals, as the daemon writes them. SQL callers may write more.
    cost_usd       numeric     NOT NULL,
    first_call_at  timestamptz NOT NULL,
    last_call_at   timestamptz NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0.1);

CREATE TABLE public.tallyd_user_list_due (
    user_id text NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000);

COMMENT ON TABLE public.tallyd_user_list IS 'The list of users with their lifetime sums: tallyd_user_totals by user, as of tallyd_delta_ring.listed_to.';
COMMENT ON TABLE public.tallyd_user_list_due IS 'Users whose row of tallyd_user_list is to be computed anew. A user may be in it twice.';

-- Merges wait: the totals stay what they are until the list is filled.
SELECT FROM public.tallyd_locks WHERE name = 'merge' FOR UPDATE;

ALTER TABLE public.tallyd_delta_ring
    -- Calls that were loaded before this are in the base: the last merge was of deltas from before it.
    ADD COLUMN merged_to timestamptz NOT NULL DEFAULT now(),
    -- The same of tallyd_user_list.
    ADD COLUMN listed_to timestamptz NOT NULL DEFAULT now();
UPDATE public.tallyd_delta_ring SET merged_to = least(turned_at, merged_at), listed_to = least(turned_at, merged_at);

INSERT INTO public.tallyd_user_list
    (user_id, calls, claude_calls, rentcast_calls, errors, unpriced_calls, cost_usd, first_call_at, last_call_at)
SELECT user_id, sum(calls), coalesce(sum(calls) FILTER (WHERE provider = 'claude'), 0),
       coalesce(sum(calls) FILTER (WHERE provider = 'rentcast'), 0), sum(errors), sum(unpriced_calls), round(sum(cost_usd), 18),
       min(first_call_at), max(last_call_at)
FROM public.tallyd_user_totals
WHERE user_id <> ''
GROUP BY user_id;

-- Finds a user, ids that begin alike, and is the order by id.
CREATE UNIQUE INDEX tallyd_user_list_user ON public.tallyd_user_list (user_id text_pattern_ops);
ALTER TABLE public.tallyd_user_list REPLICA IDENTITY USING INDEX tallyd_user_list_user;
CREATE INDEX tallyd_user_list_cost ON public.tallyd_user_list (cost_usd, user_id COLLATE "C");
CREATE INDEX tallyd_user_list_calls ON public.tallyd_user_list (calls, user_id COLLATE "C");
CREATE INDEX tallyd_user_list_claude ON public.tallyd_user_list (claude_calls, user_id COLLATE "C");
CREATE INDEX tallyd_user_list_rentcast ON public.tallyd_user_list (rentcast_calls, user_id COLLATE "C");
CREATE INDEX tallyd_user_list_last_call ON public.tallyd_user_list (last_call_at, user_id COLLATE "C");
ANALYZE public.tallyd_user_list;

SELECT public.tallyd_protect_all();
