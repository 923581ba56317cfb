//! The table of attributes with a call's usage, one row per attribute. `docs/reference/opentelemetry.md` is generated
//! from it.

/// The meaning of an attribute's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Means {
    /// The prompt's tokens, with or without the cached ones: decided for each span.
    Input,
    /// The answer's tokens.
    Output,
    /// All tokens: shows whether cached tokens and thoughts are within the others or beside them.
    Total,
    /// The prompt's tokens without the cached ones: shows the same.
    Uncached,
    /// Tokens read from a cache.
    CacheRead,
    /// Tokens read from a cache, in a spelling that some use for all cached ones.
    CacheInput,
    /// Tokens written to a cache, for any duration.
    CacheWrite,
    /// Those of them for five minutes.
    CacheWrite5m,
    /// Those of them for an hour.
    CacheWrite1h,
    /// Tokens of thinking: within the answer's, unless the total shows that they are beside.
    Reasoning,
    /// Tokens of thinking that the vendor counts beside the answer's; frameworks differ, so the total decides.
    Thoughts,
    /// Tokens of tools' answers, which the vendor counts beside the prompt's, unless the total shows that they are
    /// within.
    ToolUse,
    /// Audio tokens of the prompt, within its tokens: the unit `audio_input_token`.
    AudioInput,
    /// Those of them read from a cache: the unit `audio_cache_read_token`.
    AudioCacheRead,
    /// Audio tokens of the answer, within its tokens: the unit `audio_output_token`.
    AudioOutput,
    /// Image tokens of the prompt, within its tokens: the unit `image_input_token`.
    ImageInput,
    /// Image tokens of the answer, within its tokens: the unit `image_output_token`.
    ImageOutput,
    /// Searches on the web: the unit `web_search`.
    WebSearch,
    /// A part of the tokens of another attribute, at the same rate: ignored.
    Part,
}

impl Means {
    /// The meaning in a few words, for the table in `docs/`.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Input => "input, with or without the cached tokens: see below",
            Self::Output => "output",
            Self::Total => "total: says what is within and what beside",
            Self::Uncached => "input without the cached tokens",
            Self::CacheRead => "cache read",
            Self::CacheInput => "cache read, if no other attribute has it",
            Self::CacheWrite => "cache write, at five minutes' rate where no time is told",
            Self::CacheWrite5m => "cache write for five minutes",
            Self::CacheWrite1h => "cache write for an hour",
            Self::Reasoning => "thinking, within output unless the total says otherwise",
            Self::Thoughts => "thinking, within or beside output: the total has to tell",
            Self::ToolUse => "tools' answers, beside input unless the total says otherwise",
            Self::AudioInput => "unit `audio_input_token`, taken out of input",
            Self::AudioCacheRead => "unit `audio_cache_read_token`, taken out of cache read",
            Self::AudioOutput => "unit `audio_output_token`, taken out of output",
            Self::ImageInput => "unit `image_input_token`, taken out of input",
            Self::ImageOutput => "unit `image_output_token`, taken out of output",
            Self::WebSearch => "unit `web_search`",
            Self::Part => "a part of another count at the same rate: nothing to do",
        }
    }
}

/// Prefixes of usage attributes: one that is not in the table and not empty makes its call unpriced.
pub const PREFIXES: [&str; 4] = ["gen_ai.usage.", "ai.usage.", "llm.usage.", "llm.token_count."];

/// Words in names that do not concern usage: whole words, because `generation` contains `ratio` and `realtime` contains
/// `time`.
pub const NO_USAGE: [&str; 10] =
    ["cost", "costs", "time", "latency", "duration", "ratio", "percent", "limit", "max", "remaining"];

/// Groups of words that do not concern usage.
pub const NO_USAGE_TOGETHER: [&str; 3] = ["per_second", "context_window", "token_type"];

/// A row: an attribute, its meaning, and its writers.
#[derive(Debug, Clone, Copy)]
pub struct TableRow {
    /// The attribute's name.
    pub name: &'static str,
    /// Its meaning.
    pub means: Means,
    /// Its writers.
    pub source: &'static str,
}

const fn row(name: &'static str, means: Means, source: &'static str) -> TableRow {
    TableRow { name, means, source }
}

