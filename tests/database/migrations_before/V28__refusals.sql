-- Refused records: how many there were, and a bound on how many are kept.
--
-- A row of dead_letters is a record that is kept whole, and can be retried. Beyond the bounds of [dead_letters] in config.toml
-- only a count is kept. The counts and the rows are written in the transaction that loads the batch, so each refusal is counted
-- once.

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

COMMENT ON TABLE public.tallyd_refusals IS 'How many records were refused, by day, sender, reason and field. See: tallyd dead-letters groups.';

-- What is there already. Names that stood for single requests are one sender.
INSERT INTO public.tallyd_refusals (day, kind, producer, code, field, refused, kept, kept_bytes, first_seen, last_seen)
SELECT (l.created_at AT TIME ZONE 'UTC')::date, l.kind, CASE WHEN l.producer LIKE 'request:%' THEN '' ELSE l.producer END,
       l.code, l.field, count(*), count(*), sum(octet_length(l.payload)), min(l.created_at), max(l.created_at)
FROM public.dead_letters l
GROUP BY 1, 2, 3, 4, 5;

-- Costs that a token may state, if fewer than limits.stated_costs lets everybody.
ALTER TABLE public.tallyd_tokens
    ADD COLUMN stated_costs text CHECK (stated_costs IN ('refuse', 'non_negative'));

SELECT public.tallyd_protect_all();
