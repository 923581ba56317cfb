// What vendors say that a call used, as tallyd's disjoint buckets.

import type { UsageRecord } from "./record.js";

export type Usage = Pick<UsageRecord, "model" | "input_tokens" | "output_tokens" | "cache_read_tokens" | "cache_write_5m_tokens" | "cache_write_1h_tokens" | "extra_units" | "service_tier">;

type Json = Record<string, unknown>;

function object(value: unknown): Json {
  return typeof value === "object" && value !== null ? (value as Json) : {};
}

function tokens(value: unknown): number {
  return typeof value === "number" && Number.isSafeInteger(value) && value > 0 ? value : 0;
}

function units(counts: Record<string, number>): Pick<Usage, "extra_units"> {
  const used = Object.entries(counts).filter(([, count]) => count > 0);
  return used.length > 0 ? { extra_units: Object.fromEntries(used) } : {};
}

function tiered(tier: string): Pick<Usage, "service_tier"> {
  return tier === "standard" ? {} : { service_tier: tier };
}

function named(answer: Json): Pick<Usage, "model"> {
  return typeof answer["model"] === "string" ? { model: answer["model"] } : {};
}

/** Anthropic's: `input_tokens` has nothing of a cache in it. */
export function anthropic(message: Json): Usage | undefined {
  const usage = object(message["usage"]);
  if (!("input_tokens" in usage) && !("output_tokens" in usage)) return undefined;
  const created = object(usage["cache_creation"]);
  const hour = tokens(created["ephemeral_1h_input_tokens"]);
  // Those of an hour are among all; without the details all are of five minutes.
  const five = tokens(created["ephemeral_5m_input_tokens"]) || Math.max(0, tokens(usage["cache_creation_input_tokens"]) - hour);
  const tier = typeof usage["service_tier"] === "string" && usage["service_tier"] ? usage["service_tier"] : "standard";
  const fast = usage["speed"] === "fast";
  return {
    ...named(message),
    input_tokens: tokens(usage["input_tokens"]), output_tokens: tokens(usage["output_tokens"]),
    cache_read_tokens: tokens(usage["cache_read_input_tokens"]), cache_write_5m_tokens: five, cache_write_1h_tokens: hour,
    ...units({ web_search: tokens(object(usage["server_tool_use"])["web_search_requests"]) }),
    ...tiered(!fast ? tier : tier === "standard" ? "fast" : `${tier}-fast`),
  };
}

/**
 * OpenAI's, of chat completions, responses and embeddings: its input has the tokens read from and written to the cache in it, which
 * are taken out, and those of audio, which have a price of their own.
 */
export function openai(answer: Json): Usage | undefined {
  const usage = object(answer["usage"]);
  if (Object.keys(usage).length === 0) return undefined;
  const [prompt, completion] = "input_tokens" in usage ? ["input_tokens", "output_tokens"] : ["prompt_tokens", "completion_tokens"];
  const asked = object(usage[`${prompt}_details`]);
  const [cached, written, heard] = [asked["cached_tokens"], asked["cache_write_tokens"], asked["audio_tokens"]].map(tokens) as [number, number, number];
  const spoken = tokens(object(usage[`${completion}_details`])["audio_tokens"]);
  const output = Array.isArray(answer["output"]) ? answer["output"] : [];
  const calls = (type: string): number => output.filter((item) => object(item)["type"] === type).length;
  const tier = answer["service_tier"];
  return {
    ...named(answer),
    input_tokens: Math.max(0, tokens(usage[prompt]) - cached - written - heard), output_tokens: Math.max(0, tokens(usage[completion]) - spoken),
    cache_read_tokens: cached, cache_write_5m_tokens: written,
    ...units({ audio_input_token: heard, audio_output_token: spoken, file_search: calls("file_search_call"), web_search: calls("web_search_call") }),
    // `default` and `auto` are its names for what it charges the standard price for.
    ...tiered(typeof tier === "string" && tier && tier !== "default" && tier !== "auto" ? tier : "standard"),
  };
}

/** Gathers the usage of a stream of events. */
export class StreamUsage {
  #anthropic: Json = {};
  #usage: Json = {};
  #openai: Usage | undefined;

  event(event: Json): void {
    if (event["type"] === "message_start") {
      this.#anthropic = object(event["message"]);
      this.#usage = { ...object(this.#anthropic["usage"]) };
    } else if (event["type"] === "message_delta") {
      // Cumulative: what is said last holds.
      for (const [name, value] of Object.entries(object(event["usage"]))) if (value !== null) this.#usage[name] = value;
    } else if (typeof event["type"] === "string" && event["type"].startsWith("response.")) {
      this.#openai = openai(object(event["response"])) ?? this.#openai;
    } else this.#openai = openai(event) ?? this.#openai;
  }

  result(provider: string): Usage | undefined {
    return provider === "claude" ? anthropic({ ...this.#anthropic, usage: this.#usage }) : this.#openai;
  }
}
