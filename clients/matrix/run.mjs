// The clients on every runtime that can be installed, with two versions of the vendors' SDKs, against one real daemon: `make test-clients`.
//
// Each program makes five paid calls through the SDKs and records a burst, over the socket or HTTP, and ends by itself or by force. Then
// the call log must have each call once, with its tokens. Runtimes and SDKs are installed into target/client-matrix, by npm and pip. One that
// cannot be installed is reported (`none`), and the others run.

import { execFileSync, spawn, spawnSync } from "node:child_process";
import { copyFileSync, existsSync, mkdirSync, readFileSync, readdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { homedir } from "node:os";
import { delimiter, join } from "node:path";
import { fileURLToPath } from "node:url";
import { freePort, startDaemon, until } from "../typescript/tests/daemon.mjs";
import { startVendors } from "../typescript/tests/vendors.mjs";

const here = fileURLToPath(new URL(".", import.meta.url));
const client = join(here, "../typescript");
const target = join(here, "../../target/client-matrix");
const BURST = 4_000;
const { devDependencies } = JSON.parse(readFileSync(join(client, "package.json"), "utf8"));
const failed = [];
const missing = [];
let passed = 0;
/** Only cases whose label begins with this text run: `node26`, `python3.13, former SDKs`. */
const only = process.argv[2] ?? "";
const SDKS = { current: ["@anthropic-ai/sdk", "openai"].map((name) => `${name}@${devDependencies[name]}`), former: ["@anthropic-ai/sdk@0.137.0", "openai@6.49.0"] };
const requirements = readFileSync(join(here, "../python/requirements-dev.txt"), "utf8").split("\n");
const PYTHON_SDKS = { current: requirements.filter((line) => /^(anthropic|openai)==/.test(line)), former: ["anthropic==0.125.0", "openai==1.109.1"] };

/** Installs packages into a folder of their own. Returns whether this succeeded. */
function npm(folder, ...packages) {
  const stamp = join(folder, "installed");
  const wanted = JSON.stringify(packages);
  if (existsSync(stamp) && readFileSync(stamp, "utf8") === wanted) return true;
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, "package.json"), '{"private":true,"type":"module"}');
  console.log(`installing ${packages.join(" ")} …`);
  try {
    execFileSync("npm", ["install", "--silent", "--no-package-lock", ...packages], { cwd: folder, stdio: "ignore" });
  } catch {
    missing.push(packages[0]);
    console.log(`none    ${packages.join(", ")} cannot be installed here`);
    return false;
  }
  writeFileSync(stamp, wanted);
  return true;
}

/** This machine's interpreters, one per version: [name, path]. */
function pythons() {
  const found = new Map();
  const managed = join(process.env.PYENV_ROOT ?? join(homedir(), ".pyenv"), "versions");
  const folders = existsSync(managed) ? readdirSync(managed).map((version) => join(managed, version, "bin")) : [];
  for (const folder of [...folders, ...process.env.PATH.split(delimiter)]) {
    for (let minor = 9; minor < 20; minor += 1) {
      const path = join(folder, `python3.${minor}`);
      // A name on the path may be a shim of a version that is not installed.
      const works = existsSync(path) && !found.has(minor) && spawnSync(path, ["-c", "import ensurepip, venv"]).status === 0;
      if (works) found.set(minor, [`python3.${minor}`, path]);
    }
  }
  return [...found.values()];
}

function venv(name, python, packages) {
  const folder = join(target, name);
  const stamp = join(folder, "installed");
  const wanted = JSON.stringify(packages);
  if (!existsSync(stamp) || readFileSync(stamp, "utf8") !== wanted) {
    rmSync(folder, { recursive: true, force: true });
    console.log(`installing ${packages.join(" ")} for ${name} …`);
    execFileSync(python, ["-m", "venv", folder]);
    execFileSync(join(folder, "bin/pip"), ["install", "--quiet", "--disable-pip-version-check", "msgpack", ...packages], { stdio: "ignore" });
    writeFileSync(stamp, wanted);
  }
  return join(folder, "bin/python");
}

async function check(label, task) {
  if (!label.startsWith(only)) return;
  const begun = performance.now();
  try {
    await task();
    passed += 1;
    console.log(`ok      ${label} (${((performance.now() - begun) / 1000).toFixed(1)} s)`);
  } catch (error) {
    failed.push(label);
    console.log(`FAILED  ${label}: ${error.message}`);
  }
}

/** Runs a command to its end. Resolves to its output; rejects with the exit code and the output. */
function run(command, parameters, options) {
  const child = spawn(command, parameters, { ...options, stdio: ["ignore", "pipe", "pipe"], timeout: 120_000 });
  let said = "";
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (piece) => (said += piece));
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code) => (code === 0 ? resolve(said) : reject(new Error(`it ended with ${code}: ${said.slice(-2_000)}`))));
  });
}

const { dependencies: RUNTIMES } = JSON.parse(readFileSync(join(here, "package.json"), "utf8"));
const folderOf = (name) => join(target, "runtimes", name);
const had = new Set(Object.keys(RUNTIMES).filter((name) => npm(folderOf(name), `${name}@${RUNTIMES[name]}`)));
const bin = (name) => join(folderOf(name), "node_modules", name.startsWith("node") ? `${name}/bin/node` : `.bin/${name}`);
const JAVASCRIPT = [
  [`node ${process.version}`, [process.execPath]],
  ...["node22", "node24", "node26", "bun"].map((name) => [name, [bin(name)]]),
  ["deno", [bin("deno"), "run", "--quiet", "--allow-all", "--node-modules-dir=manual"]],
].filter(([name]) => !(name in RUNTIMES) || had.has(name));

