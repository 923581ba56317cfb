// Calls that are checked before they are made: by check(), by instrumented SDKs and by a recording fetch.

import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:net";
import { test } from "node:test";
import Anthropic from "@anthropic-ai/sdk";
import OpenAI from "openai";
import { until } from "./daemon.mjs";
import { miniature } from "./miniature.mjs";
import { startVendors } from "./vendors.mjs";
import { BudgetExceededError, instrument, Recorder, recordingFetch, tags, withContext } from "../dist/esm/index.js";

const TEAM = { used_up: [{ "tag:team": ["ads"] }] };
const REASON = 'tallyd: the call was not made: the budget of tag team "ads" is used up';
const ask = { model: "claude-sonnet-4-5", max_tokens: 100, messages: [{ role: "user", content: "Hello" }] };

/** A recorder that knows the state of these budgets. */
async function knowing(t, budgets, options = {}) {
  const daemon = await miniature(t, { acks: true, budgets });
  const recorder = new Recorder({ socket: daemon.socket, quiet: true, ...options });
  t.after(() => recorder.close(1_000));
  assert.equal(await recorder.ready(30_000), true);
  return { daemon, recorder };
}

test("a call has the tags, user and application of the context and the recorder, and its own come first", async (t) => {
  const budgets = { used_up: [{ "tag:team": ["ads"] }, { user: ["u-1"] }, { app: ["nightly"], "tag:environment": ["test"] }, { "tag:api_key": ["sha256:f8dc9db173ee"] }] };
  const { daemon, recorder } = await knowing(t, budgets, { app: "nightly", tags: { environment: "production", team: "none" } });
  const scope = (call) => recorder.check(call).scope;
  assert.deepEqual(recorder.check(), { allowed: true, known: true });
  assert.deepEqual(scope({ tags: { team: "ads" } }), { "tag:team": "ads" });
  assert.deepEqual(scope({ tags: { environment: "test" } }), { app: "nightly", "tag:environment": "test" });
  assert.equal(scope({ tags: { environment: "test" }, app: "web" }), undefined);
  assert.deepEqual(scope({ tags: { api_key: "sk-live-1" } }), { "tag:api_key": "sha256:f8dc9db173ee" });
  await tags({ team: "ads" }, async () => {
    await null;
    assert.deepEqual(scope({}), { "tag:team": "ads" }, "also after an await");
    assert.equal(scope({ tags: { team: "search" } }), undefined);
    assert.equal(scope({ tags: { team: undefined } }), undefined, "the record would not have the tag");
  });
  withContext({ user_id: "u-1" }, () => assert.deepEqual([scope({}), scope({ user: "u-2" })], [{ user: "u-1" }, undefined]));
  daemon.tell({ left: [{ scope: { provider: ["claude"] }, usd: "0.25" }] });
  await until("the newest state holds", () => recorder.check({ provider: "claude" }).remaining === "0.25");
  assert.equal(recorder.check({ provider: "claude", estimate: 0.25 }).allowed, true);
  assert.equal(recorder.check({ provider: "claude", estimate: 0.2500001 }).allowed, false);
  assert.equal(recorder.check({ provider: "claude", estimate: 1e-9 }).allowed, true);
  for (const estimate of [NaN, Infinity, -1, "-1", "", "much", "1e3"]) assert.throws(() => recorder.check({ estimate }), { name: "RangeError", message: /an amount in USD/ });
});

test("while the state is not known, a setting decides", async (t) => {
  const silent = createServer((link) => link.on("error", () => {})).listen(0, "127.0.0.1");
  await once(silent, "listening");
  const of = (options) => new Recorder({ host: "127.0.0.1", port: silent.address().port, quiet: true, ...options });
  const [allows, denies, disabled] = [of({}), of({ denyUnknown: true }), of({ denyUnknown: true, disabled: true })];
  t.after(async () => (await Promise.all([allows, denies, disabled].map((one) => one.close(0))), silent.close()));
  assert.deepEqual(allows.check({ provider: "claude", estimate: 1 }), { allowed: true, known: false });
  assert.deepEqual(disabled.check(), { allowed: true, known: false });
  const { allowed, known, reason } = denies.check();
  assert.deepEqual([allowed, known], [false, false]);
  assert.match(reason, /not known/);
  const never = recordingFetch(denies, { provider: "rentcast", limits: "enforce", fetch: () => assert.fail("it was sent") });
  await assert.rejects(never("https://api.rentcast.io/v1/avm"), { name: "BudgetExceededError", message: /not known/ });
});

