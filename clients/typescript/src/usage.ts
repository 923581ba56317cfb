// Converts vendors' usage into tallyd's disjoint buckets. `clients/vectors/usage.json` has cases for every client.
//
// * Anthropic's `input_tokens` exclude cached tokens. A compaction is billed in addition to the answer; a declined attempt of a
//   fallback is not billed.
// * OpenAI's input includes tokens read from and written to the cache, and audio and image tokens, which have rates of their own.
//   Cached audio is part of both the cached tokens and the audio. Azure, OpenRouter, DeepSeek, Groq, Moonshot, xAI and LiteLLM use the
//   same names, with some counts of their own.
// * Gemini's prompt includes the cached content. Thoughts and the prompts of tools are separate.
//
// A unit without a rate in the catalog makes the call unpriced. So does a count that is not understood; its name goes into the metadata.

import { Counts, Doubts, list, object, text, type Json } from "./counts.js";
import type { UsageRecord } from "./record.js";

export type Usage = Pick<UsageRecord, "model" | "input_tokens" | "output_tokens" | "cache_read_tokens" | "cache_write_5m_tokens" | "cache_write_1h_tokens" | "extra_units" | "service_tier" | "cost_usd" | "metadata">;
/** The form of an answer's usage: the vendor that introduced it. */
export type Family = "anthropic" | "openai" | "google";

/** The usage of a vendor's answer (parsed JSON); undefined if the answer has no usage. */
export function read(family: Family, answer: unknown): Usage | undefined {
  if (family === "google") return google(answer);
  return family === "anthropic" ? anthropic(object(answer)) : openai(object(answer));
}

/** The units above 0, in the order of their names. */
function units(counts: Record<string, number>): Pick<Usage, "extra_units"> {
  const used = Object.entries(counts).filter(([, count]) => count > 0).sort(([a], [b]) => (a < b ? -1 : 1));
  return used.length > 0 ? { extra_units: Object.fromEntries(used) } : {};
}

function named(model: unknown): Pick<Usage, "model"> {
  return typeof model === "string" ? { model } : {};
}

/** Tiers without an effect on the price. The daemon decides about all others. */
const STANDARD = new Set(["", "standard", "default", "auto", "global", "not_available"]);

/** Tier, speed and region as one text: `batch+us`. */
function tiered(...parts: unknown[]): Pick<Usage, "service_tier"> {
  const told = parts.map(text).filter((part) => !STANDARD.has(part));
  return told.length > 0 ? { service_tier: told.join("+") } : {};
}

function noted(doubts: Doubts, more: Json = {}): Pick<Usage, "metadata"> {
  const metadata = { ...more, ...doubts.metadata };
  return Object.keys(metadata).length > 0 ? { metadata } : {};
}

/**
 * The vendor's own charge in USD: `cost` of OpenRouter and Perplexity. With the caller's own key, OpenRouter's `cost` is its fee, and the
 * upstream vendor's charge is added. A cost of 0 counts only from OpenRouter; for other vendors it means unknown.
 */
function charged(counts: Counts): Pick<Usage, "cost_usd"> {
  const path = "total_cost" in object(counts.get("cost")) ? "cost.total_cost" : "cost";
  if (counts.get(path) == null) return {};
  const cost = counts.number(path);
  const own = counts.get("is_byok");
  if (own === true) return { cost_usd: cost + counts.number("cost_details.upstream_inference_cost") };
  return cost > 0 || (own === false && counts.get(path) === 0) ? { cost_usd: cost } : {};
}

/** Anthropic's buckets, for an answer or for one iteration. */
function buckets(counts: Counts): [input: number, output: number, read: number, five: number, hour: number] {
  const [input, output, read] = [counts.count("input_tokens"), counts.count("output_tokens"), counts.count("cache_read_input_tokens")];
  const written = counts.count("cache_creation_input_tokens");
  const five = counts.count("cache_creation.ephemeral_5m_input_tokens");
  const hour = counts.count("cache_creation.ephemeral_1h_input_tokens");
  counts.part("output_tokens_details");
  // Writes that the split leaves out are those of five minutes, the default.
  if (written >= five + hour) return [input, output, read, written - hour, hour];
  if (written > 0) counts.doubt("cache_creation_input_tokens");
  return [input, output, read, five, hour];
}

