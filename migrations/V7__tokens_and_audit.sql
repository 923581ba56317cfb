-- Who may use the HTTP API and the admin page, and who has changed what.

-- Static tokens. A token is `tallyd_<id>_<64 hex digits>`: 256 random bits, of which only the SHA-256 is kept. That needs no
-- salt and no slow hash: there is nothing to guess.
CREATE TABLE public.tallyd_tokens (
    id           int4        GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- What it is for.
    name         text        NOT NULL CHECK (name <> ''),
    -- 'admin': everything; 'read': requests for data only; 'ingest': sending records only.
    role         text        NOT NULL CHECK (role IN ('admin', 'read', 'ingest')),
    -- Of the token's whole text.
    sha256       bytea       NOT NULL UNIQUE CHECK (octet_length(sha256) = 32),
    created_at   timestamptz NOT NULL DEFAULT now(),
    created_by   text        NOT NULL DEFAULT '',
    -- NULL: it does not expire.
    expires_at   timestamptz,
    -- NULL: it has not been revoked. Revoked tokens stay, because the audit log speaks of them.
    revoked_at   timestamptz,
    -- Costs that the token may state, if fewer than limits.stated_costs lets everybody.
    stated_costs text        CHECK (stated_costs IN ('refuse', 'non_negative'))
);

-- Sessions of the admin page.
--
-- A browser has two random values of 256 bits: the id, in a cookie, and the proof, in the storage of the page's origin.
-- Only their SHA-256 are kept here. A request needs both: cookies are sent to every port of a host, the storage is read by
-- one origin alone. Neither value is accepted as a token.
CREATE TABLE public.tallyd_page_sessions (
    id_sha256    bytea       PRIMARY KEY CHECK (octet_length(id_sha256) = 32),
    proof_sha256 bytea       NOT NULL CHECK (octet_length(proof_sha256) = 32),
    -- Who signed in: with a static token, its number, so that the session ends with the token; with a JWT, its subject.
    token_id     int4,
    subject      text,
    -- Whether the JWT called its subject an admin.
    claims_admin boolean     NOT NULL DEFAULT false,
    created_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- When the JWT expires; the session goes on after a renewal. 'infinity' with a static token.
    valid_until  timestamptz NOT NULL,
    -- When the session ends.
    ends_at      timestamptz NOT NULL,
    -- After a sign-in with a password: the tokens that renew and end the session at the issuer, encrypted with a key that is
    -- derived from id and proof. The table alone does not open it.
    sealed       bytea,
    CHECK ((token_id IS NULL) <> (subject IS NULL))
);

-- Every change that was made through the API or the command line, written in the transaction that makes it. Rows are added,
-- never changed.
CREATE TABLE public.tallyd_audit_log (
    id        int8        GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- Who: 'user:<sub>' of a JWT, 'token:<id> <name>', or 'cli:<operating system user>'.
    actor     text        NOT NULL,
    -- The client's address; '' on the command line.
    address   text        NOT NULL DEFAULT '',
    -- What was done: 'budget.set', 'token.create' ...
    action    text        NOT NULL,
    -- To what: 'global/day', 'token 3' ...
    object    text        NOT NULL DEFAULT '',
    -- Before and after; NULL where there was or is nothing. Never a secret.
    old_value jsonb,
    new_value jsonb
);

CREATE INDEX tallyd_audit_log_at ON public.tallyd_audit_log (at);

COMMENT ON TABLE public.tallyd_tokens IS 'Static tokens of the HTTP API, hashed. See: tallyd token.';
COMMENT ON TABLE public.tallyd_page_sessions IS 'Sessions of the admin page, hashed.';
COMMENT ON TABLE public.tallyd_audit_log IS 'Every change made through the HTTP API or the command line. Append-only.';

-- The one change that the audit log allows: `tallyd users forget` takes a user's id out of the notes about that user's
-- budgets; who did what, and when, stays.
CREATE FUNCTION public.tallyd_keep_audit()
RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    forgotten CONSTANT pg_catalog.jsonb := '{"scope_value": "(forgotten)"}';
BEGIN
    IF (OLD.id, OLD.at, OLD.actor, OLD.address, OLD.action) IS NOT DISTINCT FROM (NEW.id, NEW.at, NEW.actor, NEW.address, NEW.action)
       AND (NEW.object = OLD.object
            OR left(OLD.object, 5) = 'user ' AND left(NEW.object, 17) = 'user (forgotten)/'
               AND right(OLD.object, length(NEW.object) - 16) = substr(NEW.object, 17))
       AND (NEW.old_value IS NOT DISTINCT FROM OLD.old_value
            OR OLD.old_value ->> 'scope' = 'user' AND NEW.old_value = OLD.old_value || forgotten)
       AND (NEW.new_value IS NOT DISTINCT FROM OLD.new_value
            OR OLD.new_value ->> 'scope' = 'user' AND NEW.new_value = OLD.new_value || forgotten) THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'tallyd: rows of % are only ever added', TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
END
$$;

CREATE TRIGGER tallyd_audit_log_append_only BEFORE DELETE OR TRUNCATE ON public.tallyd_audit_log
    FOR EACH STATEMENT EXECUTE FUNCTION public.tallyd_append_only();
CREATE TRIGGER tallyd_audit_log_kept BEFORE UPDATE ON public.tallyd_audit_log
    FOR EACH ROW EXECUTE FUNCTION public.tallyd_keep_audit();
-- Also where a session has set session_replication_role.
ALTER TABLE public.tallyd_audit_log ENABLE ALWAYS TRIGGER tallyd_audit_log_append_only;
ALTER TABLE public.tallyd_audit_log ENABLE ALWAYS TRIGGER tallyd_audit_log_kept;