test("the vendors' SDKs do not send a call that is refused, and throw the error itself, once", async (t) => {
  const vendors = await startVendors();
  t.after(() => vendors.stop());
  const { daemon, recorder } = await knowing(t, TEAM);
  const limits = { limits: "enforce" };
  const anthropic = instrument(recorder, new Anthropic({ apiKey: "k", baseURL: vendors.url, maxRetries: 2 }), limits);
  const openai = instrument(recorder, new OpenAI({ apiKey: "k", baseURL: `${vendors.url}/v1`, maxRetries: 2 }), limits);
  instrument(recorder, openai, limits);
  const chat = { model: "gpt-4o", messages: [{ role: "user", content: "Hi" }] };
  const calls = [
    () => anthropic.messages.create(ask), () => anthropic.messages.create({ ...ask, stream: true }), () => anthropic.beta.messages.create(ask),
    () => anthropic.withOptions({ timeout: 5_000 }).withOptions({ maxRetries: 1 }).messages.create(ask), () => anthropic.messages.create(ask).withResponse(),
    () => openai.chat.completions.create(chat), () => openai.chat.completions.create({ ...chat, stream: true }),
    () => openai.responses.create({ model: "gpt-4o", input: "Hi" }), () => openai.withOptions({ timeout: 5_000 }).chat.completions.create(chat),
  ];
  await tags({ team: "ads" }, async () => {
    for (const call of calls) {
      const error = await call().then(() => assert.fail("it was sent"), (error) => error);
      assert.ok(error instanceof BudgetExceededError, `${call}: ${error}`);
      assert.deepEqual([error.message, error.check.scope, BudgetExceededError.of(error)], [REASON, { "tag:team": "ads" }, error]);
    }
    // Helpers of SDKs, and copies that were made before, have errors of their own, with ours as their cause.
    for (const helper of [
      () => anthropic.messages.stream(ask).finalMessage(),
      () => new Anthropic({ apiKey: "k", baseURL: vendors.url, maxRetries: 0, fetch: recordingFetch(recorder, { provider: "claude", ...limits }) }).messages.create(ask),
    ]) {
      const error = await helper().then(() => assert.fail("it was sent"), (error) => error);
      assert.deepEqual(BudgetExceededError.of(error)?.check.scope, { "tag:team": "ads" }, `${helper}: ${error}`);
    }
    await openai.models.list();
  });
  assert.deepEqual([vendors.served.anthropic, vendors.served.openai, recorder.stats.recorded], [0, 0, 0]);
  assert.equal(BudgetExceededError.of(new Error("another", { cause: "text" })), undefined);
  await tags({ team: "search" }, async () => {
    assert.equal((await anthropic.messages.create(ask)).content[0].text, "Hello there");
    for await (const _ of await openai.chat.completions.create({ ...chat, stream: true }));
  });
  assert.deepEqual([vendors.served.anthropic, vendors.served.openai, recorder.stats.recorded], [1, 1, 2]);
  daemon.tell({ used_up: [{ model: ["gpt-4o"] }] });
  await until("the model is used up", () => !recorder.check({ model: "gpt-4o" }).allowed);
  await assert.rejects(openai.chat.completions.create(chat), { message: /the budget of model "gpt-4o" is used up/ });
  const fetched = recordingFetch(recorder, { provider: "openai", ...limits });
  const request = (model) => new Request(`${vendors.url}/v1/chat/completions`, { method: "POST", body: JSON.stringify({ ...chat, model }) });
  await assert.rejects(fetched(request("gpt-4o-2024-08-06")), { message: /the budget of model "gpt-4o" is used up/ });
  assert.equal((await (await fetched(request("gpt-4"))).json()).usage.prompt_tokens, 900);
  await anthropic.messages.create(ask);
});
