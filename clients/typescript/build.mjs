// Builds dist/esm and dist/cjs from the same sources, each with its types. npm runs it for `npm install` in a clone and for `npm pack` (`prepare`).
import { execFileSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(fileURLToPath(import.meta.url));
const tsc = join(root, "node_modules/typescript/bin/tsc");
// `npm pack` and `npm install <folder>` in a fresh clone have not installed the compiler.
if (!existsSync(tsc)) {
  const inherited = Object.entries(process.env).filter(([name]) => !/^npm_config_(dry_run|global|omit|only|production|location|install_links)$/.test(name));
  const options = { cwd: root, env: Object.fromEntries(inherited), stdio: ["ignore", "ignore", "inherit"], shell: process.platform === "win32" };
  execFileSync("npm", ["ci", "--silent", "--ignore-scripts", "--include=dev"], options);
}
rmSync(join(root, "dist"), { recursive: true, force: true });
execFileSync(process.execPath, [tsc, "-p", root, "--outDir", join(root, "dist/esm")], { stdio: "inherit" });
// The same files as CommonJS, because the package.json beside them does not say "module".
const common = join(root, "dist/common");
mkdirSync(common, { recursive: true });
cpSync(join(root, "src"), join(common, "src"), { recursive: true });
writeFileSync(join(common, "package.json"), '{"type":"commonjs"}\n');
writeFileSync(join(common, "tsconfig.json"), JSON.stringify({ extends: "../../tsconfig.json", compilerOptions: { rootDir: "src", outDir: "../cjs" }, include: ["src"] }));
execFileSync(process.execPath, [tsc, "-p", common], { stdio: "inherit" });
rmSync(common, { recursive: true });
writeFileSync(join(root, "dist/cjs/package.json"), '{"type":"commonjs"}\n');
