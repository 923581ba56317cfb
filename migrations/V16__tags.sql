-- Tags: what the cost of a call is allocated by.

-- A JSON object of texts, such as {"team": "search"}; NULL without a tag. Of an `api_key` only a short hash is stored.
ALTER TABLE public.api_usage_log ADD COLUMN tags jsonb;
