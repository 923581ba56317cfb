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

COMMENT ON TABLE public.tallyd_page_sessions IS 'Sessions of the admin page, hashed.';

SELECT public.tallyd_protect_all();
