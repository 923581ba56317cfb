export { Recorder } from "./recorder.js";
export type { Durable, RecorderOptions, Stats } from "./options.js";
export { encodeRecord, type Decimal, type UsageRecord } from "./record.js";
export { express, tags, withContext, type Context, type ExpressOptions } from "./context.js";
export { instrument, recordingFetch, type FetchOptions, type Instrumentable } from "./instrument.js";
export { CostTracker, costTracker, type CostTrackerOptions } from "./cost-tracker.js";
export type {
  ActiveSessions, BudgetStatus, CallCosts, CostSummary, DailyCosts, ModelCosts, ModelPricing, ModelRates, PlanTerms, PricingInfo, RentCastPlan, UserCallStats,
} from "./answers.js";
export { read as usageOf, StreamUsage, type Family, type Usage } from "./usage.js";
export type { CallScope } from "./call-scope.js";
export { BudgetExceededError, type Check } from "./standing.js";
export type { AckMode, Rejection } from "./wire.js";
export { closeOnSignal, type Closable } from "./signal.js";
