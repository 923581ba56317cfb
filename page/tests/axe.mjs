// axe-core in the page. It runs as the browser's own evaluation, to which the page's policy does not apply.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const SOURCE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

/** The violations of WCAG 2.2 A and AA, and of best practice, as lines of text. */
export default async function violations(page) {
  // A view that is being reloaded is dimmed meanwhile, and is not judged.
  await page.waitForFunction(() => !document.querySelector(".changing") && !document.getAnimations().some((one) => one instanceof CSSTransition));
  await page.evaluate(SOURCE);
  return page.evaluate(async () => {
    const found = await globalThis.axe.run(document, { resultTypes: ["violations"] });
    return found.violations.flatMap((one) => one.nodes.map((node) => `${one.id}: ${one.help}: ${node.target.join(" ")}: ${node.failureSummary}`)).slice(0, 4);
  });
}
