-- A file of the archive counts once it was read back from its place.

-- Rows without verified_at are of a run that was interrupted; the next run discards them. Files of earlier versions were read back
-- before they got a row.
ALTER TABLE public.tallyd_archives ADD COLUMN verified_at timestamptz;
UPDATE public.tallyd_archives SET verified_at = written_at;
