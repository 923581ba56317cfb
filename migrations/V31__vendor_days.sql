-- The vendor-days as they stand, for BI tools, Grafana and exports.
CREATE VIEW public.tallyd_view_vendor_days WITH (security_barrier) AS
    SELECT DISTINCT ON (vendor, day) day, vendor, CASE vendor WHEN 'anthropic' THEN 'claude' ELSE vendor END AS provider, state,
           coalesce(cause, '') AS cause, calls, recorded_usd, billed_usd, recorded_usd - billed_usd AS difference_usd,
           coalesce((SELECT string_agg(DISTINCT replace(r ->> 'kind', '_', ' '), ', ')
                     FROM jsonb_array_elements(residues) AS r), '') AS parts, at AS changed_at
    FROM public.tallyd_vendor_closings
    WHERE NOT row_security_active('public.tallyd_vendor_closings'::regclass)
       OR coalesce(pg_has_role(to_regrole('tallyd_reader'), 'USAGE'), false)
       OR public.tallyd_is_admin()
    ORDER BY vendor, day, number DESC;

COMMENT ON VIEW public.tallyd_view_vendor_days IS 'Days that were compared with the vendor''s bill, as they stand. A day that was never closed is not here.';
COMMENT ON COLUMN public.tallyd_view_vendor_days.day IS 'Day in UTC, as vendors bill it.';
COMMENT ON COLUMN public.tallyd_view_vendor_days.vendor IS 'anthropic or openai.';
COMMENT ON COLUMN public.tallyd_view_vendor_days.provider IS 'The provider of the vendor''s calls: claude or openai.';
COMMENT ON COLUMN public.tallyd_view_vendor_days.state IS 'matched: to the cent; differs; open: changed since it was closed.';
COMMENT ON COLUMN public.tallyd_view_vendor_days.cause IS 'Why the day opened: late_calls, calls_removed, repriced, amended, bill_corrected; empty if it is closed.';
COMMENT ON COLUMN public.tallyd_view_vendor_days.calls IS 'Recorded calls.';
COMMENT ON COLUMN public.tallyd_view_vendor_days.recorded_usd IS 'Their exact cost in USD.';
COMMENT ON COLUMN public.tallyd_view_vendor_days.billed_usd IS 'The bill in USD.';
COMMENT ON COLUMN public.tallyd_view_vendor_days.difference_usd IS 'Recorded minus billed.';
COMMENT ON COLUMN public.tallyd_view_vendor_days.parts IS 'The kinds of the parts of the difference: unrecorded model, price, tier; empty without any.';
COMMENT ON COLUMN public.tallyd_view_vendor_days.changed_at IS 'When the day was closed or opened.';

SELECT public.tallyd_protect_all();