/** Usage in Anthropic's form. */
export function anthropic(message: Json): Usage | undefined {
  const usage = object(message["usage"]);
  if (!("input_tokens" in usage) && !("output_tokens" in usage)) return undefined;
  const doubts = new Doubts();
  const counts = new Counts(usage, "usage", doubts);
  let used: number[] = buckets(counts);
  // A refusal before any output is not billed.
  const refused = message["stop_reason"] === "refusal" && used[1] === 0;
  if (refused) used = used.map(() => 0);
  const web_search = counts.count("server_tool_use.web_search_requests");
  counts.part("server_tool_use.web_fetch_requests", "iterations", "fallback_credit");
  for (const iteration of list(usage["iterations"])) {
    const type = text(iteration["type"]);
    if (type === "compaction") {
      const own = new Counts(iteration, "usage.iterations.compaction", doubts);
      used = buckets(own).map((count, at) => count + used[at]!);
      own.rest();
    } else if (type !== "message" && type !== "fallback_message") counts.doubt(`iterations.${type}`);
  }
  // The bill then counts some cache writes as reads, and the usage does not say how many.
  if (object(object(usage["fallback_credit"])["status"])["type"] === "redeemed") counts.doubt("fallback_credit");
  const cost = charged(counts);
  counts.rest();
  const [input_tokens, output_tokens, cache_read_tokens, cache_write_5m_tokens, cache_write_1h_tokens] = used;
  return {
    ...named(message["model"]),
    input_tokens: input_tokens!, output_tokens: output_tokens!, cache_read_tokens: cache_read_tokens!, cache_write_5m_tokens: cache_write_5m_tokens!, cache_write_1h_tokens: cache_write_1h_tokens!,
    ...units({ web_search }), ...tiered(usage["service_tier"], usage["speed"], usage["inference_geo"]), ...cost,
    ...noted(doubts, refused ? { unbilled: "refusal" } : {}),
  };
}

/** Usage in OpenAI's form: chat completions, responses, embeddings, images, transcriptions and realtime. */
export function openai(answer: Json): Usage | undefined {
  const usage = object(answer["usage"]);
  if (Object.keys(usage).length === 0) return undefined;
  const doubts = new Doubts();
  const counts = new Counts(usage, "usage", doubts);
  const [prompt, completion] = "input_tokens" in usage ? ["input_token", "output_token"] : ["prompt_token", "completion_token"];
  // Realtime and transcriptions use the singular.
  const details = (name: string): string => (`${name}_details` in usage ? `${name}_details` : `${name}s_details`);
  const [asked, said] = [details(prompt!), details(completion!)];
  const whole = counts.count(`${prompt}s`);
  let output = counts.count(`${completion}s`);
  const cached = counts.one(`${asked}.cached_tokens`, "prompt_cache_hit_tokens", "cached_tokens", "cache_read_input_tokens");
  const written = counts.one(`${asked}.cache_write_tokens`, `${asked}.cache_creation_tokens`, "cache_creation_input_tokens");
  const hour = counts.count(`${asked}.cache_creation_token_details.ephemeral_1h_input_tokens`);
  const [heard, seen] = [counts.count(`${asked}.audio_tokens`), counts.count(`${asked}.image_tokens`)];
  const [heardAgain, seenAgain] = [counts.count(`${asked}.cached_tokens_details.audio_tokens`), counts.count(`${asked}.cached_tokens_details.image_tokens`)];
  const [spoken, drawn] = [counts.count(`${said}.audio_tokens`), counts.count(`${said}.image_tokens`)];
  const thoughts = counts.count(`${said}.reasoning_tokens`);
  const total = counts.count("total_tokens");
  const searches = counts.one("server_tool_use.web_search_requests", `${asked}.web_search_requests`);
  const audio_second = usage["type"] === "duration" ? counts.number("seconds") : 0;
  counts.part(
    `${asked}.text_tokens`, `${asked}.cached_tokens_details.text_tokens`, `${asked}.cache_creation_token_details.ephemeral_5m_input_tokens`, `${said}.text_tokens`,
    `${said}.accepted_prediction_tokens`, `${said}.rejected_prediction_tokens`, "prompt_cache_miss_tokens", "server_tool_use.web_fetch_requests", "iterations",
  );
  // Embeddings and rankings of some vendors have a total only.
  const sum = answer["object"] === "list" && whole === 0 && output === 0 ? total : whole;
  if (total > 0 && total === sum + output + thoughts) output += total - sum - output;
  else if (total > 0 && total !== sum + output) counts.doubt("total_tokens");
  if (cached > 0 && heard + seen > 0 && counts.get(`${asked}.cached_tokens_details`) == null) counts.doubt(`${asked}.cached_tokens`);
  const audio_input_token = counts.less(`${asked}.audio_tokens`, heard, heardAgain);
  const image_input_token = counts.less(`${asked}.image_tokens`, seen, seenAgain);
  const cache_read_tokens = counts.less(`${asked}.cached_tokens`, cached, heardAgain, seenAgain);
  const input_tokens = counts.less(`${prompt}s`, sum, cached, written, audio_input_token, image_input_token);
  const output_tokens = counts.less(`${completion}s`, output, spoken, drawn);
  const cache_write_5m_tokens = counts.less(`${asked}.cache_creation_token_details`, written, hour);
  // LiteLLM sums all attempts of Anthropic, including unbilled ones and those of other models.
  for (const type of list(usage["iterations"]).map((one) => text(one["type"]))) if (type !== "message" && type !== "compaction") counts.doubt(`iterations.${type}`);
  const cost = charged(counts);
  counts.rest();
  const called = items(answer, doubts);
  return {
    ...named(answer["model"]), input_tokens, output_tokens, cache_read_tokens, cache_write_5m_tokens, cache_write_1h_tokens: hour,
    ...units({
      audio_input_token, audio_cache_read_token: heardAgain, audio_output_token: spoken, audio_second,
      image_input_token, image_cache_read_token: seenAgain, image_output_token: drawn,
      ...called, web_search: searches + (called["web_search"] ?? 0),
    }),
    ...tiered(answer["service_tier"] ?? usage["service_tier"], usage["speed"], usage["inference_geo"]), ...cost, ...noted(doubts),
  };
}

