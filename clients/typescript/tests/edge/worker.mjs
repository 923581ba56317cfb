// A typical edge function: it records around a vendor's SDK, and waits for the records at its end, as `waitUntil` would.

import Anthropic from "@anthropic-ai/sdk";
import { instrument, Recorder, withContext } from "tallyd";

const answer = { id: "msg_1", type: "message", role: "assistant", model: "claude-sonnet-4-5", content: [], stop_reason: "end_turn", usage: { input_tokens: 3, output_tokens: 4 } };

export default async function served(options) {
  const recorder = new Recorder({ ...options, quiet: true });
  const client = new Anthropic({ apiKey: "k", fetch: async () => new Response(JSON.stringify(answer), { headers: { "content-type": "application/json" } }), dangerouslyAllowBrowser: true });
  instrument(recorder, client);
  await client.messages.create({ model: "claude-sonnet-4-5", max_tokens: 9, messages: [{ role: "user", content: "Hello" }] });
  withContext({ user_id: options.app }, () => recorder.record({ provider: "rentcast" }));
  const left = await recorder.close(20_000);
  const { acked, dropped } = recorder.stats;
  return { left, acked, dropped, user: options.app };
}
