//! Tables of names: vendors, platforms and service tiers, each with its sources.

use std::collections::HashMap;
use std::sync::LazyLock;

/// Providers that run vendors' models at prices of their own.
pub(super) const PLATFORMS: [&str; 4] = ["azure", "bedrock", "openrouter", "vertex"];

/// The AI SDK's suffixes of a provider's name: the provider's service.
pub(super) const SDK_ENDS: [&str; 13] = [
    ".responses",
    ".chat",
    ".messages",
    ".completion",
    ".completions",
    ".embedding",
    ".embeddings",
    ".textembedding",
    ".image",
    ".speech",
    ".transcription",
    ".generative-ai",
    ".reranking",
];

/// Our name of a provider, and its other names: OpenTelemetry's (`gcp.vertex_ai`), OpenLLMetry's (`VertexAI`),
/// LiteLLM's (`vertex_ai`), the AI SDK's (`google.vertex`), OpenInference's, frameworks' and people's. Lower case.
const PROVIDERS: [(&str, &[&str]); 16] = [
    ("claude", &["anthropic", "claude", "anthropic-ai"]),
    ("openai", &["open_ai", "openai", "open-ai", "text-completion-openai"]),
    (
        "google",
        &[
            "gcp.gemini",
            "gemini",
            "google",
            "google-ai",
            "google-genai",
            "google-gla",
            "google-generative-ai",
            "google.gemini",
            "google_ai_studio",
            "google_genai",
            "google_generativeai",
            "googleai",
        ],
    ),
    (
        "bedrock",
        &[
            "amazon bedrock",
            "amazon-bedrock",
            "amazon.bedrock",
            "amazon_bedrock",
            "anthropic_bedrock",
            "aws",
            "aws bedrock",
            "aws-bedrock",
            "aws.bedrock",
            "aws_bedrock",
            "bedrock",
            "bedrock-runtime",
            "bedrock_converse",
            "bedrock-converse",
            "bedrock.anthropic",
        ],
    ),
    (
        "vertex",
        &[
            "anthropic_vertex",
            "gcp.vertex_ai",
            "google vertex",
            "google-vertex",
            "google-vertex-anthropic",
            "google.vertex",
            "google.vertex.anthropic",
            "google_vertex",
            "google_vertexai",
            "googlevertex",
            "vertex",
            "vertex ai",
            "vertex-ai",
            "vertex.anthropic",
            "vertex_ai",
            "vertex_ai-anthropic_models",
            "vertex_ai-language-models",
            "vertex_ai_beta",
            "vertexai",
        ],
    ),
    (
        "azure",
        &[
            "az.ai.inference",
            "az.ai.openai",
            "azure",
            "azure openai",
            "azure-ai",
            "azure-openai",
            "azure.ai.inference",
            "azure.ai.openai",
            "azure.openai",
            "azure_ai",
            "azure_openai",
            "azure_text",
            "azureopenai",
            "azure-ai-inference",
            "azure_ai_inference",
        ],
    ),
    ("openrouter", &["open-router", "open_router", "openrouter", "openrouter.ai"]),
    ("deepseek", &["deepseek", "deepseek-ai", "deepseek_ai"]),
    ("mistral", &["mistral", "mistral-ai", "mistral_ai", "mistralai", "mistral ai", "codestral"]),
    ("xai", &["x-ai", "x.ai", "x_ai", "xai"]),
    ("groq", &["groq", "groq.com"]),
    ("cohere", &["cohere", "cohere_chat"]),
    ("voyage", &["voyage", "voyage-ai", "voyage_ai", "voyageai"]),
    ("together", &["together", "together-ai", "together_ai", "togetherai"]),
    ("fireworks", &["fireworks", "fireworks-ai", "fireworks_ai"]),
    ("moonshot", &["moonshot", "moonshotai", "moonshot_ai", "moonshot-ai"]),
];

static BY_NAME: LazyLock<HashMap<&str, &str>> = LazyLock::new(|| {
    let names = PROVIDERS.iter().flat_map(|(ours, names)| names.iter().map(|name| (*name, *ours)));
    names.collect()
});

/// All names of a provider, by our name of it; only that name if it does not have others.
pub fn provider_names(ours: &str) -> impl Iterator<Item = &str> {
    let others = PROVIDERS.iter().find(|(name, _)| *name == ours).map_or(&[][..], |(_, names)| *names);
    std::iter::once(ours).chain(others.iter().copied().filter(move |name| *name != ours))
}

/// Our name of a provider, by one of its names in lower case.
pub(super) fn provider(name: &str) -> Option<&'static str> {
    // The most frequent names are compared, not hashed.
    match name {
        "claude" | "anthropic" => Some("claude"),
        "openai" => Some("openai"),
        "google" | "gemini" => Some("google"),
        "rentcast" => Some("rentcast"),
        _ => BY_NAME.get(name).copied(),
    }
}

/// A part of a service tier.
pub(super) enum TierPart {
    /// The standard rates.
    Standard,
    /// A tier with rates of its own.
    Tier(&'static str),
    /// The region of processing, if it affects the price.
    Place(&'static str),
}

/// The meaning of a part of a tier's name; none if it is unknown.
pub(super) fn tier_part(part: &str) -> Option<TierPart> {
    const PARTS: [(&str, TierPart); 22] = [
        ("standard", TierPart::Standard),
        // OpenAI, Bedrock, Gemini: the tier of a request without one.
        ("default", TierPart::Standard),
        ("auto", TierPart::Standard),
        ("standard_only", TierPart::Standard),
        ("standard-only", TierPart::Standard),
        // Vertex's traffic types, and Groq's.
        ("on_demand", TierPart::Standard),
        ("on-demand", TierPart::Standard),
        ("ondemand", TierPart::Standard),
        ("on_demand_priority", TierPart::Tier("priority")),
        ("on_demand_flex", TierPart::Tier("flex")),
        ("flex", TierPart::Tier("flex")),
        ("priority", TierPart::Tier("priority")),
        ("batch", TierPart::Tier("batch")),
        ("batches", TierPart::Tier("batch")),
        ("fast", TierPart::Tier("fast")),
        // Anthropic's `speed`.
        ("normal", TierPart::Standard),
        // Anthropic's `inference_geo`.
        ("us", TierPart::Place("us")),
        ("global", TierPart::Standard),
        ("not_available", TierPart::Standard),
        // LiteLLM's names of further OpenAI tiers.
        ("balanced", TierPart::Tier("balanced")),
        ("ultrafast", TierPart::Tier("ultrafast")),
        ("decisions", TierPart::Tier("decisions")),
    ];
    let found = PARTS.into_iter().find(|(name, _)| name.eq_ignore_ascii_case(part));
    found.map(|(_, part)| part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_of_one_provider_and_lower_case() {
        let names: Vec<&str> = PROVIDERS.iter().flat_map(|(_, names)| *names).copied().collect();
        assert_eq!(BY_NAME.len(), names.len(), "a name stands twice");
        for (ours, names) in PROVIDERS {
            assert_eq!(provider(ours), Some(ours), "{ours} names itself");
            assert!(names.iter().all(|name| *name == name.to_ascii_lowercase().trim()), "{names:?}");
        }
    }
}
