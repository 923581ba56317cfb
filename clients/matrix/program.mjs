// The program that run.mjs runs on each JavaScript runtime: instrumented SDKs, a burst, and one of two ends.

import Anthropic from "@anthropic-ai/sdk";
import OpenAI from "openai";
import { instrument, Recorder, withContext } from "tallyd";

const { VENDORS, APP, END, BURST } = process.env;
const recorder = new Recorder({ app: APP });
const claude = instrument(recorder, new Anthropic({ apiKey: "k", baseURL: VENDORS, maxRetries: 0 }));
const gpt = instrument(recorder, new OpenAI({ apiKey: "k", baseURL: `${VENDORS}/v1`, maxRetries: 0 }));
const ask = { model: "claude-sonnet-5", max_tokens: 100, messages: [{ role: "user", content: "Hello" }] };
const chat = { model: "gpt-4o", messages: ask.messages };

await claude.messages.create(ask);
for await (const _ of await claude.messages.create({ ...ask, stream: true }));
await gpt.chat.completions.create(chat);
for await (const chunk of await gpt.chat.completions.create({ ...chat, stream: true })) if (chunk.choices.length !== 1) throw new Error("usage that nobody asked for");
await gpt.responses.create({ model: "gpt-4o", input: "Hello" });
await withContext({ user_id: "u7" }, async () => {
  await new Promise((resolve) => setTimeout(resolve, 1));
  recorder.record({ provider: "rentcast" });
});
for (let at = 0; at < Number(BURST); at += 1) recorder.record({ provider: "rentcast", request_id: String(at) });
if (END === "exit") process.exit(0);
