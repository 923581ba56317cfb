// The package as it is published, and the README's samples: each is read, and what it imports is there.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync, mkdtempSync, symlinkSync, mkdirSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));

test("the package holds both builds with their types, and no test", () => {
  const packed = JSON.parse(execFileSync("npm", ["pack", "--dry-run", "--json"], { cwd: root, encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }));
  const files = (Array.isArray(packed) ? packed[0] : Object.values(packed)[0]).files.map((file) => file.path);
  for (const needed of ["README.md", "package.json", "dist/esm/index.js", "dist/esm/index.d.ts", "dist/cjs/index.js", "dist/cjs/index.d.ts", "dist/cjs/package.json"]) assert.ok(files.includes(needed), `${needed}: ${files.join(" ")}`);
  assert.deepEqual(files.filter((file) => !/^(dist\/(esm|cjs)\/|README\.md$|package\.json$)/.test(file)), []);
});

test("each sample of the README is type-checked against the built package", () => {
  const folder = mkdtempSync(join(tmpdir(), "tallyd-readme-"));
  mkdirSync(join(folder, "node_modules"));
  for (const name of ["@anthropic-ai", "@types", "@msgpack", "undici-types"]) symlinkSync(join(root, "node_modules", name), join(folder, "node_modules", name));
  symlinkSync(root, join(folder, "node_modules/tallyd"));
  const samples = [...readFileSync(join(root, "README.md"), "utf8").matchAll(/```[jt]s\n([\s\S]*?)```/g)].map((match) => match[1]);
  assert.ok(samples.length >= 2);
  samples.forEach((sample, at) => writeFileSync(join(folder, `sample${at}.mts`), sample));
  const options = ["--noEmit", "--strict", "--module", "nodenext", "--target", "es2022", "--types", "node", "--skipLibCheck"];
  const tsc = join(root, "node_modules/typescript/bin/tsc");
  execFileSync(process.execPath, [tsc, ...options, ...samples.map((_, at) => `sample${at}.mts`)], { cwd: folder, stdio: "inherit" });
});
