// A real daemon with a PostgreSQL of its own, and what the tests of the Node client ask of it.

import { execFileSync, spawn } from "node:child_process";
import { existsSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const built = fileURLToPath(new URL("../../../target/debug/tallyd", import.meta.url));
const program = process.env.TALLYD_BIN ?? built;

async function freePort() {
  return await new Promise((resolve) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}

/** Asks until it holds; fails after half a minute. */
export async function until(what, holds) {
  const end = Date.now() + 30_000;
  for (let last; ; await new Promise((resolve) => setTimeout(resolve, 100))) {
    try {
      last = await holds();
      if (last) return last;
    } catch (error) {
      last = error;
    }
    if (Date.now() > end) throw new Error(`not within 30 s: ${what} (${last})`);
  }
}

export async function startDaemon() {
  if (!existsSync(program)) throw new Error(`${program} is not there; run cargo build, or set TALLYD_BIN`);
  const folder = mkdtempSync(join(tmpdir(), "tallyd-page-"));
  const port = await freePort();
  // The daemon refuses settings that it does not know.
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("TALLYD_")));
  Object.assign(env, { TALLYD_DATA_DIR: join(folder, "data"), TALLYD_SOCKET: join(folder, "s"), TALLYD_HTTP_LISTEN: `127.0.0.1:${port}` });
  const log = openSync(join(folder, "log"), "w");
  const run = (...args) => execFileSync(program, args, { env, encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
  let child;
  const up = async () => {
    child = spawn(program, ["serve"], { env, stdio: ["ignore", log, log], cwd: folder });
    await until("the daemon is up", () => run("open"));
  };
  const down = async () => {
    const ended = new Promise((resolve) => child.once("exit", resolve));
    child.kill("SIGTERM");
    await ended;
  };
  const kill = async () => {
    const ended = new Promise((resolve) => child.once("exit", resolve));
    child.kill("SIGKILL");
    await ended;
  };
  const daemon = {
    socket: env.TALLYD_SOCKET,
    data: env.TALLYD_DATA_DIR,
    kill,
    url: `http://127.0.0.1:${port}`,
    run,
    up,
    down,
    link: () => run("open").trim(),
    log: () => readFileSync(join(folder, "log"), "utf8"),
    sql: (query) => run("psql", "-XAtqc", query).trim(),
    async stop() {
      await down();
      rmSync(folder, { recursive: true, force: true });
    },
  };
  await up();
  return daemon;
}
