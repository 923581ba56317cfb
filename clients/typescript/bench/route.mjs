// The cost of recording for a request: the p99 of an Express route that records, beside the same route without recording.
//
//   make bench-typescript            or: TALLYD_BIN=… node bench/route.mjs [--rounds 9] [--seconds 3] [--rate 500]
//
// Two servers run in processes of their own. They differ only in tallyd's middleware and one record() a request. A real daemon with its own
// PostgreSQL, on the same machine, loads the records. Requests come at times drawn with a fixed seed over kept connections, whether
// or not earlier requests are answered. A round measures both servers, alternately first. The figure is the median of the rounds' ratios;
// `pooled` is the ratio over all rounds' requests together.
//
// Two routes: `bare` answers at once, the hardest case; `paid` waits for a vendor that takes 20 ms, the fastest that a paid call is.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { Agent, createServer, request } from "node:http";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import express from "express";
import { express as recorded, Recorder } from "../dist/esm/index.js";

const GOAL = 1.02;
const VENDOR_MS = 20;
const { values: flags } = parseArgs({ options: {
  rounds: { type: "string", default: "9" }, seconds: { type: "string", default: "3" }, rate: { type: "string", default: "500" },
  serve: { type: "string" }, socket: { type: "string" }, vendor: { type: "string" },
} });

/** One of the two servers: `recorded` or `plain`. Prints its port, and ends when its standard input ends. */
function serve() {
  const recorder = flags.serve === "recorded" ? new Recorder({ socket: flags.socket, app: "bench" }) : undefined;
  const agent = new Agent({ keepAlive: true });
  const app = express();
  app.use(express.json());
  app.use((incoming, _outgoing, next) => {
    incoming.user = { id: incoming.get("x-user") };
    next();
  });
  if (recorder) app.use(recorded({ user: (incoming) => incoming.user.id }));
  const record = () => recorder?.record({ provider: "claude", model: "claude-sonnet-5", input_tokens: 1200, output_tokens: 350, latency_ms: 20 });
  app.post("/bare", (incoming, outgoing) => {
    record();
    outgoing.json({ text: `You said: ${incoming.body.text}` });
  });
  app.post("/paid", async (incoming, outgoing) => {
    const [answer] = await once(request(flags.vendor, { agent }).end(), "response");
    let text = "";
    for await (const piece of answer) text += piece;
    record();
    outgoing.json({ text, said: incoming.body.text });
  });
  const server = app.listen(0, "127.0.0.1", () => process.stdout.write(`${server.address().port}\n`));
  process.stdin.resume().on("end", async () => {
    const left = await recorder?.close(10_000);
    process.exit(left ? 1 : 0);
  });
}

async function start(side, ...more) {
  const child = spawn(process.execPath, [fileURLToPath(import.meta.url), "--serve", side, ...more], { stdio: ["pipe", "pipe", "inherit"] });
  const [line] = await once(child.stdout, "data");
  return { port: Number(line), stop: async () => (child.stdin.end(), once(child, "exit")) };
}

/** mulberry32, so that each run has the same times. */
function random(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

const BODY = JSON.stringify({ text: "How much is the house at the corner?" });

/** One request; resolves to its milliseconds. */
function ask(port, path, agent) {
  return new Promise((resolve, reject) => {
    const sent = performance.now();
    const headers = { "content-type": "application/json", "content-length": BODY.length, "x-user": "user-42" };
    const outgoing = request({ host: "127.0.0.1", port, path, method: "POST", agent, headers }, (answer) => {
      answer.resume().on("end", () => (answer.statusCode === 200 ? resolve(performance.now() - sent) : reject(new Error(`status ${answer.statusCode}`))));
    });
    outgoing.on("error", reject).end(BODY);
  });
}

/** Sends requests at random times for `seconds`. Resolves to the sorted latencies in milliseconds. */
async function load(port, path, seconds, rate, seed) {
  const agent = new Agent({ keepAlive: true, maxSockets: 128 });
  const draw = random(seed);
  const asked = [];
  const begun = performance.now();
  for (let due = begun; due < begun + seconds * 1000; due += (-Math.log(1 - draw()) * 1000) / rate) {
    // A busy wait would take the core from the servers under test.
    while (performance.now() < due) await new Promise((wake) => setTimeout(wake, 1));
    asked.push(ask(port, path, agent));
  }
  const latencies = await Promise.all(asked);
  agent.destroy();
  return latencies.sort((a, b) => a - b);
}

const at = (sorted, share) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))];
const median = (list) => at([...list].sort((a, b) => a - b), 0.5);
const range = (list, digits) => `${median(list).toFixed(digits)} (${Math.min(...list).toFixed(digits)} to ${Math.max(...list).toFixed(digits)})`;

