// The time of record() and check(), and the memory that a client uses while its daemon is away for long.
//
//   make bench-typescript            or: TALLYD_BIN=… node bench/record.mjs [--rounds 5] [--before ANOTHER/clients/typescript]
//
// Each figure comes from a process of its own: bursts of 500 records with pauses, each record() timed alone. `dead`: nobody listens; `stuck`: a
// daemon that accepts and does not answer. `check-N`: check() with N scopes used up, of users, models, tags and two dimensions; `refused-N`: the same
// for a call that counts towards one of them. `memory`: a million records while nobody listens, most of which the bounds drop. `--only check`
// measures the states whose names begin so. With `--before`, another build of the client, such as one of an earlier commit, is measured in turns
// with this one. It needs a `check()`, too. The daemon sends 1,024 scopes at most; 10,000 show that their number does not count.

import { spawn } from "node:child_process";
import { mkdtempSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { parseArgs } from "node:util";

const [BURST, BURSTS, AWAY] = [500, 100, 1_000_000];
const { values: flags } = parseArgs({ options: {
  rounds: { type: "string", default: "5" }, before: { type: "string" }, only: { type: "string", default: "" }, measure: { type: "string" }, client: { type: "string" }, socket: { type: "string" },
} });
const RECORD = { provider: "claude", model: "claude-sonnet-5", endpoint: "/api/chat", user_id: "user-42", input_tokens: 1200, output_tokens: 350 };
const CALL = { provider: "claude", model: "claude-sonnet-5", user: "user-42", tags: { team: "team-7", customer: "acme" }, estimate: 0.02 };
const budgets = (scopes) => ({
  used_up: Array.from({ length: scopes }, (_, at) => [
    { user: [`u-${at}`] }, { "tag:team": [`team-${at}`], user: [`user-${at}`] }, { provider: ["claude", "anthropic"], "tag:customer": [`customer-${at}`] },
    { model: [`model-${at}`] }, { "tag:customer": [`customer-${at}`] },
  ][at % 5]),
  left: scopes > 0 ? [{ scope: {}, usd: "12.5" }] : [],
});
const SCOPES = [0, 100, 10_000];
const pause = (milliseconds) => new Promise((wake) => setTimeout(wake, milliseconds));

async function measure() {
  const { Recorder } = await import(pathToFileURL(join(flags.client, "dist/esm/index.js")).href);
  const recorder = new Recorder({ socket: flags.socket, onDrop: () => {} });
  if (flags.measure === "memory") {
    global.gc();
    const before = process.memoryUsage().rss;
    for (let at = 0; at < AWAY; at += 1) {
      recorder.record(RECORD);
      if (at % 1_000 === 0) await pause(0);
    }
    await pause(200);
    global.gc();
    process.stdout.write(JSON.stringify({ MiB: (process.memoryUsage().rss - before) / 1024 / 1024, kept: recorder.inFlight }));
    process.exit(0);
  }
  // A user of the scopes' last fifth.
  const [what, scopes] = flags.measure.split("-");
  const refused = { ...CALL, user: `u-${Number(scopes) - 5}` };
  const measured = { check: () => recorder.check(CALL), refused: () => recorder.check(refused) }[what] ?? (() => recorder.record(RECORD));
  if (scopes) {
    await recorder.ready();
    if ((scopes > 0 && recorder.check(refused).allowed) || !recorder.check(CALL).known || !recorder.check(CALL).allowed) throw new Error("the state of budgets is not there");
  }
  const times = [];
  for (let burst = 0; burst < BURSTS; burst += 1) {
    for (let at = 0; at < BURST; at += 1) {
      const begun = process.hrtime.bigint();
      measured();
      times.push(Number(process.hrtime.bigint() - begun) / 1_000);
    }
    await pause(30);
  }
  // Skips the first bursts, in which V8 compiles.
  const sorted = times.slice(BURST * 10).sort((a, b) => a - b);
  process.stdout.write(JSON.stringify({ p50: sorted[Math.floor(sorted.length * 0.5)], p99: sorted[Math.floor(sorted.length * 0.99)], dropped: recorder.stats.dropped }));
  await recorder.close(0);
  process.exit(0);
}

function child(state, client, socket) {
  const parameters = ["--expose-gc", fileURLToPath(import.meta.url), "--measure", state, "--client", client, "--socket", socket];
  const one = spawn(process.execPath, parameters, { stdio: ["ignore", "pipe", "ignore"] });
  let said = "";
  one.stdout.on("data", (piece) => (said += piece));
  return new Promise((done, fail) => one.on("close", (code) => (code === 0 ? done(JSON.parse(said)) : fail(new Error(`${state} of ${client} ended with ${code}`)))));
}

async function compare() {
  const { startDaemon } = await import("../tests/daemon.mjs");
  const { miniature } = await import("../tests/miniature.mjs");
  const told = await Promise.all(SCOPES.map((scopes) => miniature({ after: () => {} }, { budgets: budgets(scopes) })));
  const daemon = await startDaemon();
  const folder = mkdtempSync(join(tmpdir(), "tallyd-bench-"));
  const silent = createServer((link) => link.on("error", () => {})).listen(join(folder, "stuck"));
  const clients = { ...(flags.before ? { before: resolve(flags.before) } : {}), after: fileURLToPath(new URL("..", import.meta.url)) };
  const sockets = { healthy: daemon.socket, dead: join(folder, "dead"), stuck: join(folder, "stuck"), memory: join(folder, "dead") };
  for (const [at, scopes] of SCOPES.entries()) {
    sockets[`check-${scopes}`] = told[at].socket;
    if (scopes > 0) sockets[`refused-${scopes}`] = told[at].socket;
  }
  const median = (list) => list.sort((a, b) => a - b)[list.length >> 1];
  for (const [state, socket] of Object.entries(sockets)) {
    if (!state.startsWith(flags.only)) continue;
    const rounds = Object.fromEntries(Object.keys(clients).map((name) => [name, []]));
    for (let round = 0; round < Number(flags.rounds); round += 1) for (const [name, client] of Object.entries(clients)) rounds[name].push(await child(state, client, socket));
    for (const [name, list] of Object.entries(rounds)) {
      const figures = Object.keys(list[0]).map((key) => `${key} ${median(list.map((one) => one[key])).toFixed(key === "kept" || key === "dropped" ? 0 : 2)}`);
      console.log(`${state.padEnd(13)} ${name.padEnd(7)} ${figures.join("   ")}${state === "memory" ? "" : "   (µs)"}`);
    }
  }
  silent.close();
  await daemon.stop();
  process.exit(0);
}

if (flags.measure) await measure();
else await compare();
