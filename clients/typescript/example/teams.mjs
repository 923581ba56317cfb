// A server of two teams and their customers. A team that has used up its budget gets the answer 429, and no call is sent for it.

import { createServer } from "node:http";
import { fileURLToPath } from "node:url";
import Anthropic from "@anthropic-ai/sdk";
import OpenAI from "openai";
import { BudgetExceededError, instrument, Recorder, tags } from "tallyd";

export function build(settings) {
  const recorder = new Recorder({ app: "assistant", socket: settings.socket });
  const limits = { limits: "enforce" };
  const anthropic = instrument(recorder, new Anthropic({ apiKey: settings.anthropicKey, baseURL: settings.anthropicUrl }), limits);
  const openai = instrument(recorder, new OpenAI({ apiKey: settings.openaiKey, baseURL: settings.openaiUrl }), limits);

  const routes = {
    "/search": async (text) => {
      const answer = await anthropic.messages.create({ model: "claude-sonnet-5", max_tokens: 300, messages: [{ role: "user", content: text }] });
      return answer.content[0].text;
    },
    "/support": (text) => reply(text),
    // It asks until the case is solved. Nothing bounds the number of its calls.
    "/support/agent": async (text) => {
      let said = await reply(text);
      while (!said.includes("SOLVED")) said = await reply(`${text}\n${said}`);
      return said;
    },
  };
  const reply = async (text) => {
    const answer = await openai.chat.completions.create({ model: "gpt-4o", messages: [{ role: "user", content: text }] });
    return answer.choices[0].message.content;
  };

  const server = createServer(async (request, response) => {
    const say = (status, body) => response.writeHead(status, { "content-type": "application/json" }).end(`${JSON.stringify(body)}\n`);
    const route = routes[request.url];
    if (!route) return say(404, { error: "not found" });
    const [, team] = request.url.split("/");
    try {
      // The header stands for your authentication, which identifies the customer.
      say(200, { answer: await tags({ team, customer: request.headers["x-customer"] }, () => route("Where is my order?")) });
    } catch (error) {
      const exceeded = BudgetExceededError.of(error);
      if (exceeded) return say(429, { error: exceeded.message, scope: exceeded.check.scope });
      say(502, { error: String(error) });
    }
  });
  return { server, recorder, openai };
}

// The SDKs read their keys and addresses from the environment.
if (process.argv[1] === fileURLToPath(import.meta.url)) build({}).server.listen(Number(process.env.PORT ?? 3000), "127.0.0.1");
