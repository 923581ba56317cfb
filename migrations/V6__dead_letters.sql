-- Records that were not accepted. Nothing is dropped in silence.

-- A record that is kept whole, with the reason. Somebody decides about each: it is retried, or dropped. It stays as a row
-- either way, so that nothing disappears without a trace and no retry can count twice.
CREATE TABLE public.dead_letters (
    id             int8        GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    created_at     timestamptz NOT NULL DEFAULT now(),
    -- 'refused': the daemon would not take it; 'poison': PostgreSQL would not.
    kind           text        NOT NULL,
    -- A stable name for the reason.
    code           text        NOT NULL,
    -- The reason for a person.
    message        text        NOT NULL DEFAULT '',
    -- The field at fault, if it is one.
    field          text        NOT NULL DEFAULT '',
    producer       text        NOT NULL DEFAULT '',
    -- Where the record stood: its WAL, its key there, and its place within that key's records.
    buffer_id      uuid,
    wal_seq        int8,
    position       int4,
    occurred_at    timestamptz,
    -- The record as it was received, in the format that payload_format names.
    payload        bytea       NOT NULL,
    payload_format text        NOT NULL,
    -- NULL while nobody has decided.
    settled_at     timestamptz,
    -- 'retried': the record is in api_usage_log, since the same transaction. 'dropped': its payload was deleted.
    outcome        text,
    -- Of a retried one: api_usage_log.id.
    record_id      uuid,
    -- A batch that is loaded again after a crash finds its dead letters there, and leaves them.
    UNIQUE (buffer_id, wal_seq, position)
);

CREATE INDEX dead_letters_created_at ON public.dead_letters (created_at);
CREATE INDEX dead_letters_open ON public.dead_letters (id) WHERE settled_at IS NULL;

-- How many records were refused. Beyond the bounds of [dead_letters] in config.toml only this count is kept, and no row of
-- dead_letters. The counts and the rows are written in the transaction that loads the batch, so each refusal is counted once.
CREATE TABLE public.tallyd_refusals (
    -- The day of arrival, in UTC.
    day        date        NOT NULL,
    -- 'refused': the daemon would not take it; 'poison': PostgreSQL would not, and all of these are kept.
    kind       text        NOT NULL,
    -- The sender: a producer's name, or the token over HTTP. '(other)' beyond the number of groups that a day may have.
    producer   text        NOT NULL,
    code       text        NOT NULL,
    -- '' beyond the number of groups that a sender may have in a day.
    field      text        NOT NULL,
    -- How many records were refused.
    refused    int8        NOT NULL,
    -- How many of them were kept in dead_letters, and the bytes of their payloads.
    kept       int8        NOT NULL,
    kept_bytes int8        NOT NULL,
    first_seen timestamptz NOT NULL,
    last_seen  timestamptz NOT NULL,
    PRIMARY KEY (day, kind, producer, code, field)
) WITH (fillfactor = 70);

COMMENT ON TABLE public.dead_letters IS 'Records that tallyd or PostgreSQL refused, with the reason. See: tallyd dead-letters.';
COMMENT ON COLUMN public.dead_letters.occurred_at IS
    'When the call was made; of a refused record, when it arrived: what a record without a time of its own gets at a retry.';
COMMENT ON TABLE public.tallyd_refusals IS 'How many records were refused, by day, sender, reason and field. See: tallyd dead-letters groups.';
