// Amounts on the page are the daemon's, to the last digit.
import assert from "node:assert/strict";
import { test } from "node:test";
import { build } from "esbuild";

const bundled = await build({ entryPoints: [`${import.meta.dirname}/../src/money.ts`], bundle: true, write: false, format: "esm" });
const { parse, text, sum, usd, percent } = await import(`data:text/javascript;base64,${Buffer.from(bundled.outputFiles[0].contents).toString("base64")}`);

test("text is read and written without a digit lost", () => {
  for (const amount of ["0", "0.1", "-12.5", "99999999999999999999.999999999999999999", "0.000000000000000001", "-0.000000000000000001"]) {
    assert.equal(text(parse(amount)), amount);
  }
  for (const none of ["", "1e3", "1,5", "abc", null, undefined]) assert.equal(parse(none), 0n, String(none));
});

test("a tenth ten times is one", () => {
  assert.equal(text(sum(Array.from({ length: 10 }, () => parse("0.1")))), "1");
});

test("amounts are grouped, rounded half up, and shown with the decimals that they need", () => {
  const cases = [["0", "$0.00"], ["1234567.895", "$1,234,567.90"], ["-0.5", "−$0.50"], ["0.004515", "$0.0045"], ["0.0000421", "$0.000042"], ["999.995", "$1,000.00"], ["0.0000004", "< $0.000001"], ["-0.0000004", "> −$0.000001"]];
  for (const [amount, shown] of cases) assert.equal(usd(parse(amount)), shown, amount);
  assert.equal(usd(parse("0.00005"), 4), "$0.0001");
  assert.equal(usd(parse("0.00004"), 4), "< $0.0001");
  assert.equal(usd(parse("0.3"), 0), "< $1");
});

test("shares are of the whole", () => {
  assert.equal(percent(parse("1"), parse("3")), 33.3);
  assert.equal(percent(parse("2"), parse("3")), 66.7);
  assert.equal(percent(parse("1"), 0n), null);
});
