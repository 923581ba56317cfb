// A drop-in for a tracker that kept its numbers in memory: the methods are the same, and the numbers survive a restart.
//
// Recording never rejects, and waits `costTimeout` at most. Settings are written in the background. Answers come from the daemon. A rejected
// promise that the application does not await does not end the process.

import type { ActiveSessions, CostSummary, DailyCosts, PricingInfo, UserCallStats } from "./answers.js";
import { DaemonHttp } from "./daemon-http.js";
import { KNOWN_PRICES } from "./known-prices.js";
import { localPrice } from "./local-price.js";
import type { RecorderOptions } from "./options.js";
import { Recorder } from "./recorder.js";
import type { UsageRecord } from "./record.js";
import { Settings } from "./settings.js";
import { platform } from "./platform.js";
import { after, cancel, cancelEvery, every, type Timer } from "./timers.js";
import { takeSeen, watchTwice } from "./twice.js";
import type { CallScope } from "./call-scope.js";

export interface CostTrackerOptions extends RecorderOptions {
  /** The daemon's HTTP address. Default: `TALLYD_HTTP`, else `http://127.0.0.1:7420`. */
  http?: string;
  /** A token for the HTTP API: role `read` for answers, role `admin` also for settings. Default: `TALLYD_HTTP_TOKEN`. */
  httpToken?: string;
  /** How long to wait for a record's cost while the daemon is connected, in milliseconds. The record is kept in any case. */
  costTimeout?: number;
  /** USD a day; set only if the daemon does not have a daily budget yet. */
  dailyBudgetUSD?: number;
  /** The share of the daily budget, in percent, from which calls should be held back. Set together with `dailyBudgetUSD`. */
  alertThresholdPercent?: number;
  /** Called for errors in the background, such as a setting that the daemon refuses. Default: a warning of the process. */
  onError?: (error: Error) => void;
}

/** The options' defaults. README.md has the same list, and a test compares the two. */
export const TRACKER_DEFAULTS = { costTimeout: 1_000, dailyBudgetUSD: 50, alertThresholdPercent: 80 };

/** How long to wait for a cost while the daemon is away, in milliseconds. */
const AWAY_TIMEOUT = 50;
/** Interval between two requests for prices, in milliseconds. */
const PRICES_INTERVAL = 60_000;
/** Bound of models without a price that one process warns of. */
const WARNINGS_MAX = 100;
/** The most users in one answer. */
const USERS = 1_000;
const BUDGET = "/api/admin/budget";
const RENTCAST_COST = "/api/admin/rentcast-cost";

/** The endpoint and user arguments as fields. Empty text is left out, so that the context's endpoint and user apply. */
function named(endpoint: string | undefined, user: string | undefined): Partial<UsageRecord> {
  // Callers of the replaced tracker name a visitor who is not signed in "anonymous".
  const user_id = user === "anonymous" ? "" : user;
  return { ...(endpoint ? { endpoint } : {}), ...(user_id ? { user_id } : {}) };
}

/** Marks the promise as handled, so that a rejection which nobody awaits does not end the process. */
function harmless<T>(promise: Promise<T>): Promise<T> {
  promise.catch(() => {});
  return promise;
}

function fromEnvironment(): CostTrackerOptions {
  const number = (name: string, otherwise: number): number => {
    const text = platform.env(name);
    const value = Number(text);
    if (!text) return otherwise;
    if (Number.isFinite(value) && value >= 0) return value;
    platform.warn(`tallyd: ${name}=${text} is not an amount; ${otherwise} holds`);
    return otherwise;
  };
  const app = platform.env("TALLYD_APP");
  return {
    dailyBudgetUSD: number("TALLYD_DAILY_BUDGET_USD", TRACKER_DEFAULTS.dailyBudgetUSD),
    alertThresholdPercent: number("TALLYD_ALERT_THRESHOLD_PERCENT", TRACKER_DEFAULTS.alertThresholdPercent),
    ...(app ? { app } : {}),
  };
}

/** Records calls, and asks the daemon for costs, prices and budgets. */
export class CostTracker {
  readonly recorder: Recorder;
  readonly #options: CostTrackerOptions;
  readonly #http: DaemonHttp;
  readonly #settings: Settings;
  readonly #warned = new Set<string>();
  #prices: PricingInfo = KNOWN_PRICES;
  readonly #refresh: Timer | undefined;
  #rentCastCost: number | undefined;

