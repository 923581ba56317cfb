// The guide's steps, run as a reader runs them: in an empty folder, with a copy of this package and the daemon on the PATH.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { PROGRAM, freePort } from "../../../page/tests/daemon.mjs";

const root = fileURLToPath(new URL("..", import.meta.url));
const guide = readFileSync(join(root, "../../docs/guide/replace-a-tracker.md"), "utf8");

test("the steps of the guide work as they stand", { timeout: 600_000 }, async () => {
  const folder = mkdtempSync(join(tmpdir(), "tallyd-guide-"));
  const ports = { 7420: await freePort(), 3000: await freePort() };
  const text = guide.replace(/7420|3000/g, (port) => ports[port]);
  const blocks = (language) => [...text.matchAll(new RegExp(`\`\`\`${language}\\n([\\s\\S]*?)\`\`\``, "g"))].map((match) => match[1]);
  const copied = join(folder, "tallyd/clients/typescript");
  mkdirSync(copied, { recursive: true });
  cpSync(root, copied, { recursive: true, filter: (path) => !["node_modules", "dist"].includes(basename(path)) });
  writeFileSync(join(folder, "server.mjs"), blocks("js")[0]);
  const script = ["set -euo pipefail", "trap 'kill $(jobs -p) 2> /dev/null; wait' EXIT", ...blocks("sh")].join("\n");
  const others = Object.entries(process.env).filter(([name]) => !/^(TALLYD_.*|DATABASE_URL|PORT)$/.test(name));
  const env = { ...Object.fromEntries(others), PATH: `${dirname(PROGRAM)}:${process.env.PATH}` };
  const ran = spawnSync("bash", ["-c", script], { cwd: folder, env, encoding: "utf8", timeout: 540_000 });
  const log = () => `${ran.stdout}\n${ran.stderr}\n${readFileSync(join(folder, "tallyd.log"), "utf8")}`;
  assert.equal(ran.status, 0, log());
  // 1,200 × 2 + 350 × 10 USD a million, and RentCast's first price.
  assert.match(ran.stdout, /^\{"cost":0\.0059\}\{"cost":0\.2\}/, log());
  assert.match(ran.stdout, /equal: every rollup is the sum/, log());
  rmSync(folder, { recursive: true, force: true });
});