const CONVENTIONS: &str = "the semantic conventions";
const EARLIER: &str = "earlier conventions, LiteLLM";
const UTIL: &str = "opentelemetry-util-genai";
const TRACELOOP: &str = "OpenLLMetry";
const SENTRY: &str = "Sentry, OpenRouter";
const PYDANTIC: &str = "Pydantic AI";
const VERCEL: &str = "the AI SDK";
const ARIZE: &str = "OpenInference";
const STRANDS: &str = "Strands";
const VARIOUS: &str = "several";

/// The table.
pub const ROWS: &[TableRow] = &[
    row("gen_ai.usage.input_tokens", Means::Input, CONVENTIONS),
    row("gen_ai.usage.output_tokens", Means::Output, CONVENTIONS),
    row("gen_ai.usage.cache_read.input_tokens", Means::CacheRead, CONVENTIONS),
    row("gen_ai.usage.cache_write.input_tokens", Means::CacheWrite, CONVENTIONS),
    row("gen_ai.usage.cache_creation.input_tokens", Means::CacheWrite, CONVENTIONS),
    row("gen_ai.usage.reasoning.output_tokens", Means::Reasoning, CONVENTIONS),
    row("gen_ai.usage.prompt_tokens", Means::Input, EARLIER),
    row("gen_ai.usage.completion_tokens", Means::Output, EARLIER),
    row("gen_ai.usage.total_tokens", Means::Total, EARLIER),
    row("gen_ai.usage.text.input_tokens", Means::Part, UTIL),
    row("gen_ai.usage.text.output_tokens", Means::Part, UTIL),
    row("gen_ai.usage.text.cache_read.input_tokens", Means::Part, UTIL),
    row("gen_ai.usage.audio.input_tokens", Means::AudioInput, UTIL),
    row("gen_ai.usage.audio.output_tokens", Means::AudioOutput, UTIL),
    row("gen_ai.usage.audio.cache_read.input_tokens", Means::AudioCacheRead, UTIL),
    row("gen_ai.usage.image.input_tokens", Means::ImageInput, UTIL),
    row("gen_ai.usage.image.output_tokens", Means::ImageOutput, UTIL),
    row("gen_ai.usage.cache_read_input_tokens", Means::CacheRead, TRACELOOP),
    row("gen_ai.usage.cache_creation_input_tokens", Means::CacheWrite, TRACELOOP),
    row("gen_ai.usage.input_cache_read_tokens", Means::CacheRead, TRACELOOP),
    row("gen_ai.usage.input_cache_write_tokens", Means::CacheWrite, TRACELOOP),
    row("gen_ai.usage.reasoning_tokens", Means::Reasoning, TRACELOOP),
    row("llm.usage.total_tokens", Means::Total, TRACELOOP),
    row("llm.usage.prompt_tokens", Means::Input, TRACELOOP),
    row("llm.usage.completion_tokens", Means::Output, TRACELOOP),
    row("llm.usage.input_tokens", Means::Input, TRACELOOP),
    row("llm.usage.output_tokens", Means::Output, TRACELOOP),
    row("llm.usage.reasoning_tokens", Means::Reasoning, TRACELOOP),
    row("llm.usage.cache_read_input_tokens", Means::CacheRead, TRACELOOP),
    row("llm.usage.cache_creation_input_tokens", Means::CacheWrite, TRACELOOP),
    row("gen_ai.usage.cache_write_input_tokens", Means::CacheWrite, STRANDS),
    row("gen_ai.usage.input_tokens.cached", Means::CacheRead, SENTRY),
    row("gen_ai.usage.input_tokens.cache_write", Means::CacheWrite, SENTRY),
    row("gen_ai.usage.output_tokens.reasoning", Means::Reasoning, SENTRY),
    row("gen_ai.usage.cache_read_tokens", Means::CacheRead, VARIOUS),
    row("gen_ai.usage.cache_write_tokens", Means::CacheWrite, VARIOUS),
    row("gen_ai.usage.cache_creation_tokens", Means::CacheWrite, VARIOUS),
    row("gen_ai.usage.cached_tokens", Means::CacheRead, VARIOUS),
    row("gen_ai.usage.cached_input_tokens", Means::CacheRead, VARIOUS),
    row("gen_ai.usage.reasoning_output_tokens", Means::Reasoning, VARIOUS),
    row("gen_ai.usage.thinking_tokens", Means::Reasoning, VARIOUS),
    row("gen_ai.usage.thoughts_tokens", Means::Thoughts, VARIOUS),
    row("gen_ai.usage.experimental.reasoning_tokens", Means::Reasoning, "Google ADK"),
    row("gen_ai.usage.audio_input_tokens", Means::AudioInput, VARIOUS),
    row("gen_ai.usage.audio_output_tokens", Means::AudioOutput, VARIOUS),
    row("gen_ai.usage.input_audio_tokens", Means::AudioInput, VARIOUS),
    row("gen_ai.usage.output_audio_tokens", Means::AudioOutput, VARIOUS),
    row("gen_ai.usage.cache_creation.ephemeral_5m_input_tokens", Means::CacheWrite5m, VARIOUS),
    row("gen_ai.usage.cache_creation.ephemeral_1h_input_tokens", Means::CacheWrite1h, VARIOUS),
    row("gen_ai.usage.details.cache_read_tokens", Means::CacheRead, PYDANTIC),
    row("gen_ai.usage.details.cache_write_tokens", Means::CacheWrite, PYDANTIC),
    row("gen_ai.usage.details.cache_read_input_tokens", Means::CacheRead, PYDANTIC),
    row("gen_ai.usage.details.cache_creation_input_tokens", Means::CacheWrite, PYDANTIC),
    row("gen_ai.usage.details.cached_tokens", Means::CacheRead, PYDANTIC),
    row("gen_ai.usage.details.cached_content_tokens", Means::CacheRead, PYDANTIC),
    row("gen_ai.usage.details.ephemeral_5m_input_tokens", Means::CacheWrite5m, PYDANTIC),
    row("gen_ai.usage.details.ephemeral_1h_input_tokens", Means::CacheWrite1h, PYDANTIC),
    row("gen_ai.usage.details.reasoning_tokens", Means::Reasoning, PYDANTIC),
    row("gen_ai.usage.details.thinking_tokens", Means::Reasoning, PYDANTIC),
    row("gen_ai.usage.details.thoughts_tokens", Means::Thoughts, PYDANTIC),
    row("gen_ai.usage.details.tool_use_prompt_tokens", Means::ToolUse, PYDANTIC),
    row("gen_ai.usage.details.input_audio_tokens", Means::AudioInput, PYDANTIC),
    row("gen_ai.usage.details.audio_prompt_tokens", Means::AudioInput, PYDANTIC),
    row("gen_ai.usage.details.cache_audio_read_tokens", Means::AudioCacheRead, PYDANTIC),
    row("gen_ai.usage.details.output_audio_tokens", Means::AudioOutput, PYDANTIC),
    row("gen_ai.usage.details.web_search_requests", Means::WebSearch, PYDANTIC),
    // Anthropic's own count beside the framework's, whose input includes the cached tokens.
    row("gen_ai.usage.details.input_tokens", Means::Part, PYDANTIC),
    row("gen_ai.usage.details.output_tokens", Means::Part, PYDANTIC),
    row("gen_ai.usage.details.text_prompt_tokens", Means::Part, PYDANTIC),
    row("gen_ai.usage.details.image_prompt_tokens", Means::Part, PYDANTIC),
    row("gen_ai.usage.details.video_prompt_tokens", Means::Part, PYDANTIC),
    row("gen_ai.usage.details.document_prompt_tokens", Means::Part, PYDANTIC),
    row("gen_ai.usage.details.text_candidates_tokens", Means::Part, PYDANTIC),
    row("gen_ai.usage.details.text_cache_tokens", Means::Part, PYDANTIC),
    row("gen_ai.usage.details.accepted_prediction_tokens", Means::Part, PYDANTIC),
    row("gen_ai.usage.details.rejected_prediction_tokens", Means::Part, PYDANTIC),
    row("ai.usage.inputTokens", Means::Input, VERCEL),
    row("ai.usage.promptTokens", Means::Input, VERCEL),
    row("ai.usage.tokens", Means::Input, VERCEL),
    row("ai.usage.outputTokens", Means::Output, VERCEL),
    row("ai.usage.completionTokens", Means::Output, VERCEL),
    row("ai.usage.totalTokens", Means::Total, VERCEL),
    row("ai.usage.cachedInputTokens", Means::CacheRead, VERCEL),
    row("ai.usage.inputTokenDetails.noCacheTokens", Means::Uncached, VERCEL),
    row("ai.usage.inputTokenDetails.cacheReadTokens", Means::CacheRead, VERCEL),
    row("ai.usage.inputTokenDetails.cacheWriteTokens", Means::CacheWrite, VERCEL),
    row("ai.usage.outputTokenDetails.textTokens", Means::Part, VERCEL),
    row("ai.usage.outputTokenDetails.reasoningTokens", Means::Reasoning, VERCEL),
    row("ai.usage.reasoningTokens", Means::Reasoning, VERCEL),
    row("llm.token_count.prompt", Means::Input, ARIZE),
    row("llm.token_count.completion", Means::Output, ARIZE),
    row("llm.token_count.total", Means::Total, ARIZE),
    row("llm.token_count.prompt_details.cache_read", Means::CacheRead, ARIZE),
    row("llm.token_count.prompt_details.cache_input", Means::CacheInput, ARIZE),
    row("llm.token_count.prompt_details.cache_write", Means::CacheWrite, ARIZE),
    row("llm.token_count.prompt_details.cache_creation", Means::CacheWrite, ARIZE),
    row("llm.token_count.prompt_details.audio", Means::AudioInput, ARIZE),
    row("llm.token_count.completion_details.reasoning", Means::Reasoning, ARIZE),
    row("llm.token_count.completion_details.audio", Means::AudioOutput, ARIZE),
];

