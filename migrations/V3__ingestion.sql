-- What the daemons of a database share: settings, locks, which daemons run, and how far each WAL has been loaded.

-- What every daemon on this database has to agree about.
CREATE TABLE public.tallyd_settings (
    key   text PRIMARY KEY,
    value text NOT NULL
);

INSERT INTO public.tallyd_settings (key, value) VALUES
    -- Tells one database from another, e.g. from its own restored copy.
    ('database_id', gen_random_uuid()::text),
    -- The zone whose midnights part the days of the rollups. `tallyd rollups rebuild --time-zone` changes it: editing it
    -- here would leave every day that has been summed already in the old zone.
    ('reporting_time_zone', 'UTC');

-- Locks that only roles which write tallyd's tables can hold.
--
-- Advisory locks belong to everybody: each login of the database can take each of them, and loading would wait. A row is locked with
-- FOR UPDATE, which needs the right to change the table. Nothing is ever written to these rows.
CREATE TABLE public.tallyd_locks (
    name   text NOT NULL,
    -- Several rows of one name admit as many transactions at once.
    number int4 NOT NULL DEFAULT 0,
    PRIMARY KEY (name, number)
);

INSERT INTO public.tallyd_locks (name)
VALUES ('partitions'), ('access'), ('upkeep'), ('retention'), ('refusals'), ('budgets'), ('replay'), ('adopt');
-- Four for each of the sixteen lanes that a daemon has at most.
INSERT INTO public.tallyd_locks (name, number) SELECT 'load', slot FROM generate_series(0, 63) AS slot;

-- Each daemon renews its row every few seconds and deletes it when it stops. A rebuild of the rollups refuses while a row is fresh.
-- It is a table and not an advisory lock, because every login of the database could hold one of those; and not a lock that a daemon
-- holds all the time, because through a pooler in transaction mode that would keep a session of the server from everybody else.
CREATE TABLE public.tallyd_daemons (
    -- The write-ahead log's identity, as in ingest_watermark.
    buffer_id  uuid PRIMARY KEY,
    host       text NOT NULL,
    pid        int4 NOT NULL,
    version    text NOT NULL,
    -- The zone in which the daemon counts days.
    time_zone  text NOT NULL,
    started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    seen_at    timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- How far each WAL has been loaded. The row is updated in the transaction that loads a batch, so after a crash the row says
-- exactly what is in the call log; that is what makes "exactly once" hold without a unique index there.
CREATE TABLE public.ingest_watermark (
    -- The WAL's identity: random, made with the WAL. A WAL that was lost and begun anew has another one.
    buffer_id  uuid        NOT NULL,
    -- Each lane of a WAL has a row.
    lane       int2        NOT NULL,
    -- The highest key of the WAL that is in the call log.
    last_seq   int8        NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (buffer_id, lane)
) WITH (fillfactor = 50);

COMMENT ON TABLE public.tallyd_settings IS 'What every tallyd on this database has to agree about.';
COMMENT ON TABLE public.tallyd_locks IS 'Rows that tallyd locks with FOR UPDATE, so that one transaction at a time does what the name says.';
COMMENT ON TABLE public.tallyd_daemons IS 'The daemons that run on this database. A row that was not renewed for a minute is of a daemon that was killed.';
COMMENT ON TABLE public.ingest_watermark IS 'How far each tallyd buffer has been loaded. Do not edit: it is what prevents double counting.';

-- The trigger of tables to which rows are only ever added.
CREATE FUNCTION public.tallyd_append_only()
RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION 'tallyd: rows of % are only ever added', TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
END
$$;
