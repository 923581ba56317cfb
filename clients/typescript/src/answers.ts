// The answers of the daemon's admin API, in the shapes of the tracker that CostTracker replaces. Amounts are USD.

/** The calls of one day. Costs are USD. */
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
  /** Unpriced calls: no cost includes them. */
  unpricedCalls: number;
  /** Claude's models, by family: the name without a date. */
  byModel: Record<string, ModelCosts>;
  /** RentCast's endpoints, by path. */
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

/** `warning` from the alert threshold on, `exceeded` from the budget on. */
export type BudgetStatus = "normal" | "warning" | "exceeded";

/** Today's costs against the daily budget. */
export interface CostSummary {
  today: DailyCosts;
  /** USD a day; 0 where no budget is set. */
  dailyBudget: number;
  /** The used part of the budget, in percent. */
  budgetPercent: number;
  /** The rest of the budget in USD, not below 0. */
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
  /** Calls of the endpoint that the daemon's setting `http.analysis_endpoint` names. */
  analysisCalls: number;
}

/** A model's rates, and its rates for larger prompts. */
export interface ModelPricing extends ModelRates {
  inputPerMToken: number;
  outputPerMToken: number;
  /** Rates for calls whose input and cached tokens exceed `promptTokens`. They apply to the whole call. Smallest bound first, usually empty. */
  above: (ModelRates & { promptTokens: number })[];
}

/** USD per million tokens. Null: the vendor quotes no such rate. */
export interface ModelRates {
  inputPerMToken: number | null;
  outputPerMToken: number | null;
  cacheReadPerMToken: number | null;
  cacheWrite5mPerMToken: number | null;
  cacheWrite1hPerMToken: number | null;
}

export type RentCastPlan = "developer" | "foundation" | "growth" | "scale";

/** `monthly`: USD a month; `included`: requests in it; `overage`: USD per further request. */
export interface PlanTerms {
  monthly: number;
  included: number;
  overage: number;
}

export interface PricingInfo {
  claude: Record<string, ModelPricing>;
  rentcast: { costPerRequest: number; plans: Record<RentCastPlan, PlanTerms> };
}

/** Sessions that can be used now, all sessions, and the former by the users' tier. */
export interface ActiveSessions {
  active: number;
  total: number;
  byTier: Record<string, number>;
}
