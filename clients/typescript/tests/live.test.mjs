// Against a real daemon with its own PostgreSQL: each call is recorded once, despite kills, and without disturbing the application.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { createRequire } from "node:module";
import { createServer as createHttpServer } from "node:http";
import { connect, createServer } from "node:net";
import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { EdgeVM } from "@edge-runtime/vm";
import { build } from "esbuild";
import { startDaemon, until } from "./daemon.mjs";
import { Recorder, withContext } from "../dist/esm/index.js";
import { encodeRecord } from "../dist/esm/record.js";
import { helloFrame, Inbox, PROTOCOL, recordsFrame } from "../dist/esm/wire.js";

let daemon;
before(async () => { daemon = await startDaemon({ env: { TALLYD_ALERTS_INTERVAL_MS: "100" } }); }, { timeout: 60_000 });
after(async () => { await daemon?.stop(); });

const calls = (where) => Number(daemon.sql(`SELECT count(*) FROM api_usage_log WHERE ${where}`));

test("a call is recorded with all that was said, and its cost comes back", async () => {
  const recorder = new Recorder({ socket: daemon.socket, app: "web" });
  const { id, cost_usd } = await recorder.recordAndWait({
    provider: "claude", model: "claude-sonnet-4-5", endpoint: "/v1/messages", user_id: "u1", input_tokens: 100_000, output_tokens: 100_000, metadata: { a: 1 },
  });
  assert.equal(cost_usd, "1.8");
  await until("it is in PostgreSQL", () => calls(`id = '${id}'`) === 1);
  assert.equal(daemon.sql(`SELECT model, app, user_id, input_tokens, metadata FROM api_usage_log WHERE id = '${id}'`), 'claude-sonnet-4-5|web|u1|100000|{"a": 1}');
  assert.equal((await recorder.recordAndWait({ provider: "acme", model: "unknown" })).cost_usd, null, "no price is known");
  await assert.rejects(recorder.recordAndWait({ provider: "" }), /missing/);
  assert.equal(await recorder.close(), 0);
});

test("it works for CommonJS as well", async () => {
  const { Recorder: Common } = createRequire(import.meta.url)("../dist/cjs/index.js");
  const recorder = new Common({ socket: daemon.socket, app: "common" });
  assert.equal(recorder.record({ provider: "rentcast" }), true);
  assert.equal(await recorder.close(), 0);
  await until("it is in PostgreSQL", () => calls("app = 'common'") === 1);
});

test("nothing is lost or doubled while the daemon is killed again and again", { timeout: 120_000 }, async () => {
  const recorder = new Recorder({ socket: daemon.socket, app: "kill" });
  let over = false;
  const killing = (async () => {
    for (let round = 0; round < 4; round += 1) {
      const before = recorder.stats.acked;
      await until("some more are durable", () => recorder.stats.acked > before + 2_000);
      await daemon.kill();
      await daemon.up();
    }
    over = true;
  })();
  // Records for as long as there are kills, so that each kill meets records in flight.
  let total = 0;
  while (!over) {
    const room = recorder.inFlight < 2_000;
    if (room && recorder.record({ provider: "rentcast", endpoint: "/avm", request_id: String(total) })) total += 1;
    if (!room || total % 200 === 0) await new Promise((resolve) => setTimeout(resolve, 2));
  }
  await killing;
  assert.equal(await recorder.close(60_000), 0);
  assert.deepEqual([recorder.stats.acked, recorder.stats.rejected, recorder.stats.dropped], [total, 0, 0]);
  assert.ok(recorder.stats.reconnects >= 4, `${recorder.stats.reconnects} reconnects`);
  await until("all are in PostgreSQL", () => calls("app = 'kill'") >= total);
  assert.equal(daemon.sql("SELECT count(*), count(DISTINCT id), count(DISTINCT request_id) FROM api_usage_log WHERE app = 'kill'"), `${total}|${total}|${total}`);
  daemon.run("reconcile");
});

