-- Users that were forgotten: `tallyd users forget`.
--
-- Their calls stay, under the user_id '' of the calls that name nobody, so that every sum stays what it was. Records of such a
-- user may still be on their way: in a daemon's write-ahead log, at a client that could not connect, among the dead letters. So
-- a mark stays here, by which the daemons' hourly upkeep finds what has arrived since, and makes it anonymous too.
--
-- The mark is no id: it is sha256(database_id || '/' || user_id) in UTF-8, with the database_id of tallyd_settings.
CREATE TABLE public.tallyd_forgotten_users (
    id_sha256    bytea       PRIMARY KEY CHECK (octet_length(id_sha256) = 32),
    forgotten_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- Dead letters that were written before have been looked at.
    swept_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    actor        text        NOT NULL
);

COMMENT ON TABLE public.tallyd_forgotten_users IS 'Marks of forgotten users, whose late records are made anonymous. See: tallyd users forget.';

SELECT public.tallyd_protect_all();
