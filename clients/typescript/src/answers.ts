// What the daemon's admin API answers, in the shapes of the tracker that CostTracker takes the place of. Amounts are USD.

/** One day. */
export interface DailyCosts {
  /** `YYYY-MM-DD`, in the daemon's reporting time zone. */
  date: string;
  totalCost: number;
  claudeCost: number;
  rentcastCost: number;
  totalCalls: number;
  claudeCalls: number;
  rentcastCalls: number;
  /** Calls with a status of 400 or above. */
  errors: number;
  /** Calls without a known price: no cost includes them. */
  unpricedCalls: number;
  /** Claude's models, by family: the name without a date. */
  byModel: Record<string, ModelCosts>;
  byRentCastEndpoint: Record<string, CallCosts>;
  byProvider: Record<string, CallCosts>;
}

export interface CallCosts {
  calls: number;
  cost: number;
}

export interface ModelCosts extends CallCosts {
  inputTokens: number;
  outputTokens: number;
  cacheReadTokens: number;
  cacheWriteTokens: number;
}

export type BudgetStatus = "normal" | "warning" | "exceeded";

/** The day against its budget. */
export interface CostSummary {
  today: DailyCosts;
  /** USD a day; 0 where no budget is set. */
  dailyBudget: number;
  /** How much of it is used, in percent. */
  budgetPercent: number;
  /** What is left of it, not below 0. */
  remaining: number;
  /** Whether paid calls should be held back: true from the alert threshold on. */
  shouldThrottle: boolean;
  status: BudgetStatus;
}

/** A user's lifetime calls. */
export interface UserCallStats {
  userId: string;
  totalCalls: number;
  claudeCalls: number;
  rentcastCalls: number;
  /** Calls of the endpoint that `http.analysis_endpoint` names in the daemon's configuration. */
  analysisCalls: number;
}

/** A model's price: its rates, and those of larger prompts. */
export interface ModelPricing extends ModelRates {
  inputPerMToken: number;
  outputPerMToken: number;
  /** Rates that hold for the whole call where its input and cached tokens are more than `promptTokens`; smallest bound first, usually none. */
  above: (ModelRates & { promptTokens: number })[];
}

/** Rates, in USD for a million tokens. Null: the vendor quotes none. */
export interface ModelRates {
  inputPerMToken: number | null;
  outputPerMToken: number | null;
  cacheReadPerMToken: number | null;
  cacheWrite5mPerMToken: number | null;
  cacheWrite1hPerMToken: number | null;
}

export type RentCastPlan = "developer" | "foundation" | "growth" | "scale";

/** A plan's terms: USD a month, requests that it includes, USD for each request beyond. */
export interface PlanTerms {
  monthly: number;
  included: number;
  overage: number;
}

export interface PricingInfo {
  claude: Record<string, ModelPricing>;
  rentcast: { costPerRequest: number; plans: Record<RentCastPlan, PlanTerms> };
}

/** Sessions that could be used now, all that there are, and the first by the users' tier. */
export interface ActiveSessions {
  active: number;
  total: number;
  byTier: Record<string, number>;
}