  /** Takes a daily budget (USD) and its alert threshold (percent), or options. Without an argument: 50 USD a day, 80 percent. */
  constructor(budget: number | CostTrackerOptions = TRACKER_DEFAULTS.dailyBudgetUSD, alertThresholdPercent = TRACKER_DEFAULTS.alertThresholdPercent) {
    this.#options = typeof budget === "number" ? { ...fromEnvironment(), dailyBudgetUSD: budget, alertThresholdPercent } : budget;
    this.recorder = new Recorder(this.#options);
    const { http, httpToken } = this.#options;
    this.#http = new DaemonHttp(http ?? platform.env("TALLYD_HTTP") ?? "http://127.0.0.1:7420", httpToken ?? platform.env("TALLYD_HTTP_TOKEN"));
    this.#settings = new Settings(this.#http, (error) => this.#failed(error));
    if (this.recorder.isOff) return;
    watchTwice();
    this.#ask();
    this.#refresh = every(PRICES_INTERVAL, () => this.#ask());
    const { dailyBudgetUSD, alertThresholdPercent: threshold } = this.#options;
    if (dailyBudgetUSD === undefined) return;
    const alert = threshold === undefined ? {} : { alertThresholdPercent: threshold };
    this.#settings.put(BUDGET, { budget: dailyBudgetUSD, onlyIfNone: true, ...alert });
  }

  /**
   * Records a call of Claude. Resolves to its cost in USD. For a model without a known price: 0, with one warning per model, and the record
   * is unpriced. While the daemon is away, the cost comes from the last known prices. Never rejects.
   */
  recordClaude(model: string, inputTokens: number, outputTokens: number, endpoint?: string, userId?: string, more: Partial<UsageRecord> = {}): Promise<number> {
    return this.#cost({ provider: "claude", model, input_tokens: inputTokens, output_tokens: outputTokens, ...named(endpoint, userId), ...more });
  }

  /** Records a request to RentCast. Resolves to its cost in USD, as {@link recordClaude} does. Never rejects. */
  recordRentCast(endpoint: string, userId?: string, more: Partial<UsageRecord> = {}): Promise<number> {
    return this.#cost({ provider: "rentcast", ...named(endpoint, userId), ...more });
  }

  /** Today's costs, in the daemon's reporting time zone. Rejects if the daemon refuses or cannot be reached. */
  getTodayCosts(): Promise<DailyCosts> {
    return harmless(this.#summary().then(({ today }) => today));
  }

  /** Today's costs against the daily budget. Rejects if the daemon refuses or cannot be reached. */
  getSummary(): Promise<CostSummary> {
    return harmless(this.#summary());
  }

  /** The last `days` days that have calls, newest first. Rejects if the daemon refuses or cannot be reached. */
  getHistory(days = 30): Promise<DailyCosts[]> {
    return harmless(this.#http.ask<DailyCosts[]>("GET", `/api/admin/cost-history?days=${days}`));
  }

  /** Lifetime calls by user, highest cost first, 1,000 users at most. Rejects if the daemon refuses or cannot be reached. */
  getUserCallStats(): Promise<UserCallStats[]> {
    return harmless(this.#http.ask<UserCallStats[]>("GET", `/api/admin/user-stats?limit=${USERS}`));
  }

  /** Counts of sessions; zeros where the daemon's database has no accounts. Rejects if the daemon refuses or cannot be reached. */
  getActiveSessions(): Promise<ActiveSessions> {
    return harmless(this.#http.ask<{ sessions: ActiveSessions }>("GET", "/api/admin/metrics").then(({ sessions }) => sessions));
  }

  /** The prices in force. The tracker asks for them at the start and every minute; before the first answer, the prices of this release. */
  getPricingInfo(): PricingInfo {
    const prices = structuredClone(this.#prices);
    prices.rentcast.costPerRequest = this.getRentCastCostPerRequest();
    return prices;
  }

  /** The cost of one more request to RentCast, in USD. */
  getRentCastCostPerRequest(): number {
    return this.#rentCastCost ?? this.#prices.rentcast.costPerRequest;
  }

  /** Sets the cost of one more request to RentCast, in USD, from now on. Written in the background; a refusal goes to `onError`. */
  setRentCastCostPerRequest(costPerRequest: number): void {
    this.#rentCastCost = costPerRequest;
    if (this.recorder.isOff) return;
    this.#settings.put(RENTCAST_COST, { costPerRequest }, () => this.#ask(), () => (this.#rentCastCost = undefined));
  }

  /** Sets the daily budget, in USD. Written in the background; a refusal goes to `onError`. */
  setDailyBudget(usd: number): void {
    if (!this.recorder.isOff) this.#settings.put(BUDGET, { budget: usd });
  }

  /** Whether paid calls should be held back: a budget's alert threshold is reached, according to the daemon's last message. */
  get shouldThrottle(): boolean {
    return this.recorder.budgetStatus !== "normal";
  }

  /** Whether a budget that the call counts towards is used up: of everything, or of its provider, model, user or application. */
  shouldThrottleFor(call: CallScope): boolean {
    return !this.recorder.check(call).allowed;
  }

  /** Waits at most `timeout` milliseconds for records and settings to become durable, and ends. Resolves to the number of lost records. */
  async close(timeout = 5_000): Promise<number> {
    cancelEvery(this.#refresh);
    const [left] = await Promise.all([this.recorder.close(timeout), this.#settings.close(timeout)]);
    return left;
  }

  async #summary(): Promise<CostSummary> {
    await this.#settings.tried();
    return this.#http.ask<CostSummary>("GET", "/api/admin/costs");
  }

  async #cost(record: UsageRecord): Promise<number> {
    let timer: Timer | undefined;
    const patience = this.#options.costTimeout ?? TRACKER_DEFAULTS.costTimeout;
    const wait = this.recorder.stats.connected ? patience : Math.min(AWAY_TIMEOUT, patience);
    const late = new Promise<undefined>((resolve) => (timer = after(wait, () => resolve(undefined))));
    // `onReject` gets a refusal; the record is in the daemon's dead letters.
    const seen = this.#seen(record);
    const settled = (seen?.durable ?? this.recorder.recordAndWait(record)).catch(() => null);
    const durable = await Promise.race([settled, late]);
    cancel(timer);
    if (durable === null) return 0;
    const told = durable?.cost_usd;
    const cost = told === undefined ? localPrice(this.getPricingInfo(), seen?.record ?? record) : told === null ? undefined : Number(told);
    if (cost === undefined) this.#unpriced(record);
    return cost ?? 0;
  }

  /** The call, if `instrument()` or `recordingFetch()` has recorded it already. */
  #seen(record: UsageRecord): ReturnType<typeof takeSeen> {
    const seen = takeSeen(record, this.recorder.endpoint);
    const what = seen?.record.model || seen?.record.provider;
    if (seen) this.recorder.notice("twice", `the tracker was told of a call to ${what} that instrument() or recordingFetch() had recorded: it is not counted again. One of the two is enough`);
    return seen;
  }

  #unpriced({ provider, model }: UsageRecord): void {
    const name = `${provider} ${model ?? ""}`;
    if (this.#warned.has(name) || this.#warned.size >= WARNINGS_MAX) return;
    this.#warned.add(name);
    platform.warn(`tallyd: no price of ${name} is known: its calls are recorded as unpriced, and count as 0 here. \`tallyd prices set\` adds one`);
  }

  /** Asks for the prices. Without an answer the last ones stay. */
  #ask(): void {
    this.#http.ask<PricingInfo>("GET", "/api/admin/pricing").then((prices) => {
      this.#prices = prices;
      // A cost that was set here stays until an answer of the daemon includes it.
      if (this.#rentCastCost === prices.rentcast.costPerRequest) this.#rentCastCost = undefined;
    }, () => {});
  }

  #failed(error: Error): void {
    if (this.#options.onError) return this.#options.onError(error);
    platform.warn(`tallyd: ${error.message}`);
  }
}

/** A tracker that is constructed at its first use, so that an import opens nothing. */
function lazy(make: () => CostTracker): CostTracker {
  let made: CostTracker | undefined;
  const it = (): CostTracker => (made ??= make());
  const bound = (key: string | symbol): unknown => {
    const value: unknown = Reflect.get(it(), key);
    return typeof value === "function" ? value.bind(it()) : value;
  };
  return new Proxy(Object.create(CostTracker.prototype) as CostTracker, { get: (_target, key) => bound(key) });
}

/**
 * The process's tracker, constructed at its first use. Its settings are the environment variables `TALLYD_SOCKET`, `TALLYD_HTTP`,
 * `TALLYD_HTTP_TOKEN`, `TALLYD_APP`, `TALLYD_DAILY_BUDGET_USD` and `TALLYD_ALERT_THRESHOLD_PERCENT`.
 */
export const costTracker: CostTracker = lazy(() => new CostTracker(fromEnvironment()));
