-- Bounds of the users' costs, by which the users who cost most in a range of days are found without adding up all users of these days.
-- crates/store/src/queries/dearest.rs has the search.
--
-- * lately_usd of a user's row in tallyd_user_list is at least the user's cost in each range of days that begins at
--   tallyd_delta_ring.lately_from or later. Days that leave the last weeks only make it larger than it must be. So nothing depends on a
--   change at midnight: a roll brings the largest ones down again (crates/store/src/user_list.rs).
-- * cost_usd is at least the user's cost in any range of days. Both hold for users whose costs by day are not negative. The others have
--   has_refunds, and are always looked at.
-- * As the other columns of the list, these hold for users who are not due. All are due now, and until they have been refreshed
--   lately_from is 'infinity': the ranges are added up as before.

-- Merges and refreshes wait: every user is to be due.
SELECT FROM public.tallyd_locks WHERE name = 'merge' FOR UPDATE;

-- At least the cost in each range that begins at tallyd_delta_ring.lately_from or later.
ALTER TABLE public.tallyd_user_list ADD COLUMN lately_usd numeric NOT NULL DEFAULT 0;
-- True if the cost of a day is negative, so that other columns do not bound costs.
ALTER TABLE public.tallyd_user_list ADD COLUMN has_refunds bool NOT NULL DEFAULT false;
-- The order of answers: the larger cost first, then the smaller id.
CREATE INDEX tallyd_user_list_lately ON public.tallyd_user_list (lately_usd DESC, user_id COLLATE "C");
CREATE INDEX tallyd_user_list_refunds ON public.tallyd_user_list (user_id) WHERE has_refunds;

-- True if deltas of the user were negative, so that a day's cost may be.
ALTER TABLE public.tallyd_user_list_due ADD COLUMN may_refund bool NOT NULL DEFAULT false;
-- The first day of the ranges whose costs tallyd_user_list.lately_usd bounds.
ALTER TABLE public.tallyd_delta_ring ADD COLUMN lately_from date NOT NULL DEFAULT 'infinity';

INSERT INTO public.tallyd_user_list_due (user_id) SELECT user_id FROM public.tallyd_user_list;
INSERT INTO public.tallyd_user_list_due (user_id, may_refund)
SELECT DISTINCT user_id, true FROM public.tallyd_user_days WHERE cost_usd < 0;

ANALYZE public.tallyd_user_list;
