// Builds the page into dist/: one script, one style sheet, one HTML file and an icon, with their compressed forms beside them.
// The script's and the style's names have a digest of their content in them, so that browsers may keep them for good.
//
//   node build.mjs            the files that the daemon embeds
//   node build.mjs --sizes    the same, and prints the size of each file
import { build } from "esbuild";
import { createHash } from "node:crypto";
import { gzipSync } from "node:zlib";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";

/** Bytes that the page may weigh, compressed as browsers get it. */
const BUDGET = 100_000;

process.chdir(import.meta.dirname);
rmSync("dist", { recursive: true, force: true });
mkdirSync("dist");

const built = await build({
  entryPoints: ["src/main.tsx", "src/style/main.css"],
  bundle: true,
  minify: true,
  write: false,
  outdir: "dist",
  format: "esm",
  target: "es2022",
  jsx: "automatic",
  jsxImportSource: "preact",
  legalComments: "none",
  logLevel: "warning",
});

const total = { plain: 0, gzip: 0 };
function write(name, content) {
  const bytes = Buffer.from(content);
  const gzip = gzipSync(bytes, { level: 9 });
  writeFileSync(`dist/${name}`, bytes);
  writeFileSync(`dist/${name}.gz`, gzip);
  total.plain += bytes.length;
  total.gzip += gzip.length;
  if (process.argv.includes("--sizes")) {
    console.log(`${name.padEnd(32)} ${String(bytes.length).padStart(8)} plain ${String(gzip.length).padStart(7)} gzip`);
  }
}

function asset(end) {
  return plain(built.outputFiles.find((file) => file.path.endsWith(end)).contents, end);
}

/** Writes a file under a name with its digest, and returns its path. */
function plain(contents, end) {
  const digest = createHash("sha256").update(contents).digest("hex").slice(0, 10);
  const name = `page-${digest}${end}`;
  write(name, contents);
  return `/assets/${name}`;
}

const icon = readFileSync("src/icon.svg", "utf8");
const html = readFileSync("src/index.html", "utf8").replace("{{icon}}", plain(icon, ".svg")).replace("{{script}}", asset(".js")).replace("{{style}}", asset(".css"));
write("index.html", html.replace(/\n\s*/g, "\n"));
if (total.gzip > BUDGET) {
  console.error(`error: the page weighs ${total.gzip} bytes compressed, more than ${BUDGET}`);
  process.exit(1);
}
console.log(`page/dist: ${total.plain} bytes, ${total.gzip} compressed`);