/** Calls within a response that cost only their tokens. */
const TOKENS_ALONE = new Set(["function_call", "custom_tool_call", "computer_call", "mcp_call", "local_shell_call", "apply_patch_call", "tool_search_call"]);

/** Units that a response's items, or a model that always searches, cost in addition to tokens. */
function items(answer: Json, doubts: Doubts): Record<string, number> {
  const counts: Record<string, number> = {};
  const add = (unit: string): void => void (counts[unit] = (counts[unit] ?? 0) + 1);
  const containers = new Set<string>();
  if (text(answer["object"]).startsWith("chat.completion") && /-search-(preview|api)/.test(text(answer["model"]))) add("web_search");
  for (const item of list(answer["output"])) {
    const type = text(item["type"]);
    const done = item["status"] == null || item["status"] === "completed";
    const container = text(item["container_id"]);
    if (!type.endsWith("_call") || TOKENS_ALONE.has(type)) continue;
    if (type === "web_search_call") {
      // Opening a page, or searching in one, is not billed.
      if (done && ["", "search"].includes(text(object(item["action"])["type"]))) add("web_search");
    } else if (type === "file_search_call") {
      if (done) add("file_search");
    } else if (type === "image_generation_call") {
      if (item["status"] !== "failed") add("image_generation");
    } else if (type === "code_interpreter_call") {
      if (!container || !containers.has(container)) add("code_interpreter");
      containers.add(container);
    } else if (type !== "shell_call" || (object(item["environment"])["type"] ?? "local") !== "local") doubts.add(`output.${type}`);
  }
  return counts;
}

const MODALITIES = new Set(["TEXT", "AUDIO", "IMAGE", "VIDEO", "DOCUMENT", "MODALITY_UNSPECIFIED"]);