test("a recorder that sends nothing hears which budgets are used up, and that they are not any more", { timeout: 120_000 }, async () => {
  const of = (socket) => new Recorder({ socket, app: "web" });
  const idle = of(daemon.socket);
  assert.equal(await idle.ready(60_000), true);
  const calls = [
    { provider: "Anthropic" }, { model: "claude-haiku-4-5-20251001" }, { user: "u-budget" }, { app: "budgets" },
    { provider: "openai", model: "claude-haiku-4", user: "u-other", app: "other" },
  ];
  const held = (recorder) => calls.map((call) => recorder.shouldThrottleFor(call));
  const set = (usd) => {
    for (const [scope, value] of [["provider", "claude"], ["model", "claude-haiku-4-5"], ["user", "u-budget"], ["app", "budgets"]]) {
      daemon.run("budgets", "set", usd, "--for", `${scope}=${value}`);
    }
  };
  assert.deepEqual(held(idle), calls.map(() => false));
  set("0.000001");
  const spender = of(daemon.socket);
  await spender.recordAndWait({ provider: "claude", model: "claude-haiku-4-5-20251001", user_id: "u-budget", app: "budgets", input_tokens: 1_000 });
  const usedUp = [true, true, true, true, false];
  await until("it has heard of all four", () => String(held(idle)) === String(usedUp));
  withContext({ user_id: "u-budget" }, () => assert.equal(idle.shouldThrottleFor({ provider: "openai" }), true, "the context's user"));
  assert.equal(idle.shouldThrottle, false, "which is of everything");
  const fresh = of(daemon.socket);
  assert.equal(await fresh.ready(60_000), true);
  assert.deepEqual(held(fresh), usedUp, "the welcome says it");
  set("1000000");
  daemon.run("budgets", "set", "0.000001");
  await until("everything is used up", () => idle.shouldThrottle && idle.budgetStatus === "exceeded");
  daemon.run("budgets", "set", "1000000");
  await until("nothing is", () => !idle.shouldThrottle && held(idle).every((one) => !one));
  assert.deepEqual([idle.stats.recorded, idle.stats.reconnects], [0, 0]);
  await Promise.all([idle, spender, fresh].map((recorder) => recorder.close()));
  const nobody = of(join(daemon.data, "nobody.sock"));
  assert.equal(await nobody.ready(50), false);
  assert.equal(nobody.shouldThrottleFor({ provider: "claude" }), false);
  await nobody.close();
});

/** A client with this producer name and its own secret, which sends one record under each number. Resolves to the daemon's messages. */
function neighbour(producer, numbers) {
  return new Promise((resolve, reject) => {
    const link = connect({ path: daemon.socket });
    const [inbox, heard] = [new Inbox(), []];
    link.on("error", reject);
    link.on("close", () => resolve(heard));
    link.write(helloFrame({ protocol: PROTOCOL, producer, secret: "n".repeat(32), client: "neighbour", want_costs: false }));
    link.on("data", (piece) => {
      for (const message of inbox.push(piece)) {
        heard.push(message);
        if (message.error) return link.destroy();
        const next = numbers[heard.length - 1];
        if (next === undefined) return link.destroy();
        link.write(recordsFrame(next, [encodeRecord({ provider: "rentcast", app: "neighbour" })]));
      }
    });
  });
}

test("a named recorder connects again and loses nothing, whatever a neighbour says under its name", { timeout: 60_000 }, async () => {
  const recorder = new Recorder({ socket: daemon.socket, app: "named", producer: "api-1" });
  let total = 0;
  const some = () => {
    for (let at = 0; at < 300; at += 1) if (recorder.record({ provider: "rentcast", request_id: String(total) })) total += 1;
  };
  for (let round = 0; round < 3; round += 1) {
    some();
    assert.equal(await recorder.flush(30_000), 0);
    const heard = await neighbour("api-1", [2 ** 40, 2 ** 41, 2 ** 53 - 1]);
    assert.equal(heard[0].welcome.warning.code, "name_in_use");
    assert.equal(heard.at(-1).error.code, "sequence");
    some();
    await until("it is told with an ack", () => recorder.stats.lastWarning !== undefined);
    some();
    await daemon.kill();
    await daemon.up();
  }
  assert.equal(await recorder.close(30_000), 0);
  const { acked, rejected, dropped, lastWarning } = recorder.stats;
  assert.deepEqual([acked, rejected, dropped], [total, 0, 0]);
  assert.match(lastWarning, /^name_in_use: /);
  await until("all are in PostgreSQL", () => calls("app = 'named'") >= total);
  assert.equal(daemon.sql("SELECT count(*), count(DISTINCT request_id) FROM api_usage_log WHERE app = 'named'"), `${total}|${total}`);
});

