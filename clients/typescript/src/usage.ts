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

/** Anthropic's: `input_tokens` has nothing of a cache in it. */
export function anthropic(message: Json): Usage | undefined {
  const usage = object(message["usage"]);
  if (!("input_tokens" in usage) && !("output_tokens" in usage)) return undefined;
  const created = object(usage["cache_creation"]);
  const hour = tokens(created["ephemeral_1h_input_tokens"]);
  // Those of an hour are among all; without the details all are of five minutes.
  const five = "ephemeral_5m_input_tokens" in created ? tokens(created["ephemeral_5m_input_tokens"]) : Math.max(0, tokens(usage["cache_creation_input_tokens"]) - hour);
  const searches = tokens(object(usage["server_tool_use"])["web_search_requests"]);
  return {
    ...(typeof message["model"] === "string" ? { model: message["model"] } : {}),
    input_tokens: tokens(usage["input_tokens"]), output_tokens: tokens(usage["output_tokens"]),
    cache_read_tokens: tokens(usage["cache_read_input_tokens"]), cache_write_5m_tokens: five, cache_write_1h_tokens: hour,
    ...(searches > 0 ? { extra_units: { web_search: searches } } : {}),
    ...(typeof usage["service_tier"] === "string" ? { service_tier: usage["service_tier"] } : {}),
  };
}

/** OpenAI's, of chat completions, responses and embeddings: its input has the cached tokens in it, which are taken out. */
export function openai(answer: Json): Usage | undefined {
  const usage = object(answer["usage"]);
  const input = tokens(usage["input_tokens"] ?? usage["prompt_tokens"]);
  const output = tokens(usage["output_tokens"] ?? usage["completion_tokens"]);
  if (!("total_tokens" in usage) && input === 0 && output === 0) return undefined;
  const cached = tokens(object(usage["input_tokens_details"] ?? usage["prompt_tokens_details"])["cached_tokens"]);
  const tier = answer["service_tier"];
  return {
    ...(typeof answer["model"] === "string" ? { model: answer["model"] } : {}),
    input_tokens: Math.max(0, input - cached), output_tokens: output, cache_read_tokens: cached,
    ...(typeof tier === "string" && tier !== "default" && tier !== "auto" ? { service_tier: tier } : {}),
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
    } else if (object(event["usage"])["total_tokens"] !== undefined) {
      this.#openai = openai(event);
    }
  }

  result(provider: string): Usage | undefined {
    return provider === "claude" ? anthropic({ ...this.#anthropic, usage: this.#usage }) : this.#openai;
  }
}