/** Usage in Gemini's form: an answer, or the array of a stream's events. */
export function google(answer: unknown): Usage | undefined {
  if (Array.isArray(answer)) return streamed("google", answer);
  const body = object(answer);
  const meta = object(body["usageMetadata"]);
  if (Object.keys(meta).length === 0) return undefined;
  const doubts = new Doubts();
  const counts = new Counts(meta, "usageMetadata", doubts);
  const [prompt, cached, tool] = [counts.count("promptTokenCount"), counts.count("cachedContentTokenCount"), counts.count("toolUsePromptTokenCount")];
  const said = counts.one("candidatesTokenCount", "responseTokenCount");
  const [thoughts, total] = [counts.count("thoughtsTokenCount"), counts.count("totalTokenCount")];
  const of = (name: string): ((...modalities: string[]) => number) => {
    counts.part(name);
    const told = list(meta[name]).map((one): [string, number] => {
      const modality = text(one["modality"]) || "MODALITY_UNSPECIFIED";
      if (!MODALITIES.has(modality)) counts.doubt(`${name}.${modality}`);
      return [modality, new Counts(one, `usageMetadata.${name}`, doubts).count("tokenCount")];
    });
    return (...modalities) => told.filter(([modality]) => modalities.includes(modality)).reduce((sum, [, count]) => sum + count, 0);
  };
  const [asked, again, tools] = [of("promptTokensDetails"), of("cacheTokensDetails"), of("toolUsePromptTokensDetails")];
  const [candidates, responses] = [of("candidatesTokensDetails"), of("responseTokensDetails")];
  const heard = asked("AUDIO") + tools("AUDIO");
  const heardAgain = again("AUDIO");
  const spoken = candidates("AUDIO") + responses("AUDIO");
  const drawn = candidates("IMAGE") + responses("IMAGE");
  // Only Live models have a rate of their own for image and video input.
  const seen = "responseTokenCount" in meta ? asked("IMAGE", "VIDEO") : 0;
  if (total > 0 && total !== prompt + said + thoughts + tool) counts.doubt("totalTokenCount");
  if (cached > 0 && heard > 0 && !Array.isArray(meta["cacheTokensDetails"])) counts.doubt("cachedContentTokenCount");
  const audio_input_token = counts.less("promptTokensDetails", heard, heardAgain);
  const input_tokens = counts.less("promptTokenCount", prompt + tool, cached, audio_input_token, seen);
  const cache_read_tokens = counts.less("cachedContentTokenCount", cached, heardAgain);
  const output_tokens = counts.less("candidatesTokenCount", said, spoken, drawn) + thoughts;
  counts.rest();
  const tier = meta["serviceTier"] ?? meta["trafficType"];
  return {
    ...named(body["modelVersion"]), input_tokens, output_tokens, cache_read_tokens,
    ...units({ audio_input_token, audio_cache_read_token: heardAgain, audio_output_token: spoken, image_input_token: seen, image_output_token: drawn, ...grounded(body) }),
    ...tiered(text(tier).endsWith("UNSPECIFIED") ? "" : tier), ...noted(doubts),
  };
}

/** Units of searches: up to Gemini 2.5 one per prompt, from Gemini 3 on one per query. */
function grounded(body: Json): Record<string, number> {
  let [queries, maps] = [0, 0];
  for (const { groundingMetadata } of list(body["candidates"])) {
    const { webSearchQueries, groundingChunks } = object(groundingMetadata);
    if (Array.isArray(webSearchQueries)) queries += webSearchQueries.filter((query) => query !== "").length;
    if (list(groundingChunks).some((chunk) => "maps" in chunk)) maps = 1;
  }
  const isByQuery = /^gemini-([3-9]|\d\d)/.test(text(body["modelVersion"]));
  return { web_search: isByQuery ? queries : Math.min(1, queries), maps_search: maps };
}

function streamed(family: Family, events: unknown[]): Usage | undefined {
  const stream = new StreamUsage(family);
  for (const event of events) stream.event(object(event));
  return stream.result();
}

/** Collects the usage of a stream's events (parsed JSON). The usage of an incomplete stream is that so far, with `incomplete` in its metadata. */
export class StreamUsage {
  #answer: Json = {};
  #usage: Json = {};
  #openai: Usage | undefined;
  /** Whether the last event with usage has arrived. */
  #whole = false;

  constructor(readonly family: Family) {}

  event(event: Json): void {
    if (this.family === "anthropic") this.#ofAnthropic(event);
    else if (this.family === "google") this.#ofGoogle(event);
    else this.#openai = openai(text(event["type"]).startsWith("response.") ? object(event["response"]) : event) ?? this.#openai;
  }

  #ofAnthropic(event: Json): void {
    if (event["type"] === "message_start") {
      this.#answer = object(event["message"]);
      this.#usage = { ...object(this.#answer["usage"]) };
    } else if (event["type"] === "message_delta") {
      // Counts are cumulative, so the last one wins.
      for (const [name, value] of Object.entries(object(event["usage"]))) if (value !== null) this.#usage[name] = value;
      this.#answer = { ...this.#answer, stop_reason: object(event["delta"])["stop_reason"] };
    } else if (event["type"] === "message_stop") this.#whole = true;
  }

  #ofGoogle(event: Json): void {
    const candidates = list(event["candidates"]);
    if (candidates.some((one) => one["finishReason"])) this.#whole = true;
    const told = Object.fromEntries(["modelVersion", "usageMetadata"].filter((name) => event[name] != null).map((name) => [name, event[name]]));
    this.#answer = { ...this.#answer, ...told, ...(candidates.some((one) => one["groundingMetadata"]) ? { candidates } : {}) };
  }

  result(): Usage | undefined {
    if (this.family === "openai") return this.#openai;
    const usage = this.family === "anthropic" ? anthropic({ ...this.#answer, usage: this.#usage }) : google(this.#answer);
    if (!usage || this.#whole) return usage;
    return { ...usage, metadata: { incomplete: true, ...object(usage.metadata) } };
  }
}
