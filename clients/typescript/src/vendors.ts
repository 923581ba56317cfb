// Model vendors: their hosts, and the endpoints that they bill per call.

import type { Family } from "./usage.js";

const HOSTS: Record<string, string> = {
  "api.anthropic.com": "claude", "api.openai.com": "openai", "api.rentcast.io": "rentcast", "openrouter.ai": "openrouter",
  "generativelanguage.googleapis.com": "google", "aiplatform.googleapis.com": "vertex", "api.deepseek.com": "deepseek", "api.x.ai": "xai",
  "api.groq.com": "groq", "api.mistral.ai": "mistral", "api.together.xyz": "together", "api.together.ai": "together",
  "api.fireworks.ai": "fireworks", "api.moonshot.ai": "moonshot", "api.moonshot.cn": "moonshot", "api.perplexity.ai": "perplexity",
  "api.voyageai.com": "voyage",
};
const SUFFIXES: readonly [string, string][] = [
  [".openai.azure.com", "azure"], [".services.ai.azure.com", "azure"], [".cognitiveservices.azure.com", "azure"], ["-aiplatform.googleapis.com", "vertex"],
];
const VENDORS = new Set([...Object.values(HOSTS).filter((name) => name !== "rentcast"), "anthropic", "azure", "bedrock", "gemini"]);

/** The provider of a host; undefined for an unknown host. */
export function providerOf(host: string): string | undefined {
  if (/^bedrock-runtime\..*amazonaws\.com$/.test(host)) return "bedrock";
  return HOSTS[host] ?? SUFFIXES.find(([suffix]) => host.endsWith(suffix))?.[1];
}

/** Whether the provider sells model calls. */
export function isVendor(provider: string): boolean {
  return VENDORS.has(provider);
}

/** Paths of billed calls, with the form of their answers' usage. */
const BILLED: readonly [RegExp, Family][] = [
  [/\/(messages|complete)$|\/model\/[^/]+\/invoke(-with-response-stream)?$|:(rawPredict|streamRawPredict)$/, "anthropic"],
  [/\/(chat\/completions|completions|responses|responses\/compact|embeddings|rerank|images\/(generations|edits|variations)|audio\/(speech|transcriptions|translations)|videos)$/, "openai"],
  [/:(generateContent|streamGenerateContent|embedContent|batchEmbedContents|predict|predictLongRunning)$/, "google"],
];

/** The form of the answer's usage; undefined for a call that is not billed. */
export function familyOf(method: string, path: string): Family | undefined {
  return method.toUpperCase() === "POST" ? BILLED.find(([paths]) => paths.test(path))?.[1] : undefined;
}

/** The model in a path; undefined without one. */
export function modelOf(path: string): string | undefined {
  const model = /\/models?\/([^/:]+)[/:]/.exec(path)?.[1];
  // Bedrock's names have a colon, which a path encodes as `%3A`.
  return model?.replace(/%3A/gi, ":");
}
