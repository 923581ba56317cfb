-- What became of a dead letter. Somebody decides about each: it is retried, or dropped. It stays as a row either way, so
-- that nothing disappears without a trace and no retry can count twice.

ALTER TABLE public.dead_letters
    -- NULL while nobody has decided.
    ADD COLUMN settled_at timestamptz,
    -- 'retried': the record is in api_usage_log, since the same transaction. 'dropped': its payload was deleted.
    ADD COLUMN outcome    text,
    -- Of a retried one: api_usage_log.id.
    ADD COLUMN record_id  uuid;

CREATE INDEX dead_letters_open ON public.dead_letters (id) WHERE settled_at IS NULL;

COMMENT ON COLUMN public.dead_letters.occurred_at IS
    'When the call was made; of a refused record, when it arrived: what a record without a time of its own gets at a retry.';
