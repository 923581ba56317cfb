-- Where a model ran, if not at its vendor: 'bedrock', 'vertex', 'azure', 'openrouter' ..., or empty.
--
-- A column with a constant default is added without a rewrite, in every partition at once. The daemon names the columns
-- of its COPY, so the place of the column does not matter to it.

ALTER TABLE public.api_usage_log ADD COLUMN platform text NOT NULL DEFAULT '';

-- increment_daily_cost() writes its row whole, from a variable in which a new column would be NULL. Only that is added to
-- it: its other lines, settings and grants stay as earlier files made them.
DO $$
BEGIN
    EXECUTE (
        SELECT replace(pg_catalog.pg_get_functiondef(p.oid),
                       'call.metadata := increment_daily_cost.metadata;',
                       E'call.metadata := increment_daily_cost.metadata;\n    call.platform := \'\';')
        FROM pg_catalog.pg_proc p
        WHERE p.proname = 'increment_daily_cost' AND p.pronamespace = 'public'::regnamespace);
END
$$;

-- Budgets of a platform or vendor are found by the one name that calls are stored under from now on.
UPDATE public.api_budgets AS b SET scope_value = n.stored
FROM (VALUES ('amazon-bedrock', 'bedrock'), ('aws', 'bedrock'), ('aws.bedrock', 'bedrock'), ('aws_bedrock', 'bedrock'),
             ('azure-openai', 'azure'), ('azure.ai.openai', 'azure'), ('azure_ai', 'azure'), ('azure_openai', 'azure'),
             ('gcp.vertex_ai', 'vertex'), ('google-vertex', 'vertex'), ('vertex_ai', 'vertex'), ('vertexai', 'vertex'),
             ('anthropic.messages', 'claude'), ('openai.chat', 'openai'), ('openai.responses', 'openai'),
             ('mistral_ai', 'mistral'), ('mistralai', 'mistral'), ('x-ai', 'xai'), ('x_ai', 'xai'), ('voyageai', 'voyage'),
             ('together_ai', 'together'), ('fireworks_ai', 'fireworks')) AS n (sent, stored)
WHERE b.scope = 'provider' AND b.scope_value = n.sent AND NOT EXISTS (
    SELECT FROM public.api_budgets AS other
    WHERE other.scope = 'provider' AND other.scope_value = n.stored AND other.period = b.period);
