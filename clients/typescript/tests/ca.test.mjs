// An https:// endpoint is trusted by the authorities of `ca`, and by no other.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync } from "node:fs";
import { createServer } from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { Recorder } from "../dist/esm/index.js";

test("the authorities of an https endpoint", { timeout: 60_000 }, async (t) => {
  const folder = mkdtempSync(join(tmpdir(), "tallyd-ca-"));
  const [key, ca] = ["key.pem", "ca.pem"].map((name) => join(folder, name));
  execFileSync("openssl", ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=localhost",
    "-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", ca], { stdio: "ignore" });
  const server = createServer({ key: readFileSync(key), cert: readFileSync(ca) }, (_, answer) => answer.end('{"results":[{"ok":true,"cost_usd":"0.2"}]}'));
  await new Promise((resolve) => server.listen(0, resolve));
  t.after(() => server.close());
  const endpoint = `https://localhost:${server.address().port}`;
  const recorder = new Recorder({ endpoint, token: "t", ca, quiet: true });
  assert.equal((await recorder.recordAndWait({ provider: "rentcast" })).cost_usd, "0.2");
  await recorder.close();
  const stranger = new Recorder({ endpoint, token: "t", quiet: true });
  stranger.record({ provider: "rentcast" });
  while (!stranger.stats.lastError) await new Promise((resolve) => setTimeout(resolve, 5));
  assert.match(stranger.stats.lastError, /certificate/);
  await stranger.close(0);
  server.closeAllConnections();
});
