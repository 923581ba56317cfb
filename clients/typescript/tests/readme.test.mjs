// The package as published, and the README's samples: each sample parses, and its imports exist.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));

test("the package holds both builds with their types, and no test", () => {
  const packed = JSON.parse(execFileSync("npm", ["pack", "--dry-run", "--json", "--ignore-scripts"], { cwd: root, encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }));
  const files = (Array.isArray(packed) ? packed[0] : Object.values(packed)[0]).files.map((file) => file.path);
  for (const needed of ["README.md", "LICENSE-MIT", "LICENSE-APACHE", "package.json", "dist/esm/edge.js", "dist/esm/index.js", "dist/esm/index.d.ts", "dist/cjs/index.js", "dist/cjs/index.d.ts", "dist/cjs/package.json"]) assert.ok(files.includes(needed), `${needed}: ${files.join(" ")}`);
  assert.deepEqual(files.filter((file) => !/^(dist\/(esm|cjs)\/|README\.md$|LICENSE-(MIT|APACHE)$|package\.json$)/.test(file)), []);
});

test("a fresh clone packs, and what it packs can be imported both ways", { timeout: 300_000 }, () => {
  const folder = mkdtempSync(join(tmpdir(), "tallyd-pack-"));
  const clone = join(folder, "clone");
  cpSync(root, clone, { recursive: true, filter: (path) => !["node_modules", "dist"].includes(basename(path)) });
  execFileSync("npm", ["pack", "--silent", "--pack-destination", folder], { cwd: clone, stdio: ["ignore", "ignore", "inherit"] });
  const modules = join(folder, "node_modules");
  mkdirSync(modules);
  execFileSync("tar", ["-xzf", join(folder, "tallyd-0.1.0.tgz"), "-C", modules]);
  renameSync(join(modules, "package"), join(modules, "tallyd"));
  symlinkSync(join(root, "node_modules/@msgpack"), join(modules, "@msgpack"));
  const said = (...code) => execFileSync(process.execPath, code, { cwd: folder, encoding: "utf8" });
  const print = "const r = new Recorder({ disabled: true }); console.log(r.record({ provider: 'x' }))";
  assert.equal(said("--input-type=module", "-e", `import { Recorder } from "tallyd"; ${print}`), "true\n");
  assert.equal(said("-e", `const { Recorder } = require("tallyd"); ${print}`), "true\n");
  assert.equal(said("-e", `const { Recorder } = require("tallyd/edge"); ${print}`), "true\n");
  const { description, license, repository, keywords, homepage } = JSON.parse(readFileSync(join(modules, "tallyd/package.json"), "utf8"));
  assert.ok(description && license === "MIT OR Apache-2.0" && repository.url && homepage && keywords.length > 3);
  for (const name of ["LICENSE-MIT", "LICENSE-APACHE"]) {
    const text = readFileSync(join(root, "../..", name), "utf8");
    for (const packed of [join(modules, "tallyd"), join(root, "../python"), join(root, "../rust"), join(root, "../../protocol")]) assert.equal(readFileSync(join(packed, name), "utf8"), text, packed);
  }
  rmSync(folder, { recursive: true, force: true });
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