async function measure() {
  const { startDaemon } = await import("../tests/daemon.mjs");
  const [rounds, seconds, rate] = [flags.rounds, flags.seconds, flags.rate].map(Number);
  const vendor = createServer((_incoming, outgoing) => setTimeout(() => outgoing.end("Hello there"), VENDOR_MS)).listen(0, "127.0.0.1");
  await once(vendor, "listening");
  const more = ["--vendor", `http://127.0.0.1:${vendor.address().port}/`];
  const daemon = await startDaemon();
  const sides = { plain: await start("plain", ...more), recorded: await start("recorded", "--socket", daemon.socket, ...more) };
  let asked = 0;
  const table = [];
  for (const path of ["/bare", "/paid"]) {
    const rows = { plain: [], recorded: [] };
    const pools = { plain: [], recorded: [] };
    for (let round = -1; round < rounds; round += 1) {
      const order = round % 2 === 0 ? ["plain", "recorded"] : ["recorded", "plain"];
      for (const side of order) {
        const latencies = await load(sides[side].port, path, seconds, rate, 1000 + round);
        if (side === "recorded") asked += latencies.length;
        // The first round is a warm-up.
        if (round >= 0) pools[side].push(...latencies);
        if (round >= 0) rows[side].push({ p50: at(latencies, 0.5), p99: at(latencies, 0.99) });
      }
      process.stderr.write(`${path} ${round + 1}/${rounds}\r`);
    }
    for (const list of Object.values(pools)) list.sort((a, b) => a - b);
    for (const [share, quantile] of [["p50", 0.5], ["p99", 0.99]]) {
      const [plain, withIt] = [rows.plain, rows.recorded].map((list) => list.map((row) => row[share]));
      table.push([path, share, range(plain, 2), range(withIt, 2), plain.map((value, index) => withIt[index] / value), at(pools.recorded, quantile) / at(pools.plain, quantile)]);
    }
  }
  const ended = await sides.recorded.stop();
  await sides.plain.stop();
  vendor.close();
  daemon.run("reconcile");
  const { until } = await import("../tests/daemon.mjs");
  await until("every call is in PostgreSQL", () => Number(daemon.sql("SELECT count(*) FROM api_usage_log")) === asked);
  await daemon.stop();
  if (ended[0] !== 0) throw new Error("not all was durable at the end");
  console.log(`${rounds} rounds of ${seconds} s a side, ${rate} requests a second; ${asked} calls recorded, all found in PostgreSQL\n`);
  console.log("| route | | without, ms | recording, ms | ratio | pooled | goal |\n|---|---|---|---|---|---|---|");
  for (const [path, share, plain, withIt, ratios, pooled] of table) {
    const verdict = share === "p99" ? `≤ ${GOAL}: ${median(ratios) <= GOAL ? "met" : "missed"}` : "";
    console.log(`| \`${path}\` | ${share} | ${plain} | ${withIt} | ${range(ratios, 3)} | ${pooled.toFixed(3)} | ${verdict} |`);
  }
}

if (flags.serve) serve();
else await measure();
