// A daemon with a PostgreSQL of its own and a history to look at, for tests and screenshots.
//
// The calls are drawn with a fixed seed, up to the present: figures differ from day to day, the views do not.
import { execFileSync, spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

const ROOT = join(import.meta.dirname, "../..");
export const PROGRAM = process.env.TALLYD_BIN ?? join(ROOT, "target/debug/tallyd");
const PATIENCE_MS = 60_000;

/** Waits until `holds` returns something, and returns it. */
export async function until(what, holds) {
  const end = Date.now() + PATIENCE_MS;
  let last = "";
  for (;;) {
    try {
      const found = await holds();
      if (found) return found;
    } catch (error) {
      last = String(error);
    }
    if (Date.now() > end) throw new Error(`${what} did not happen within ${PATIENCE_MS / 1000} s ${last}`);
    await new Promise((wake) => setTimeout(wake, 50));
  }
}

// A port below those that the system gives to outgoing connections, so that none of these takes it first.
export async function freePort() {
  for (;;) {
    const port = 20_000 + Math.floor(Math.random() * 12_000);
    const server = createServer();
    const isFree = await new Promise((resolve) => {
      server.once("error", () => resolve(false));
      server.listen(port, "127.0.0.1", () => resolve(true));
    });
    if (isFree) {
      await new Promise((done) => server.close(done));
      return port;
    }
  }
}

export class Daemon {
  static async start({ env = {} } = {}) {
    if (!existsSync(PROGRAM)) throw new Error(`${PROGRAM} is not there; run cargo build, or set TALLYD_BIN`);
    const daemon = new Daemon();
    daemon.folder = mkdtempSync(join(tmpdir(), "tallyd-page-"));
    daemon.port = await freePort();
    daemon.url = `http://127.0.0.1:${daemon.port}`;
    daemon.env = { PATH: process.env.PATH, TALLYD_DATA_DIR: daemon.folder, TALLYD_HTTP_LISTEN: `127.0.0.1:${daemon.port}`, TALLYD_LOG_FILTER: "warn",
      // Budgets are evaluated every second.
      TALLYD_ALERTS_INTERVAL_MS: "1000", ...env };
    await daemon.up();
    return daemon;
  }

  async up() {
    this.log = "";
    this.process = spawn(PROGRAM, ["serve"], { env: this.env, cwd: this.folder, stdio: ["ignore", "ignore", "pipe"] });
    this.process.stderr.on("data", (text) => { this.log += text; });
    await until(`the daemon serves (${this.log})`, async () => {
      if (this.process.exitCode !== null) throw new Error(this.log);
      const answer = await fetch(`${this.url}/api/v1/costs`, { headers: { authorization: "Bearer tallyd_1_none" } });
      return answer.status === 401;
    });
  }

  /** Stops it, and keeps its data. */
  async down() {
    const ended = new Promise((done) => this.process.once("exit", done));
    this.process.kill("SIGTERM");
    await ended;
  }

  async stop() {
    if (this.process.exitCode === null) await this.down();
    rmSync(this.folder, { recursive: true, force: true });
  }

  run(...words) {
    return execFileSync(PROGRAM, words, { env: this.env, cwd: this.folder, encoding: "utf8", stdio: ["pipe", "pipe", "pipe"] });
  }

  sql(text) {
    return this.run("psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", text).trim();
  }

  /** Creates a token, and waits until the daemon knows it. */
  async token(role, name = role) {
    const { token } = JSON.parse(this.run("token", "create", "--name", name, "--role", role, "--json"));
    const headers = { authorization: `Bearer ${token}` };
    await until("the daemon knows the token", async () => (await fetch(`${this.url}/api/v1/costs`, { headers })).status !== 401);
    return token;
  }

  link() {
    return this.run("open").trim();
  }

  /** Records calls, and waits until they are in the rollups. */
  async record(calls) {
    const input = calls.map((call) => JSON.stringify(call)).join("\n");
    execFileSync(PROGRAM, ["record", "--stdin"], { env: this.env, cwd: this.folder, input, stdio: ["pipe", "pipe", "pipe"] });
    await this.loaded();
  }

  /** Sends a signal to every process of the private PostgreSQL: with STOP it neither answers nor ends, with CONT it continues. */
  postgres(signal) {
    const [postmaster] = readFileSync(join(this.folder, "postgres/postmaster.pid"), "utf8").split("\n");
    // The postmaster first, so that it starts no further processes.
    process.kill(Number(postmaster), signal);
    const children = readdirSync("/proc").filter((pid) => {
      try {
        return readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1].split(" ")[1] === postmaster;
      } catch {
        return false;
      }
    });
    for (const pid of children) {
      try {
        process.kill(Number(pid), signal);
      } catch (error) {
        // The worker has ended meanwhile.
        if (error.code !== "ESRCH") throw error;
      }
    }
  }

  /** Waits until every acknowledged record is in the rollups. */
  async loaded() {
    await until("everything is loaded", () => JSON.parse(this.run("status", "--json")).wal.unflushed_records === 0);
  }

  /** A history of a number of days, users with addresses and sessions, refused records, a budget. */
  async fill({ days = 120, seconds = 4, users = 140 } = {}) {
    this.run("demo", "--backfill", String(days), "--rate", "0", "--seconds", String(seconds), "--users", String(users), "--seed", "7");
    this.run("demo", "--rate", "300", "--seconds", "1", "--users", String(users), "--seed", "8");
    await this.loaded();
    this.sql(`
      CREATE SCHEMA auth;
      CREATE TABLE auth.users (id uuid PRIMARY KEY, email text, raw_app_meta_data jsonb, created_at timestamptz, last_sign_in_at timestamptz,
        banned_until timestamptz, deleted_at timestamptz);
      CREATE TABLE auth.sessions (id uuid PRIMARY KEY, user_id uuid, created_at timestamptz, updated_at timestamptz, refreshed_at timestamp,
        not_after timestamptz);
      INSERT INTO auth.users SELECT gen_random_uuid(), 'person-' || n || '@example.com', '{}', now() - interval '90 days', now() - n * interval '3 hours', NULL, NULL
        FROM generate_series(1, 12) AS n;
      INSERT INTO auth.sessions SELECT gen_random_uuid(), id, last_sign_in_at, last_sign_in_at, last_sign_in_at AT TIME ZONE 'UTC', NULL FROM auth.users;`);
    const refused = [
      { provider: "claude", model: "claude-sonnet-4-5", input_tokens: -5, user_id: "user-00004", app: "web" },
      { provider: "rentcast", endpoint: "/v1/avm/value", requests: 1, cost_usd: "12,50", user_id: "user-00011", app: "worker" },
      { model: "claude-haiku-4-5", input_tokens: 800, output_tokens: 90, user_id: "user-00002", app: "mobile-api" },
    ];
    this.refuse(...refused);
    await this.loaded();
  }

  /** Sends lines that are refused, on the socket that takes lines of JSON. */
  refuse(...records) {
    execFileSync(process.execPath, ["-e", `
      const socket = require("node:net").connect(process.argv[1]);
      socket.end(require("node:fs").readFileSync(0));
      socket.on("data", () => {});
      socket.on("close", () => process.exit(0));`, join(this.folder, "tallyd.sock")], { input: records.map((record) => `${JSON.stringify(record)}\n`).join("") });
  }
}