test("two recorders of one name lose nothing and are told", async () => {
  const both = ["one", "two"].map((app) => new Recorder({ socket: daemon.socket, app, producer: "worker" }));
  for (let at = 0; at < 40; at += 1) {
    for (const recorder of both) recorder.record({ provider: "rentcast", request_id: String(at) });
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
  for (const recorder of both) await recorder.recordAndWait({ provider: "rentcast", request_id: "last" });
  for (const recorder of both) assert.match(recorder.stats.lastWarning, /^name_in_use: /);
  for (const recorder of both) assert.equal(await recorder.close(), 0);
  for (const app of ["one", "two"]) {
    await until("all are in PostgreSQL", () => calls(`app = '${app}'`) >= 41);
    assert.equal(daemon.sql(`SELECT count(*), count(DISTINCT request_id) FROM api_usage_log WHERE app = '${app}'`), "41|41");
  }
});

test("without a daemon nothing throws, memory is bounded, and what is not kept is told", async () => {
  const told = [];
  const recorder = new Recorder({ socket: join(tmpdir(), "no-such-tallyd.sock"), maxQueueBytes: 6_000, maxBytes: 200, onDrop: (record, reason) => told.push([record.request_id, reason]) });
  let taken = 0;
  for (let at = 0; at < 100; at += 1) {
    if (recorder.record({ provider: "x", request_id: String(at) })) taken += 1;
    if (at % 10 === 9) await new Promise((resolve) => setTimeout(resolve, 10));
  }
  assert.ok(taken < 40, `${taken} taken`);
  assert.equal(told.length, 100 - taken);
  assert.match(told[0][1], /queue is full/);
  assert.equal(await recorder.flush(50), recorder.inFlight);
  const left = recorder.inFlight;
  assert.equal(await recorder.close(10), left);
  assert.equal(recorder.stats.dropped, 100);
  assert.equal(recorder.record({ provider: "x" }), false, "closed");
});

test("a record that cannot be written is told, and its neighbours go through", async () => {
  const told = [];
  const recorder = new Recorder({ socket: daemon.socket, app: "wrong", onDrop: (_record, reason) => told.push(reason) });
  recorder.record({ provider: "x" });
  recorder.record({ provider: "x", input_tokens: 0.5 });
  recorder.record({ provider: "x" });
  assert.equal(await recorder.close(), 0);
  assert.equal(recorder.stats.acked, 2);
  assert.match(told[0], /input_tokens/);
});

test("a refused record is told with its reason", async () => {
  const told = [];
  const recorder = new Recorder({ socket: daemon.socket, onReject: (rejection) => told.push(rejection) });
  recorder.record({ provider: "x" });
  recorder.record({ provider: "x", input_tokens: -1 });
  assert.equal(await recorder.close(), 0);
  assert.deepEqual([told.length, told[0].code, told[0].field], [1, "range", "input_tokens"]);
  assert.deepEqual([recorder.stats.acked, recorder.stats.rejected], [1, 1]);
});

test("a daemon that is stuck stops nothing", async () => {
  const socket = join(mkdtempSync(join(tmpdir(), "tallyd-stuck-")), "s");
  const server = createServer(() => {}).listen(socket);
  await new Promise((resolve) => server.once("listening", resolve));
  const recorder = new Recorder({ socket });
  assert.equal(recorder.record({ provider: "x" }), true);
  assert.equal(await recorder.flush(100), 1);
  assert.equal(await recorder.close(10), 1);
  server.close();
});

test("a process ends by itself once all is durable", () => {
  const script = `import { Recorder } from ${JSON.stringify(new URL("../dist/esm/index.js", import.meta.url).href)};
    const recorder = new Recorder({ socket: ${JSON.stringify(daemon.socket)}, app: "ends" });
    for (let at = 0; at < 1000; at += 1) recorder.record({ provider: "rentcast" });`;
  const ended = spawnSync(process.execPath, ["--input-type=module", "-e", script], { timeout: 20_000, encoding: "utf8" });
  assert.equal(ended.status, 0, ended.stderr);
  assert.ok(calls("app = 'ends'") <= 1000);
  return until("all are in PostgreSQL", () => calls("app = 'ends'") === 1000);
});

/** A proxy for the daemon's HTTP API. `faults` says for each next request: not passed on, or passed on and its answer lost. */
async function proxy(t, faults) {
  const asked = [];
  const server = createHttpServer(async (request, response) => {
    const pieces = [];
    for await (const piece of request) pieces.push(piece);
    const body = Buffer.concat(pieces);
    asked.push({ key: request.headers["idempotency-key"], body: body.toString() });
    const fault = faults.shift();
    if (fault === "away") return request.socket.destroy();
    if (typeof fault === "number") return response.writeHead(fault, { "retry-after": "0" }).end("a proxy's page");
    const { host: _host, connection: _connection, "content-length": _length, ...headers } = request.headers;
    const answer = await fetch(daemon.url + request.url, { method: "POST", headers, body });
    if (fault === "lost") return request.socket.destroy();
    response.writeHead(answer.status, { "content-type": "application/json" }).end(await answer.text());
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => (server.closeAllConnections(), server.close()));
  return { asked, url: `http://127.0.0.1:${server.address().port}` };
}

test("over HTTP records arrive once, whatever becomes of requests and answers", { timeout: 120_000 }, async (t) => {
  const token = await daemon.token("ingest");
  const { asked, url } = await proxy(t, ["away", "lost", 503, 429, "lost"]);
  const told = [];
  const recorder = new Recorder({ endpoint: url, token, app: "http", onReject: (one) => told.push(one) });
  const call = { provider: "claude", model: "claude-sonnet-4-5", user_id: "u1", input_tokens: 100_000, output_tokens: 100_000, metadata: { a: 1 }, extra_units: { web_search: 2 } };
  const { id, cost_usd } = await recorder.recordAndWait(call);
  assert.equal(cost_usd, "1.82");
  for (let at = 0; at < 2_000; at += 1) recorder.record({ provider: "rentcast", request_id: String(at), ...(at === 7 ? { input_tokens: -1 } : {}) });
  await assert.rejects(recorder.recordAndWait({ provider: "" }), /missing/);
  assert.equal(await recorder.close(60_000), 0);
  assert.deepEqual([recorder.stats.acked, recorder.stats.rejected, recorder.stats.dropped], [2_000, 2, 0]);
  assert.deepEqual(told.map(({ code, field }) => [code, field]).sort(), [["missing", "provider"], ["range", "input_tokens"]]);
  await until("all are in PostgreSQL", () => calls("app = 'http'") >= 2_000);
  assert.equal(daemon.sql("SELECT count(*), count(DISTINCT id), count(DISTINCT request_id) FROM api_usage_log WHERE app = 'http'"), "2000|2000|2000");
  assert.equal(daemon.sql(`SELECT model, user_id, input_tokens, metadata, extra_units FROM api_usage_log WHERE id = '${id}'`), 'claude-sonnet-4-5|u1|100000|{"a": 1}|{"web_search": "2"}');
  const bodies = new Map();
  for (const { key, body } of asked) assert.equal(bodies.get(key) ?? bodies.set(key, body).get(key), body, "what is sent again is the same, byte for byte");
});

test("a token that is wrong is told, and the records wait", async () => {
  const recorder = new Recorder({ endpoint: daemon.url, token: "wrong", quiet: true });
  recorder.record({ provider: "x" });
  await until("it is told", () => /answered 401/.test(recorder.stats.lastError ?? ""));
  assert.equal(await recorder.close(10), 1);
});

test("process.exit() sends what is left over HTTP, too", async () => {
  const token = await daemon.token("ingest");
  const script = `import { Recorder } from ${JSON.stringify(new URL("../dist/esm/index.js", import.meta.url).href)};
    const recorder = new Recorder({ endpoint: ${JSON.stringify(daemon.url)}, token: ${JSON.stringify(token)}, app: "http-exit" });
    for (let at = 0; at < 1000; at += 1) recorder.record({ provider: "rentcast" });
    process.exit(0);`;
  const ended = spawnSync(process.execPath, ["--input-type=module", "-e", script], { timeout: 30_000, encoding: "utf8" });
  assert.deepEqual([ended.status, ended.stderr], [0, ""]);
  await until("all are in PostgreSQL", () => calls("app = 'http-exit'") >= 1000);
  assert.equal(calls("app = 'http-exit'"), 1000);
});

test("in an edge runtime, bundled and minified, calls are recorded over HTTP", { timeout: 60_000 }, async () => {
  const token = await daemon.token("ingest");
  const bundle = async (condition) => {
    const { outputFiles, metafile } = await build({
      entryPoints: [fileURLToPath(new URL("edge/worker.mjs", import.meta.url))], bundle: true, minify: true, write: false, metafile: true,
      format: "iife", globalName: "worker", platform: "neutral", conditions: [condition, "import"], mainFields: ["module", "main"],
          // The SDK reads credentials from files in runtimes that have files.
      external: ["node:*"],
    });
    const own = Object.entries(metafile.inputs).filter(([name]) => name.includes("dist/"));
    assert.ok(own.some(([name]) => name.endsWith("dist/esm/edge.js")), "the entry of edge runtimes");
    assert.deepEqual(own.flatMap(([, { imports }]) => imports.filter(({ external }) => external)), [], "nothing of Node");
    return outputFiles[0].text;
  };
  for (const condition of ["edge-light", "workerd", "browser"]) {
    const edge = new EdgeVM({ initialCode: await bundle(condition) });
    const said = await edge.evaluate(`worker.default(${JSON.stringify({ endpoint: daemon.url, token, app: condition })})`);
    assert.deepEqual({ ...said }, { left: 0, acked: 2, dropped: 0, user: condition });
    await until("they are in PostgreSQL", () => calls(`app = '${condition}'`) === 2);
    assert.equal(daemon.sql(`SELECT input_tokens, output_tokens FROM api_usage_log WHERE app = '${condition}' AND model = 'claude-sonnet-4-5'`), "3|4");
    assert.equal(daemon.sql(`SELECT user_id FROM api_usage_log WHERE app = '${condition}' AND provider = 'rentcast'`), condition);
  }
});
