-- Who is signed in to the admin page.
--
-- A browser holds 256 random bits in a cookie, of which only the SHA-256 is kept, as with tokens (V9). What a session may do
-- is asked anew at each request: it ends with its token, or as soon as its user is no admin.
CREATE TABLE public.tallyd_page_sessions (
    -- Of the cookie's value.
    sha256     bytea       PRIMARY KEY CHECK (octet_length(sha256) = 32),
    -- As the audit log has it: 'token:<id> <name>', 'user:<sub>', or 'open:<operating system user>'.
    actor      text        NOT NULL CHECK (actor <> ''),
    -- The token that was shown; NULL if it was none.
    token_id   int4        REFERENCES public.tallyd_tokens (id) ON DELETE CASCADE,
    -- The user whose JWT was shown; NULL if it was none.
    subject    text,
    -- Whether that JWT called its user an admin. The database is asked as well, wherever it has a say.
    says_admin boolean     NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT now(),
    -- Not after the token or the JWT.
    expires_at timestamptz NOT NULL,
    CHECK (token_id IS NULL OR subject IS NULL)
);

COMMENT ON TABLE public.tallyd_page_sessions IS 'Who is signed in to tallyd''s admin page. Signing out deletes the row.';

SELECT public.tallyd_protect_all();