/// The call's whole cost as stated by the sender, in USD. Partial costs are ignored.
pub const COSTS: &[(&str, &str)] = &[
    ("gen_ai.cost.total_cost", "LiteLLM"),
    ("gen_ai.cost.total", VARIOUS),
    ("gen_ai.cost.total_usd", VARIOUS),
    ("gen_ai.cost.usd", VARIOUS),
    ("gen_ai.cost.total_tokens", SENTRY),
    ("gen_ai.usage.cost", "OpenLIT, LiteLLM"),
    ("gen_ai.usage.total_cost", SENTRY),
    ("gen_ai.usage.cost.total", VARIOUS),
    ("gen_ai.usage.cost_usd", VARIOUS),
    ("llm.cost.total", ARIZE),
    ("llm.usage.total_cost", VARIOUS),
    ("operation.cost", PYDANTIC),
];

/// Instrumentations whose input is known to include the cached tokens, or to exclude them, by the prefix of their
/// scope's name. It decides if the span's own numbers do not.
pub const SCOPES: &[(&str, bool)] = &[
    ("opentelemetry.instrumentation.anthropic", true),
    ("opentelemetry.instrumentation.openai", true),
    ("opentelemetry.util.genai", true),
    ("openinference.instrumentation.", true),
    ("pydantic-ai", true),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_attribute_stands_once_under_a_prefix() {
        let mut names: Vec<&str> = ROWS.iter().map(|row| row.name).collect();
        assert!(names.iter().all(|name| PREFIXES.iter().any(|prefix| name.starts_with(prefix))));
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ROWS.len());
    }

    /// `docs/reference/opentelemetry.md` from the tables. `TALLYD_WRITE_DOCS=1` writes it anew.
    #[test]
    fn the_document_is_made_of_the_tables() {
        let mut text = include_str!("table.md").to_owned();
        text.push_str("\n## Usage\n\n| attribute | is read as | written by |\n|---|---|---|\n");
        for row in ROWS {
            text.push_str(&format!("| `{}` | {} | {} |\n", row.name, row.means.words(), row.source));
        }
        text.push_str("\n## Costs\n\n| attribute | written by |\n|---|---|\n");
        for (name, source) in COSTS {
            text.push_str(&format!("| `{name}` | {source} |\n"));
        }
        text.push_str(
            "\n## Scopes\n\n| instrumentation scope begins with | input includes the cached tokens |\n|---|---|\n",
        );
        for (scope, includes) in SCOPES {
            text.push_str(&format!("| `{scope}` | {} |\n", if *includes { "yes" } else { "no" }));
        }
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/opentelemetry.md");
        if std::env::var_os("TALLYD_WRITE_DOCS").is_some() {
            std::fs::write(path, &text).unwrap();
        }
        let written = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            written == text,
            "docs/reference/opentelemetry.md is not what the tables say; TALLYD_WRITE_DOCS=1 writes it anew"
        );
    }
}
