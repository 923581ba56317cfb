-- What the daemon keeps about its own work.

-- How far each daemon's buffer has been loaded. The row is updated in the transaction that loads a batch, so after a
-- crash it says exactly what is in the log; that is what makes "exactly once" hold without a unique index there.
CREATE TABLE public.ingest_watermark (
    -- Random, made with the buffer: a buffer that was lost and begun anew has another one.
    buffer_id  uuid        NOT NULL,
    -- Parallel loaders of one buffer have a row each.
    lane       int2        NOT NULL,
    -- The highest key of the buffer that is in the log.
    last_seq   int8        NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (buffer_id, lane)
) WITH (fillfactor = 50);

-- Records that could not be accepted, with the reason. Nothing is dropped in silence, and each can be replayed.
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
    -- Where the record stood: its buffer, its key there, and its place within that key's records.
    buffer_id      uuid,
    wal_seq        int8,
    position       int4,
    occurred_at    timestamptz,
    -- The record as it was received, in the format that payload_format names.
    payload        bytea       NOT NULL,
    payload_format text        NOT NULL,
    -- A batch that is loaded again after a crash finds its dead letters there, and leaves them.
    UNIQUE (buffer_id, wal_seq, position)
);

CREATE INDEX dead_letters_created_at ON public.dead_letters (created_at);

COMMENT ON TABLE public.ingest_watermark IS 'How far each tallyd buffer has been loaded. Do not edit: it is what prevents double counting.';
COMMENT ON TABLE public.dead_letters IS 'Records that tallyd or PostgreSQL refused, with the reason. See: tallyd dead-letters.';
