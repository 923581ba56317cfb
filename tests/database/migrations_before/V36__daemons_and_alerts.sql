-- Which daemons run on this database, a day that no rebuild of the rollups can change under a call, and who has seen an alert.

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

COMMENT ON TABLE public.tallyd_daemons IS 'The daemons that run on this database. A row that was not renewed for a minute is of a daemon that was killed.';

-- Before, a call that waited for a rebuild was booked into the day of the old zone. The lock is one that a rebuild waits for and that
-- writers of the log take anyway, so the zone is read once no rebuild can change it before the call is committed.
CREATE OR REPLACE FUNCTION public.tallyd_day(at timestamptz)
RETURNS date
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    LOCK TABLE ONLY public.api_usage_log IN ROW EXCLUSIVE MODE;
    RETURN (SELECT (at AT TIME ZONE s.value)::date FROM public.tallyd_settings s WHERE s.key = 'reporting_time_zone');
END
$$;

-- An alert is new until somebody says that they have seen it.
ALTER TABLE public.api_alerts
    ADD COLUMN acknowledged_at timestamptz,
    ADD COLUMN acknowledged_by text;

CREATE INDEX api_alerts_new ON public.api_alerts (id) WHERE acknowledged_at IS NULL;

SELECT public.tallyd_protect_all();
