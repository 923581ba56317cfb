// A typical server: Express, Claude through the official SDK, RentCast by fetch, and an admin page that shows costs. Recording takes four
// lines, marked with (tallyd).

import Anthropic from "@anthropic-ai/sdk";
import express from "express";
import { CostTracker, express as recorded, instrument, recordingFetch } from "tallyd"; // (tallyd)

export function build(settings) {
  const tracker = new CostTracker({ app: "web", socket: settings.socket, http: settings.http, httpToken: settings.httpToken }); // (tallyd)
  const anthropic = instrument(tracker.recorder, new Anthropic({ apiKey: settings.anthropicKey, baseURL: settings.anthropicUrl })); // (tallyd)
  const rentcast = recordingFetch(tracker.recorder, { provider: "rentcast" });

  const app = express();
  app.use(express.json());
  // Stands for your authentication, which identifies the user.
  app.use((request, _response, next) => {
    request.user = { id: request.get("x-user") };
    next();
  });
  app.use(recorded({ user: (request) => request.user?.id })); // (tallyd)

  app.post("/api/chat", async (request, response) => {
    if (tracker.shouldThrottle) return response.status(429).json({ error: "The budget of today is used up." });
    const message = await anthropic.messages.create({
      model: "claude-sonnet-5", max_tokens: 500, messages: [{ role: "user", content: request.body.text }],
    });
    response.json({ text: message.content[0].text });
  });

  app.get("/api/value", async (request, response) => {
    const answer = await rentcast(`${settings.rentcastUrl}/v1/avm/value?address=${encodeURIComponent(request.query.address)}`);
    response.json(await answer.json());
  });

  // Routes from before tallyd; their calls of the tracker are unchanged.
  app.post("/api/import", async (request, response) => {
    const cost = await tracker.recordClaude("claude-sonnet-5", request.body.input, request.body.output, "/api/import", request.user.id);
    response.json({ cost });
  });
  app.get("/api/admin/cost-history", async (request, response) => response.json(await tracker.getHistory(Number(request.query.days ?? 30))));
  app.get("/api/admin/summary", async (_request, response) => response.json(await tracker.getSummary()));

  return { app, tracker };
}
