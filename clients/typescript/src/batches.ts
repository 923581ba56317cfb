// Records from answers that did not pass through `instrument`: fetched later, kept in a queue, or results of a batch.
//
// The record's id is derived from the vendor's id of the answer. So an answer that a second run of the same job records again is the
// same call. `clients/vectors/batches.json` has cases for every client.

import { createHash } from "node:crypto";

import { object, type Json } from "./counts.js";
import type { UsageRecord } from "./record.js";
import { read, type Family } from "./usage.js";
import { format } from "./uuid.js";

const NAMESPACE = Buffer.from("6d0f4d1e6d2b5a7e9a550f9a5f3b7c11", "hex");
const PROVIDERS: Record<Family, string> = { anthropic: "claude", openai: "openai", google: "google" };

/** A UUID of version 5, from the name's SHA-1. */
function named(name: string): string {
  const bytes = createHash("sha1").update(NAMESPACE).update(name, "utf8").digest().subarray(0, 16);
  bytes[6] = (bytes[6]! & 0x0f) | 0x50;
  bytes[8] = (bytes[8]! & 0x3f) | 0x80;
  return format(bytes);
}

/**
 * The record of a complete answer (parsed JSON). `provider` is for another vendor whose answers have this family's form. An answer without
 * usage was paid for, so its record is unpriced. An answer without an id of the vendor gets a new id at each call of this function.
 */
export function recordOf(family: Family, answer: unknown, provider: string = PROVIDERS[family]): UsageRecord {
  const said = object(answer);
  const model = said["model"] ?? said["modelVersion"];
  const untold = { ...(typeof model === "string" ? { model } : {}), metadata: { "tallyd.not_understood": "usage" } };
  const own = said[family === "google" ? "responseId" : "id"];
  const made = said["created"] ?? said["created_at"];
  return {
    provider,
    ...(typeof own === "string" && own !== "" ? { id: named(`${provider}\n${own}`), request_id: own } : {}),
    ...(typeof made === "number" && Number.isSafeInteger(made) && made > 0 ? { occurred_at: made * 1_000_000 } : {}),
    ...(read(family, answer) ?? untold),
  } as UsageRecord;
}

/**
 * The records of a batch's results: lines of its file (text), or the SDK's objects. Their service tier is `batch`. Results that were not
 * billed (errored, cancelled, expired) have no record. Throws a TypeError with the line's number for a line that is not a result.
 */
export function* recordsOfBatch(family: Family, results: Iterable<unknown>, provider?: string): Generator<UsageRecord> {
  let number = 0;
  for (const result of results) {
    number += 1;
    if (typeof result === "string" && result.trim() === "") continue;
    const line = object(typeof result === "string" ? parsed(result, number) : result);
    const answer = answerOf(family, line, number);
    if (!answer) continue;
    const record = recordOf(family, answer, provider);
    const tiers = (record.service_tier ?? "").split("+").filter((tier) => !["", "standard", "batch"].includes(tier));
    const name = line["custom_id"] ?? line["key"];
    const metadata = { ...(typeof name === "string" && name !== "" ? { custom_id: name } : {}), ...object(record.metadata) };
    yield { ...record, service_tier: ["batch", ...tiers].join("+"), ...(Object.keys(metadata).length > 0 ? { metadata } : {}) };
  }
}

function parsed(line: string, number: number): unknown {
  try {
    return JSON.parse(line);
  } catch (error) {
    throw new TypeError(`line ${number} is not JSON: ${(error as Error).message}`);
  }
}

/** The answer in a result; undefined if the vendor did not bill it. */
function answerOf(family: Family, line: Json, number: number): Json | undefined {
  const [result, response] = [object(line["result"]), object(line["response"])];
  if (family === "anthropic" && "result" in line) return result["type"] === "succeeded" ? object(result["message"]) : undefined;
  if (family === "openai" && "response" in line) return response["status_code"] === 200 ? object(response["body"]) : undefined;
  if (family === "google" && ("response" in line || "error" in line)) return Object.keys(response).length > 0 ? response : undefined;
  throw new TypeError(`line ${number} is not a result of a batch of ${family}'s`);
}
