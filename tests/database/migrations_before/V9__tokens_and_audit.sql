-- Who may use the HTTP API, and who has changed what.

-- Static tokens. A token is `tallyd_<id>_<64 hex digits>`: 256 random bits, of which only the SHA-256 is kept. That needs no
-- salt and no slow hash: there is nothing to guess.
CREATE TABLE public.tallyd_tokens (
    id         int4        GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- What it is for.
    name       text        NOT NULL CHECK (name <> ''),
    -- 'admin': everything; 'read': questions only; 'ingest': sending records only.
    role       text        NOT NULL CHECK (role IN ('admin', 'read', 'ingest')),
    -- Of the token's whole text.
    sha256     bytea       NOT NULL UNIQUE CHECK (octet_length(sha256) = 32),
    created_at timestamptz NOT NULL DEFAULT now(),
    created_by text        NOT NULL DEFAULT '',
    -- NULL: it does not expire.
    expires_at timestamptz,
    -- NULL: it has not been revoked. Revoked tokens stay, because the audit log speaks of them.
    revoked_at timestamptz
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
COMMENT ON TABLE public.tallyd_audit_log IS 'Every change made through the HTTP API or the command line.';
