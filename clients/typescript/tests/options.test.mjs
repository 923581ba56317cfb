// The README lists each option of the source, with its default.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { TRACKER_DEFAULTS } from "../dist/esm/cost-tracker.js";
import { DEFAULTS } from "../dist/esm/options.js";

const read = (path) => readFileSync(new URL(`../${path}`, import.meta.url), "utf8");

/** The options of an interface, read from its source. */
function optionsOf(file, name) {
  const body = new RegExp(`export interface ${name}[^{]*\\{\\n([\\s\\S]*?)\\n\\}`).exec(read(file))[1];
  return [...body.matchAll(/^ {2}(\w+)\?:/gm)].map((match) => match[1]);
}

/** The README's table under a heading, from option to default. */
function table(heading) {
  const section = read("README.md").split(`\n## ${heading}\n`)[1].split("\n## ")[0];
  return new Map([...section.matchAll(/^\| `(\w+)` \| ([^|]+?) \|/gm)].map((match) => [match[1], match[2]]));
}

test("the README lists every option, with the default that the source has", () => {
  const listed = table("Options");
  const known = [...optionsOf("src/options.ts", "RecorderOptions"), ...optionsOf("src/cost-tracker.ts", "CostTrackerOptions")];
  assert.ok(known.length >= 16, `${known}`);
  assert.deepEqual([...listed.keys()].sort(), [...known].sort());
  for (const [name, value] of Object.entries({ ...DEFAULTS, costTimeout: TRACKER_DEFAULTS.costTimeout })) {
    const said = listed.get(name);
    const [, digits, unit] = /^([\d,]+)(?: (MiB|ms))?$/.exec(said) ?? [];
    const number = Number(digits?.replaceAll(",", "")) * (unit === "MiB" ? 1024 * 1024 : 1);
    assert.equal(typeof value === "string" ? said : number, typeof value === "string" ? "none" : value, name);
  }
});
