// A drop-in for a tracker that kept its numbers in memory: the same methods, and the numbers survive.

import type { RecorderOptions } from "./options.js";
import { Recorder } from "./recorder.js";
import type { UsageRecord } from "./record.js";

export interface CostTrackerOptions extends RecorderOptions {
  /** The daemon's HTTP address. `TALLYD_HTTP`, or `http://127.0.0.1:7420`, if it is left out. */
  http?: string;
  /** A token for it: role `read` asks, role `admin` also sets. `TALLYD_HTTP_TOKEN`, if it is left out. */
  httpToken?: string;
  /** How long a record's cost is waited for, in milliseconds. 1,000, if it is left out. The record is kept either way. */
  costTimeout?: number;
}

/** Without what is empty: then the request's own endpoint and user hold, where the middleware knows them. */
function said(fields: { endpoint: string | undefined; user_id: string | undefined }): Partial<UsageRecord> {
  return { ...(fields.endpoint ? { endpoint: fields.endpoint } : {}), ...(fields.user_id ? { user_id: fields.user_id } : {}) };
}

/** Records, and asks the daemon for what it has recorded. */
export class CostTracker {
  readonly recorder: Recorder;
  readonly #http: string;
  readonly #token: string | undefined;
  readonly #costTimeout: number;

  constructor(options: CostTrackerOptions = {}) {
    this.recorder = new Recorder(options);
    this.#http = (options.http ?? process.env["TALLYD_HTTP"] ?? "http://127.0.0.1:7420").replace(/\/$/, "");
    this.#token = options.httpToken ?? process.env["TALLYD_HTTP_TOKEN"];
    this.#costTimeout = options.costTimeout ?? 1_000;
  }

  /**
   * Records a call of Claude. Resolves to its cost in USD; to NaN if no price of the model is known, or the daemon has not
   * answered in time. NaN and not 0, so that no sum takes an unknown cost for none. Never rejects.
   */
  recordClaude(model: string, inputTokens: number, outputTokens: number, endpoint?: string, userId?: string, more: Partial<UsageRecord> = {}): Promise<number> {
    return this.#cost({ provider: "claude", model, input_tokens: inputTokens, output_tokens: outputTokens, ...said({ endpoint, user_id: userId }), ...more });
  }

  /** Records a request to RentCast. Resolves as {@link recordClaude} does. */
  recordRentCast(endpoint: string, userId?: string, more: Partial<UsageRecord> = {}): Promise<number> {
    return this.#cost({ provider: "rentcast", ...said({ endpoint, user_id: userId }), ...more });
  }

  async #cost(record: UsageRecord): Promise<number> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<undefined>((resolve) => (timer = setTimeout(() => resolve(undefined), this.#costTimeout)));
    // A refusal is told to `onReject`, and stands in the daemon's dead letters.
    const settled = this.recorder.recordAndWait(record).catch(() => undefined);
    const durable = await Promise.race([settled, late]);
    clearTimeout(timer);
    return durable?.cost_usd === null || durable?.cost_usd === undefined ? NaN : Number(durable.cost_usd);
  }

  /** Today and its budget: `GET /api/admin/costs`. */
  getTodayCosts(): Promise<unknown> {
    return this.#ask("GET", "/api/admin/costs");
  }

  /** Newest day first: `GET /api/admin/cost-history`. */
  getHistory(days = 30): Promise<unknown[]> {
    return this.#ask("GET", `/api/admin/cost-history?days=${days}`) as Promise<unknown[]>;
  }

  /** Lifetime calls by user: `GET /api/admin/user-stats`. */
  getUserCallStats(): Promise<unknown> {
    return this.#ask("GET", "/api/admin/user-stats");
  }

  /** Today, the history, and the prices. */
  async getSummary(days = 30): Promise<{ today: unknown; history: unknown[]; pricing: unknown }> {
    const [today, history, pricing] = await Promise.all([this.getTodayCosts(), this.getHistory(days), this.getPricingInfo()]);
    return { today, history, pricing };
  }

  /** The prices in force: `GET /api/admin/pricing`. */
  getPricingInfo(): Promise<unknown> {
    return this.#ask("GET", "/api/admin/pricing");
  }

  /** USD that may be spent a day: `POST /api/admin/budget`. */
  setDailyBudget(budget: number): Promise<unknown> {
    return this.#ask("POST", "/api/admin/budget", { budget });
  }

  /** USD for one request, from now on: `POST /api/admin/rentcast-cost`. */
  setRentCastCostPerRequest(costPerRequest: number): Promise<unknown> {
    return this.#ask("POST", "/api/admin/rentcast-cost", { costPerRequest });
  }

  /** Whether a budget is used up, and paid calls should be held back. */
  get shouldThrottle(): boolean {
    return this.recorder.shouldThrottle;
  }

  /** Makes durable what can be made so in that time. */
  close(timeout?: number): Promise<number> {
    return this.recorder.close(timeout);
  }

  async #ask(method: string, path: string, body?: unknown): Promise<unknown> {
    const headers: Record<string, string> = {};
    if (this.#token) headers["authorization"] = `Bearer ${this.#token}`;
    if (body !== undefined) headers["content-type"] = "application/json";
    const answer = await fetch(this.#http + path, { method, headers, ...(body === undefined ? {} : { body: JSON.stringify(body) }) });
    const text = await answer.text();
    if (answer.ok) return JSON.parse(text);
    let told: { error?: { message: string; hint: string } } = {};
    try {
      told = JSON.parse(text) as typeof told;
    } catch {
      // Not the daemon's answer: a proxy's.
    }
    const { message = text.slice(0, 200), hint = "" } = told.error ?? {};
    throw new Error(`tallyd answered ${answer.status} to ${method} ${path}: ${message}${hint ? `. ${hint}` : ""}`);
  }
}
