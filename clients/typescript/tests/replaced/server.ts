// A server from before tallyd, in which only the import of the tracker was changed. The test beside it compiles it with `strict`.

import express, { type Request, type Response } from "express";
import { CostTracker, type CostSummary, type DailyCosts, type PricingInfo, type UserCallStats } from "tallyd";

interface Vendors { claude: string; rentcast: string }

export function build(tracker: CostTracker, vendors: Vendors): express.Express {
  const app = express();
  app.use(express.json());

  app.post("/api/claude/analysis", async (request: Request, response: Response) => {
    const summary: CostSummary = await tracker.getSummary();
    if (summary.shouldThrottle) return response.status(429).json({ error: `budget used: ${summary.budgetPercent.toFixed(1)} %` });
    const answer = await fetch(`${vendors.claude}/v1/messages`, {
      method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ model: "claude-sonnet-4-5", max_tokens: 100, messages: [] }),
    });
    const { usage } = (await answer.json()) as { usage: { input_tokens: number; output_tokens: number } };
    const cost: number = await tracker.recordClaude("claude-sonnet-4-5", usage.input_tokens, usage.output_tokens, "/api/claude/analysis", request.get("x-user") ?? "anonymous");
    return response.json({ cost: cost.toFixed(6) });
  });

  app.get("/api/value", async (request: Request, response: Response) => {
    await fetch(`${vendors.rentcast}/v1/avm/value`);
    const cost: number = await tracker.recordRentCast("/avm/value", request.get("x-user") ?? "anonymous");
    response.json({ cost: cost.toFixed(2) });
  });

  app.get("/api/admin/costs", async (_request: Request, response: Response) => {
    const { today, dailyBudget, remaining, status }: CostSummary = await tracker.getSummary();
    const word: "normal" | "warning" | "exceeded" = status;
    response.json({ line: `${today.date}: ${today.totalCost.toFixed(2)} of ${dailyBudget.toFixed(2)}, ${remaining.toFixed(2)} left (${word})` });
  });

  app.get("/api/admin/cost-history", async (request: Request, response: Response) => {
    const days: DailyCosts[] = await tracker.getHistory(Number(request.query["days"] ?? 30));
    const rows = days.map((day) => ({
      date: day.date, cost: day.totalCost.toFixed(4), claude: day.claudeCalls, rentcast: day.rentcastCalls,
      models: Object.entries(day.byModel).map(([model, { calls, cost, inputTokens, outputTokens }]) => `${model} ${calls} ${cost.toFixed(4)} ${inputTokens}+${outputTokens}`),
      endpoints: Object.entries(day.byRentCastEndpoint).map(([endpoint, { calls, cost }]) => `${endpoint} ${calls} ${cost.toFixed(2)}`),
    }));
    response.json(rows);
  });

  app.get("/api/admin/user-stats", async (_request: Request, response: Response) => {
    const users: UserCallStats[] = await tracker.getUserCallStats();
    response.json(users.map((user) => `${user.userId} ${user.totalCalls} ${user.claudeCalls} ${user.rentcastCalls} ${user.analysisCalls}`));
  });

  app.get("/api/admin/pricing", (_request: Request, response: Response) => {
    const pricing: PricingInfo = tracker.getPricingInfo();
    const sonnet = pricing.claude["claude-sonnet-4-5"];
    const plans = Object.entries(pricing.rentcast.plans).map(([plan, { monthly, included, overage }]) => `${plan} ${monthly.toFixed(0)} ${included} ${overage.toFixed(3)}`);
    response.json({ sonnet: sonnet?.inputPerMToken?.toFixed(2), request: tracker.getRentCastCostPerRequest().toFixed(3), plans });
  });

  // Neither call is awaited: for the caller both settings take effect at once.
  app.post("/api/admin/budget", (request: Request, response: Response) => {
    tracker.setDailyBudget(Number((request.body as { budget: number }).budget));
    response.json({ success: true });
  });
  app.post("/api/admin/rentcast-cost", (request: Request, response: Response) => {
    tracker.setRentCastCostPerRequest(Number((request.body as { costPerRequest: number }).costPerRequest));
    response.json({ success: true, costPerRequest: tracker.getRentCastCostPerRequest() });
  });

  app.get("/api/admin/metrics", async (_request: Request, response: Response) => {
    const { active, total, byTier } = await tracker.getActiveSessions();
    response.json({ sessions: { active, total, byTier } });
  });
  return app;
}
