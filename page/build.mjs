// Builds dist/: one script and one style sheet, named by what is in them, and the page that loads them; each also
// compressed, so that the daemon need not do it. Prints what a first visit weighs.
import { build } from "esbuild";
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { basename } from "node:path";
import { brotliCompressSync, constants, gzipSync } from "node:zlib";

const dist = new URL("dist/", import.meta.url);
await rm(dist, { recursive: true, force: true });
await mkdir(dist);
const result = await build({
  entryPoints: ["src/main.tsx"],
  outdir: "dist",
  entryNames: "[name]-[hash]",
  bundle: true,
  minify: true,
  format: "esm",
  target: "es2022",
  jsx: "automatic",
  jsxImportSource: "preact",
  metafile: true,
  legalComments: "none",
  write: false,
});
const files = new Map(result.outputFiles.map((file) => [basename(file.path), file.contents]));
const named = (ending) => [...files.keys()].find((name) => name.endsWith(ending));
const template = await readFile("src/index.html", "utf8");
const html = template.replace("{script}", `/assets/${named(".js")}`).replace("{style}", `/assets/${named(".css")}`);
files.set("index.html", Buffer.from(html));
files.set("icon.svg", await readFile("src/icon.svg"));
let total = 0;
for (const [name, contents] of files) {
  const gzip = gzipSync(contents, { level: 9 });
  const brotli = brotliCompressSync(contents, { params: { [constants.BROTLI_PARAM_QUALITY]: 11 } });
  await writeFile(new URL(name, dist), contents);
  await writeFile(new URL(`${name}.gz`, dist), gzip);
  await writeFile(new URL(`${name}.br`, dist), brotli);
  total += gzip.length;
  console.log(`${name}: ${contents.length} bytes, ${gzip.length} with gzip, ${brotli.length} with brotli`);
}
console.log(`all: ${total} bytes with gzip`);