const [daemon, vendors] = await Promise.all([startDaemon(), startVendors()]);
const token = await daemon.token("ingest");
const rows = (app, columns) => daemon.sql(`SELECT ${columns} FROM api_usage_log WHERE app = '${app}'`);

async function stored(app, count) {
  await until(`${count} calls of ${app} are in PostgreSQL`, () => Number(rows(app, "count(*)")) >= count);
  const found = rows(app, "count(*), count(DISTINCT id), count(*) FILTER (WHERE user_id = 'u7'), count(DISTINCT request_id) FILTER (WHERE provider = 'rentcast' AND request_id <> '')");
  const wanted = `${count}|${count}|${count === BURST ? 0 : 1}|${BURST}`;
  if (found !== wanted) throw new Error(`the call log has ${found}, not ${wanted}`);
}

async function program(app, command, options, end, transport) {
  const over = transport === "http" ? { TALLYD_ENDPOINT: daemon.url, TALLYD_TOKEN: token } : { TALLYD_ENDPOINT: `unix:${daemon.socket}` };
  const env = { PATH: process.env.PATH, HOME: process.env.HOME, ...options.env, ...over, VENDORS: vendors.url, APP: app, END: end, BURST: String(BURST) };
  const said = await run(command[0], command.slice(1), { ...options, env });
  if (/tallyd:/.test(said)) throw new Error(said);
  await stored(app, BURST + 6);
  const tokens = rows(app, "sum(input_tokens) FILTER (WHERE provider = 'claude'), sum(output_tokens) FILTER (WHERE provider = 'openai'), count(*) FILTER (WHERE metadata IS NOT NULL)");
  if (tokens !== "2000|130|0") throw new Error(`tokens: ${tokens}`);
}

const WAYS = [["itself", "socket"], ["exit", "socket"], ["itself", "http"], ["exit", "http"]];
let number = 0;
for (const [sdks, packages] of Object.entries(SDKS)) {
  const folder = join(target, `sdks-${sdks}`);
  if (!npm(folder, ...packages, `@msgpack/msgpack@${JSON.parse(readFileSync(join(client, "package.json"), "utf8")).dependencies["@msgpack/msgpack"]}`)) continue;
  const link = join(folder, "node_modules/tallyd");
  rmSync(link, { recursive: true, force: true });
  symlinkSync(client, link);
  copyFileSync(join(here, "program.mjs"), join(folder, "program.mjs"));
  for (const [name, command] of JAVASCRIPT) {
    for (const [end, transport] of WAYS) {
      await check(`${name}, ${sdks} SDKs, over ${transport}, ends by ${end}`, () => program(`matrix-${(number += 1)}`, [...command, "program.mjs"], { cwd: folder }, end, transport));
    }
  }
}

for (const [name, python] of pythons()) {
  for (const [sdks, packages] of Object.entries(PYTHON_SDKS)) {
    if (!`${name}, ${sdks} SDKs`.startsWith(only) && !only.startsWith(name)) continue;
    let interpreter;
    try {
      interpreter = venv(`${name}-${sdks}`, python, packages);
    } catch {
      missing.push(`${name}, ${sdks} SDKs`);
      console.log(`none    ${name}, ${sdks} SDKs: ${packages.join(", ")} cannot be installed there`);
      continue;
    }
    for (const [end, transport] of WAYS) {
      const options = { cwd: target, env: { PYTHONPATH: join(here, "../python"), PYTHONWARNINGS: "ignore" } };
      await check(`${name}, ${sdks} SDKs, over ${transport}, ends by ${end}`, () => program(`matrix-${(number += 1)}`, [interpreter, join(here, "program.py")], options, end, transport));
    }
  }
}

if (had.has("workerd")) await check("workerd, over http", async () => {
  const { build } = createRequire(join(client, "package.json"))("esbuild");
  const folder = join(target, "workerd");
  mkdirSync(folder, { recursive: true });
  await build({
    entryPoints: [join(here, "worker.mjs")], bundle: true, minify: true, format: "esm", platform: "neutral", conditions: ["workerd", "import"],
    outfile: join(folder, "worker.js"), nodePaths: [join(target, "sdks-current/node_modules")],
  });
  const [port, app] = [await freePort(), "matrix-workerd"];
  const text = (value) => JSON.stringify(value);
  writeFileSync(join(folder, "config.capnp"), `using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [
    (name = "main", worker = (
      modules = [(name = "worker", esModule = embed "worker.js")], compatibilityDate = "2026-01-01",
      bindings = [(name = "ENDPOINT", text = ${text(daemon.url)}), (name = "TOKEN", text = ${text(token)}), (name = "APP", text = ${text(app)}), (name = "BURST", text = "${BURST}")])),
    (name = "internet", network = (allow = ["private", "local", "public"])),
  ],
  sockets = [(name = "http", address = "127.0.0.1:${port}", http = (), service = "main")],
);
`);
  const worker = spawn(bin("workerd"), ["serve", "config.capnp"], { cwd: folder, stdio: "inherit" });
  try {
    const answer = await until("the worker answers", () => fetch(`http://127.0.0.1:${port}/`).then((answer) => answer.text(), () => undefined));
    if (answer !== "done") throw new Error(answer);
    await stored(app, BURST);
  } finally {
    worker.kill("SIGKILL");
  }
});

daemon.run("reconcile");
await vendors.stop();
await daemon.stop();
console.log(`${passed} passed, ${failed.length} failed${missing.length > 0 ? `; not to be had here: ${missing.join("; ")}` : ""}`);
process.exitCode = failed.length > 0 ? 1 : 0;
